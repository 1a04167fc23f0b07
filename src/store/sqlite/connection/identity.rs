//! Whether the files that are open are still those at the path. SQLite goes on
//! writing into a file that was deleted or moved away, and into a log that no
//! later start will find; so readers ask here before they read, and the writer
//! before it writes and again before it answers.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use rusqlite::Connection;

use super::{KeyRow, OpenError, file, schema, wal_check};

/// Decides by its keys whether another database may take the place of ours.
pub(in crate::store) type Accepts = Box<dyn Fn(Vec<KeyRow>) -> bool + Send + Sync>;

/// The path of the database and what is open of it; shared by all connections.
#[derive(Clone)]
pub(in crate::store) struct Place {
    path: PathBuf,
    open: Arc<ArcSwap<OpenFiles>>,
    accepts: Arc<OnceLock<Accepts>>,
}

/// A file, whatever its name. As long as it is open no other gets its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

/// The files of the connections in use.
#[derive(Debug)]
pub(in crate::store) struct OpenFiles {
    /// None: nothing is open, so its number may be another file's by now.
    main: Option<FileId>,
    /// Where SQLite keeps the side files: behind symbolic links, if any.
    real: PathBuf,
    log: Option<FileId>,
    index: Option<FileId>,
    /// Connections that are older belong to other files. When it was noted
    /// nothing was open, or these same files, so newer ones belong to these.
    since: Instant,
}

/// What is at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Found {
    /// All that is open.
    Same,
    /// Nothing, or nothing that can be looked at.
    Missing,
    /// The database, but not the log or its index.
    OtherSideFiles,
    /// Another file.
    Other,
}

impl Place {
    /// Opens the database at `path` for writing and brings its schema up to date.
    pub(in crate::store) fn open(path: &Path) -> Result<(Self, Connection), OpenError> {
        let (conn, files) = open(path)?;
        let place = Self {
            path: path.to_owned(),
            open: Arc::new(ArcSwap::from_pointee(files)),
            accepts: Arc::default(),
        };
        Ok((place, conn))
    }

    /// Opens what is at the path now, and makes that what is open.
    pub(in crate::store) fn reopen(&self) -> Result<Connection, OpenError> {
        // SQLite gives side files the mode of the main file.
        file::restrict(&self.path)?;
        let (conn, files) = open(&self.path)?;
        self.open.store(Arc::new(files));
        Ok(conn)
    }

    /// Has nothing count as open, before it is closed.
    pub(in crate::store) fn close(&self) {
        self.open.store(Arc::new(OpenFiles::none()));
    }

    /// Takes note of side files that SQLite has made anew.
    pub(in crate::store) fn look_anew(&self) -> io::Result<()> {
        self.open.store(Arc::new(OpenFiles::look(&self.path)?));
        Ok(())
    }

    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets what may take the place of the database; counts once.
    pub(in crate::store) fn set_accepts(&self, accepts: Accepts) {
        // A second service on one store does not exist.
        let _ = self.accepts.set(accepts);
    }

    pub(in crate::store) fn accepts(&self) -> Option<&Accepts> {
        self.accepts.get()
    }

    /// What is open at this moment.
    pub(in crate::store) fn open_now(&self) -> Arc<OpenFiles> {
        self.open.load_full()
    }

    /// Whether that is still open, and is the database at the path.
    pub(in crate::store) fn holds(&self, open: &Arc<OpenFiles>) -> bool {
        Arc::ptr_eq(open, &self.open.load()) && open.is_at(&self.path)
    }

    /// Whether a connection that was opened then belongs to what is open, and
    /// that is the database at the path.
    pub(in crate::store) fn holds_since(&self, opened: Instant) -> bool {
        let open = self.open.load();
        opened >= open.since && open.is_at(&self.path)
    }

    /// Whether a connection that was opened then belongs to what is open.
    pub(in crate::store) fn is_current(&self, opened: Instant) -> bool {
        opened >= self.open.load().since
    }

    /// Compares all files; a few microseconds.
    pub(in crate::store) fn look(&self) -> Found {
        let open = self.open.load();
        match FileId::of(&self.path) {
            Err(_) => Found::Missing,
            Ok(main) if open.main != Some(main) => Found::Other,
            Ok(_) if open.log_is_ours() && open.index_is_ours() => Found::Same,
            Ok(_) => Found::OtherSideFiles,
        }
    }

    /// Whether what is open is where it was, and the path leads elsewhere: then
    /// its side files are beside it, and in use by whoever else uses it.
    pub(in crate::store) fn is_still_there(&self) -> bool {
        let open = self.open.load();
        open.is_at(&open.real)
    }

    /// The paths of the log and its index, as far as those there are ours.
    pub(in crate::store) fn own_side_files(&self) -> Vec<PathBuf> {
        let open = self.open.load();
        let ours = [("-wal", open.log_is_ours()), ("-shm", open.index_is_ours())];
        ours.into_iter()
            .filter(|&(_, is_ours)| is_ours)
            .map(|(end, _)| file::side_file(&open.real, end))
            .collect()
    }

    /// Whether another program has put something into a log of its own.
    pub(in crate::store) fn has_foreign_log(&self) -> bool {
        let open = self.open.load();
        let log = fs::metadata(file::side_file(&open.real, "-wal"));
        !open.log_is_ours() && log.is_ok_and(|meta| meta.len() > 0)
    }
}

impl OpenFiles {
    fn none() -> Self {
        Self {
            main: None,
            real: PathBuf::new(),
            log: None,
            index: None,
            since: Instant::now(),
        }
    }

    fn look(path: &Path) -> io::Result<Self> {
        let real = fs::canonicalize(path)?;
        Ok(Self {
            main: Some(FileId::of(path)?),
            log: FileId::of(&file::side_file(&real, "-wal")).ok(),
            index: FileId::of(&file::side_file(&real, "-shm")).ok(),
            real,
            since: Instant::now(),
        })
    }

    fn is_at(&self, path: &Path) -> bool {
        FileId::of(path).is_ok_and(|now| self.main == Some(now))
    }

    fn log_is_ours(&self) -> bool {
        self.is_ours(self.log, "-wal")
    }

    fn index_is_ours(&self) -> bool {
        self.is_ours(self.index, "-shm")
    }

    fn is_ours(&self, open: Option<FileId>, end: &str) -> bool {
        open.is_none_or(|open| {
            FileId::of(&file::side_file(&self.real, end)).is_ok_and(|now| now == open)
        })
    }
}

impl FileId {
    /// A look at the name alone: opening and closing a file would drop the
    /// locks that SQLite has on it in this process.
    fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
        })
    }
}

fn open(path: &Path) -> Result<(Connection, OpenFiles), OpenError> {
    let before = FileId::of(path).map_err(OpenError::File)?;
    wal_check::check(path)?;
    let mut conn = file::connect(path)?;
    schema::migrate(&mut conn)?;
    // The log is there since the first look at the schema.
    let files = OpenFiles::look(path).map_err(OpenError::File)?;
    if files.main != Some(before) {
        let changed = "it was replaced while it was opened";
        return Err(OpenError::File(io::Error::other(changed)));
    }
    Ok((conn, files))
}
