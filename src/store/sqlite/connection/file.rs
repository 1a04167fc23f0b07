//! The database file: created with mode 0600, and opened for writing, for reading, or
//! without changing anything.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::process::geteuid;

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

/// Opens without following a link, reading, or waiting for the other end of a
/// pipe. Closing such a descriptor does not drop the locks of SQLite.
const UNREAD: OFlags = OFlags::PATH;

/// Makes sure that there is a file which its owner can write to and nobody else
/// can read. SQLite gives its side files the mode of the main file.
pub(in crate::store) fn prepare(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(real(path));
    match made {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            for path in with_side_files(path) {
                restrict(&path)?;
            }
        }
        Err(e) => return Err(OpenError::File(e)),
    }
    obstacles(path).into_iter().next().map_or(Ok(()), Err)
}

/// Gives a file that something else made the mode that SQLite needs, and no more.
fn restrict(path: &Path) -> Result<(), OpenError> {
    let Some((file, mode)) = inspect(path)? else {
        return Ok(());
    };
    if mode & 0o777 == OWNER_ONLY {
        return Ok(());
    }
    // By descriptor, or the name may be a link by now.
    let by_descriptor = format!("/dev/fd/{}", file.as_raw_fd());
    let changed = fs::set_permissions(by_descriptor, fs::Permissions::from_mode(OWNER_ONLY));
    let shown = path.display();
    match changed {
        Ok(()) if mode & OWNER_ONLY == OWNER_ONLY => {}
        Ok(()) => tracing::warn!("{shown} could not be written to, and has mode 600 now"),
        // On a disk that has no modes it stays usable.
        Err(e) => tracing::warn!("the mode of {shown} stays {:o}: {e}", mode & 0o777),
    }
    Ok(())
}

/// The file at `path`, if there is one, and its mode. Refuses what is no regular
/// file of this user.
fn inspect(path: &Path) -> Result<Option<(OwnedFd, u32)>, OpenError> {
    let file = match rustix::fs::open(
        path,
        UNREAD | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(OpenError::LinkedSideFile(path.to_owned())),
        Err(e) => return Err(OpenError::File(e.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|e| OpenError::File(e.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(OpenError::LinkedSideFile(path.to_owned())),
        _ => return Err(OpenError::NotRegular(path.to_owned())),
    }
    let (path, owner, user) = (path.to_owned(), stat.st_uid, geteuid().as_raw());
    if owner != user {
        return Err(OpenError::OtherOwner { path, owner, user });
    }
    Ok(Some((file, stat.st_mode)))
}

/// Reasons for which this user cannot write to the database. Changes nothing.
pub(in crate::store) fn obstacles(path: &Path) -> Vec<OpenError> {
    let real = real(path);
    let mut found = Vec::new();
    for path in with_side_files(path) {
        match inspect(&path) {
            Ok(None) => {}
            Ok(Some(_)) => found.extend(
                access(&path, Access::READ_OK | Access::WRITE_OK)
                    // Another process's SQLite has removed it meanwhile.
                    .filter(|_| path.symlink_metadata().is_ok()),
            ),
            Err(e) => found.push(e),
        }
    }
    let folder = real
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // SQLite makes and removes side files there.
    found.extend(access(folder, Access::WRITE_OK | Access::EXEC_OK));
    found
}

fn access(path: &Path, how: Access) -> Option<OpenError> {
    let error = rustix::fs::accessat(CWD, path, how, AtFlags::EACCESS).err()?;
    Some(OpenError::NotWritable {
        path: path.to_owned(),
        error: error.into(),
    })
}

/// Paths of the database file and of all that SQLite may put beside it.
pub(in crate::store) fn with_side_files(path: &Path) -> [PathBuf; 4] {
    let real = real(path);
    ["", "-wal", "-shm", "-journal"].map(|end| side_file(&real, end))
}

/// Path beside which SQLite keeps side files: symbolic links are followed, also
/// one to a file that is not there yet.
pub(in crate::store) fn real(path: &Path) -> PathBuf {
    let Ok(target) = fs::read_link(path) else {
        return path.to_owned();
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::canonicalize(path).unwrap_or_else(|_| folder.join(target))
}

/// Path of the side file whose name ends in `end`.
pub(in crate::store) fn side_file(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Size in bytes; 0 when it is missing.
pub(in crate::store) fn size(path: &Path) -> u64 {
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
pub(in crate::store) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let mut conn = Connection::open_with_flags(uri(path, "mode=rw"), READ_WRITE)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // A transaction that turns from reading to writing fails at once when
    // another process wrote meanwhile; one that starts as a writer waits.
    conn.set_transaction_behavior(TransactionBehavior::Immediate);
    to_wal(&conn)?;
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
         -- A log that a long read has made large shrinks again.
         PRAGMA journal_size_limit = 4194304;",
    )?;
    Ok(conn)
}

/// Connects for reading, as a program that may write: it makes missing side
/// files and rolls back a hot journal.
pub(in crate::store) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(uri(path, "mode=rw"), READ_WRITE)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
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
    conn.execute_batch("PRAGMA trusted_schema = OFF; BEGIN")?;
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

/// Moves what is in the write-ahead log into the database file and empties the log.
/// `false`: after `wait` another program still reads it, or does the same.
pub(in crate::store) fn empty_wal(conn: &Connection, wait: Duration) -> rusqlite::Result<bool> {
    let deadline = Instant::now() + wait;
    conn.busy_timeout(wait)?;
    // SQLite waits for readers, but not for another server that does the same. It says so
    // in a row and not as an error.
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    while conn.query_row(sql, [], |row| row.get::<_, bool>(0))? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(true)
}
