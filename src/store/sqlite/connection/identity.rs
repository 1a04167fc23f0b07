//! Identity (device, inode) of the database file and its side files. SQLite goes
//! on writing into a file that was deleted or moved, and into a write-ahead log
//! that no later start finds. So each read and each commit is checked here
//! before it is answered, and once a file has changed nothing is answered.
//!
//! | seen at the paths | done |
//! | --- | --- |
//! | the three files that were opened | the read or the commit is answered |
//! | none, or another, at one of the paths | one line in the log; this call and all later ones get `Replaced`; the service stops |
//! | `stat` fails for another reason | this call gets `Unavailable` |
//!
//! At the stop, `last_checkpoint.rs` brings what the log holds into the database file:
//!
//! | seen at the stop | done |
//! | --- | --- |
//! | the three files that were opened | the log goes into the file; SQLite deletes the side files |
//! | the file was moved or deleted; the log is ours | the log goes into the file, wherever that is; our side files are deleted |
//! | the same with another database at the path, and the log cannot be emptied | our log is renamed to `…-wal-of-inode-N`, or SQLite would apply it to that database; a warning names it |
//! | our file, with a log that another program has begun | nothing is moved, it would overwrite what that program writes; a warning |

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::file;
use crate::store::StoreError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    pub(super) inode: u64,
}

/// The files that all connections of a store have open. While they are open no
/// other file can get their inodes.
#[derive(Debug)]
pub(super) struct OpenFiles {
    /// As configured: it may be a symbolic link.
    path: PathBuf,
    /// Without symbolic links: SQLite keeps the side files beside it.
    real: PathBuf,
    pub(super) main: FileId,
    wal: FileId,
    shm: FileId,
    replaced: AtomicBool,
}

impl OpenFiles {
    /// The files at `path` now; `None` when one is missing.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        let real = fs::canonicalize(path)?;
        let side = |end| FileId::of(&file::side_file(&real, end));
        let (Some(main), Some(wal), Some(shm)) = (FileId::of(path)?, side("-wal")?, side("-shm")?)
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            path: path.to_owned(),
            real,
            main,
            wal,
            shm,
            replaced: AtomicBool::new(false),
        }))
    }

    /// Fails when a file was deleted, moved or replaced, for good and with one
    /// line in the log. Costs three `stat` calls.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.is_replaced() {
            return Err(StoreError::Replaced);
        }
        let unknown = |e| StoreError::Unavailable(format!("its files cannot be checked: {e}"));
        let Some(changed) = self.changed().map_err(unknown)? else {
            return Ok(());
        };
        if !self.replaced.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the database file {} was deleted, moved or replaced while in use, so the service stops: keep it stopped, put the right file at the path of the database, then start it",
                changed.display()
            );
        }
        Err(StoreError::Replaced)
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Path at which another file is found, or none.
    pub(super) fn changed(&self) -> io::Result<Option<PathBuf>> {
        if FileId::of(&self.path)? != Some(self.main) {
            return Ok(Some(self.path.clone()));
        }
        for (end, open) in [("-wal", self.wal), ("-shm", self.shm)] {
            let side_file = file::side_file(&self.real, end);
            if FileId::of(&side_file)? != Some(open) {
                return Ok(Some(side_file));
            }
        }
        Ok(None)
    }

    /// True when all files are where SQLite opened them, also when the symbolic
    /// link that led to them leads elsewhere now.
    pub(super) fn are_unmoved(&self) -> bool {
        self.is_main_unmoved() && self.own_side_files().len() == 2
    }

    fn is_main_unmoved(&self) -> bool {
        is_at(&self.real, self.main)
    }

    /// True when another file is at the path.
    pub(super) fn has_other_main(&self) -> bool {
        FileId::of(&self.real).is_ok_and(|found| found.is_some_and(|main| main != self.main))
    }

    /// Paths of the side files, without those where another file is now.
    pub(super) fn own_side_files(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for (end, open) in [("-wal", self.wal), ("-shm", self.shm)] {
            let path = file::side_file(&self.real, end);
            if is_at(&path, open) {
                paths.push(path);
            }
        }
        paths
    }

    /// True when another program has begun a second write-ahead log for the same
    /// database file, after the first was deleted.
    pub(super) fn has_second_wal(&self) -> bool {
        let path = file::side_file(&self.real, "-wal");
        self.is_main_unmoved() && !is_at(&path, self.wal) && file::size(&path) > 0
    }

    pub(super) fn real_path(&self) -> &Path {
        &self.real
    }
}

impl FileId {
    /// `None`: no such file. By `stat`, since closing a file that was opened for
    /// this would drop the locks that SQLite has on it in this process.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(Self {
                device: meta.dev(),
                inode: meta.ino(),
            })),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

fn is_at(path: &Path, open: FileId) -> bool {
    FileId::of(path).is_ok_and(|found| found == Some(open))
}
