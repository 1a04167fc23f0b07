//! The database file: created with mode 0600, and opened for writing, for reading, or
//! without changing anything.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::BUSY_TIMEOUT;
use crate::store::OpenError;

/// Characters that would end a path, or start an escape, in SQLite's file URIs.
const NOT_IN_URI: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');
const OWNER_ONLY: u32 = 0o600;
/// For one thread at a time. Does not create the file.
const READ_WRITE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE
    .union(OpenFlags::SQLITE_OPEN_URI)
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
const READ_ONLY: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY
    .union(OpenFlags::SQLITE_OPEN_URI)
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Makes sure that there is a file which only its owner can read. SQLite gives
/// its side files the mode of the main file.
pub(super) fn prepare(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(path);
    match made {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => restrict(path),
        Err(e) => Err(OpenError::File(e)),
    }
}

/// Takes away what others may do with files that something else made.
fn restrict(path: &Path) -> Result<(), OpenError> {
    if !fs::metadata(path).map_err(OpenError::File)?.is_file() {
        return Err(OpenError::File(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )));
    }
    for name in with_side_files(path) {
        // A file of another owner is usable, but worth a warning.
        if let Err(e) = restrict_one(&name)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(
                "others may read {}, and its mode could not be changed: {e}",
                name.display()
            );
        }
    }
    Ok(())
}

fn restrict_one(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    // SQLite refuses side files that are links; their targets are other people's.
    if meta.is_symlink() || meta.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(OWNER_ONLY))
}

/// Paths of the database file and of all that SQLite may put beside it.
pub(in crate::store) fn with_side_files(path: &Path) -> [PathBuf; 4] {
    let real = real(path);
    ["", "-wal", "-shm", "-journal"].map(|end| side_file(&real, end))
}

/// Path beside which SQLite keeps side files: symbolic links are followed.
pub(super) fn real(path: &Path) -> PathBuf {
    match path.is_symlink() {
        true => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        false => path.to_owned(),
    }
}

/// Path of the side file whose name ends in `end`.
pub(in crate::store) fn side_file(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Size in bytes; 0 when it is missing.
pub(super) fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| meta.len())
}

/// SQLite URI of an existing file. With it, connecting to a database that was deleted
/// is an error and does not create an empty one.
fn uri(path: &Path, parameters: &str) -> String {
    let escaped = percent_encode(path.as_os_str().as_bytes(), NOT_IN_URI);
    // "//" at the start would be read as an authority.
    let rooted = if path.is_absolute() { "//" } else { "" };
    format!("file:{rooted}{escaped}?{parameters}")
}

/// Connects for writing.
pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let mut conn = Connection::open_with_flags(uri(path, "mode=rw"), READ_WRITE)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // A transaction that turns from reading to writing fails at once when
    // another process wrote meanwhile; one that starts as a writer waits.
    conn.set_transaction_behavior(TransactionBehavior::Immediate);
    to_wal(&conn)?;
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    Ok(conn)
}

/// Connects for reading, as a program that may write: it makes missing side
/// files and rolls back a hot journal.
pub(in crate::store) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(uri(path, "mode=rw"), READ_WRITE)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.execute_batch("PRAGMA query_only = ON;")?;
    Ok(conn)
}

/// Connects without changing anything, in one transaction: all queries see one
/// state. `immutable`: the database file alone, as if nobody wrote to it.
pub(in crate::store) fn connect_read_only(
    path: &Path,
    immutable: bool,
) -> rusqlite::Result<Connection> {
    let mode = if immutable {
        "mode=ro&immutable=1"
    } else {
        "mode=ro"
    };
    let conn = Connection::open_with_flags(uri(path, mode), READ_ONLY)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.execute_batch("BEGIN")?;
    Ok(conn)
}

/// Switches the file to write-ahead logging. While another process does the
/// same, SQLite reports "busy" without asking the busy handler, so the
/// time-out is kept here.
fn to_wal(conn: &Connection) -> Result<(), OpenError> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        let mode: rusqlite::Result<String> =
            conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
        match mode {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(mode) => return Err(OpenError::NoWal(mode)),
            Err(e)
                if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Moves what is in the write-ahead log into the database file and empties the
/// log. `false`: another program still reads it or does the same; SQLite tells
/// that in a row and not as an error.
pub(super) fn checkpoint(conn: &Connection) -> rusqlite::Result<bool> {
    let blocked: bool = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!blocked)
}
