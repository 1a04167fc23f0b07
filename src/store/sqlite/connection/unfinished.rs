//! A look at a database that a killed program has left within a commit, with
//! a rollback journal beside it. SQLite reads it only after it has undone the
//! commit; that is done with a copy here, and the file stays as it is.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::ffi::SQLITE_READONLY_ROLLBACK;
use uuid::Uuid;

use super::{OpenError, file};

/// How often a copy is made when others finish the commit or undo it meanwhile.
const ATTEMPTS: usize = 5;

/// Whether a look failed because the commit must be undone first.
pub(in crate::store) fn is_cause_of(error: &OpenError) -> bool {
    match error {
        OpenError::Sqlite(e) => e
            .sqlite_error()
            .is_some_and(|e| e.extended_code == SQLITE_READONLY_ROLLBACK),
        _ => false,
    }
}

/// Runs `query` on a copy of the database as it was before the commit; `None`
/// when it has no journal any more. No connection of this process may be open.
pub(in crate::store) fn read<T>(
    path: &Path,
    query: impl Fn(&Connection) -> Result<T, OpenError>,
) -> Result<Option<T>, OpenError> {
    let folder = Folder::beside(path).map_err(OpenError::File)?;
    let copy = folder.0.join("copy.db");
    for _ in 0..ATTEMPTS {
        match copy_with_journal(path, &copy).map_err(OpenError::File)? {
            Copied::Whole => {
                let conn = Connection::open_with_flags(file::uri(&copy), file::READ_WRITE)?;
                return query(&conn).map(Some);
            }
            Copied::NoJournal => return Ok(None),
            Copied::Torn => {}
        }
    }
    let busy = "other programs keep changing it";
    Err(OpenError::File(io::Error::other(busy)))
}

enum Copied {
    Whole,
    NoJournal,
    Torn,
}

/// With the journal that was there before and after it, the copy is whole also
/// when another program has undone the commit meanwhile: all that this changes
/// is in the journal.
fn copy_with_journal(path: &Path, copy: &Path) -> io::Result<Copied> {
    let journal = file::side_file(path, "-journal");
    let Some(before) = Version::of(&journal)? else {
        return Ok(Copied::NoJournal);
    };
    fs::copy(path, copy)?;
    match fs::copy(&journal, file::side_file(copy, "-journal")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Copied::NoJournal),
        copied => copied?,
    };
    match Version::of(&journal)? {
        Some(after) if after == before => Ok(Copied::Whole),
        _ => Ok(Copied::Torn),
    }
}

/// A content of a file.
#[derive(PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Version {
    /// `None`: there is no such file.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(Self {
                inode: meta.ino(),
                size: meta.len(),
                changed: (meta.mtime(), meta.mtime_nsec()),
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A folder for its owner only, which is removed with all in it.
struct Folder(PathBuf);

impl Folder {
    /// Where there is room and where the database is protected, or else, as in
    /// a folder that may only be read, in the one for temporary files.
    fn beside(path: &Path) -> io::Result<Self> {
        let name = format!(".jwks-server-{}", Uuid::new_v4());
        let make = |folder: &Path| {
            let folder = folder.join(&name);
            DirBuilder::new().mode(0o700).create(&folder)?;
            Ok(Self(folder))
        };
        let parent = path.parent().unwrap_or(Path::new("."));
        make(parent).or_else(|_: io::Error| make(&std::env::temp_dir()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            let folder = self.0.display();
            tracing::warn!("{folder} has a copy of the database and could not be removed: {e}");
        }
    }
}
