//! The database file: its mode from birth, and what every connection to it sets.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{BUSY_TIMEOUT, OpenError};

/// What would end a path, or start an escape, in SQLite's file URIs.
const NOT_IN_URI: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');
const OWNER_ONLY: u32 = 0o600;
/// For one thread at a time; the file is there.
pub(in crate::store) const READ_WRITE: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE
    .union(OpenFlags::SQLITE_OPEN_URI)
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Makes sure that there is a file which only its owner can read. SQLite gives
/// its side files the mode of the main file.
pub(in crate::store) fn prepare(path: &Path) -> Result<(), OpenError> {
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
pub(in crate::store) fn restrict(path: &Path) -> Result<(), OpenError> {
    if !fs::metadata(path).map_err(OpenError::File)?.is_file() {
        return Err(OpenError::File(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )));
    }
    for name in with_side_files(path) {
        // Somebody else's file: usable, but worth a word.
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
    if fs::metadata(path)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(OWNER_ONLY))
}

/// The paths of the file and of all that SQLite may put beside it.
pub(in crate::store) fn with_side_files(path: &Path) -> [PathBuf; 4] {
    let real = real(path);
    ["", "-wal", "-shm", "-journal"].map(|end| side_file(&real, end))
}

/// The path beside which side files are: of a symbolic link, what it leads to.
pub(in crate::store) fn real(path: &Path) -> PathBuf {
    match path.is_symlink() {
        true => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        false => path.to_owned(),
    }
}

/// The path of the side file whose name ends so.
pub(in crate::store) fn side_file(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// The file as SQLite URI that never makes a file, so that connecting to
/// a database that was deleted is an error and not an empty database.
pub(in crate::store) fn uri(path: &Path) -> String {
    uri_with(path, "mode=rw")
}

/// The file as SQLite URI, with parameters.
pub(in crate::store) fn uri_with(path: &Path, parameters: &str) -> String {
    let escaped = percent_encode(path.as_os_str().as_bytes(), NOT_IN_URI);
    // "//" at the start would be read as an authority.
    let rooted = if path.is_absolute() { "//" } else { "" };
    format!("file:{rooted}{escaped}?{parameters}")
}

/// Connects for writing.
pub(in crate::store) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let mut conn = Connection::open_with_flags(uri(path), READ_WRITE)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // A transaction that turns from reading to writing fails at once when
    // another process wrote meanwhile; one that starts as a writer waits.
    conn.set_transaction_behavior(TransactionBehavior::Immediate);
    to_wal(&conn)?;
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    Ok(conn)
}

/// Connects for reading.
pub(in crate::store) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(uri(path), READ_WRITE)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.execute_batch("PRAGMA query_only = ON;")?;
    Ok(conn)
}

/// Switches the file to write-ahead logging. While another process does the
/// same, SQLite reports "busy" without asking the busy handler, so the
/// time-out is kept here.
pub(in crate::store) fn to_wal(conn: &Connection) -> Result<(), OpenError> {
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

/// Moves what is in the log into the database and empties the log, waiting as
/// long as the busy time-out says. `false`: another program still reads what is
/// in it, or works on it; SQLite tells that in a row and not as an error.
pub(in crate::store) fn empty_log(conn: &Connection) -> rusqlite::Result<bool> {
    let blocked: bool = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!blocked)
}
