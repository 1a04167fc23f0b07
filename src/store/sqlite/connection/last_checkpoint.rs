//! The end of the writer connection: what the write-ahead log holds goes into
//! the database file, wherever that is now, and no other program's file is touched.
//! The table in `identity.rs` lists the cases.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::file;
use super::identity::OpenFiles;

/// The last checkpoint waits this long for other programs' reads.
const WAIT: Duration = Duration::from_secs(1);

/// Closes the last connection of this process to the files.
pub(super) fn close(conn: Connection, files: &OpenFiles) {
    let is_moved = !files.are_unmoved();
    // SQLite would delete whatever has the names of its side files now.
    if is_moved && let Err(e) = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
    {
        tracing::error!("the database file that was moved is left open: {e}");
        return std::mem::forget(conn);
    }
    let emptied = match files.has_second_wal() {
        true => Err("another program has begun a second one".to_owned()),
        false => match file::empty_wal(&conn, WAIT) {
            Ok(true) => Ok(()),
            Ok(false) => Err("another program still uses it".to_owned()),
            Err(e) => Err(e.to_string()),
        },
    };
    if let Err(e) = &emptied {
        let wal = set_wal_aside(files);
        tracing::warn!(
            "the write-ahead log {} was not emptied, so the database file that was in use is not complete without it: {e}",
            wal.display()
        );
    } else if is_moved && let Err(e) = remove_side_files(&conn, files) {
        tracing::warn!("side files of the database file that was moved are left: {e}");
    }
    if let Err((_, e)) = conn.close() {
        tracing::warn!("the database was not closed cleanly: {e}");
    }
}

/// Renames a full write-ahead log beside which another database file is now,
/// since SQLite would mix it into that. Its index goes: SQLite makes another.
/// Returns the path of the log.
fn set_wal_aside(files: &OpenFiles) -> PathBuf {
    let wal = file::side_file(files.real_path(), "-wal");
    let shm = file::side_file(files.real_path(), "-shm");
    let own = files.own_side_files();
    if !files.has_other_main() || !own.contains(&wal) {
        return wal;
    }
    if own.contains(&shm) {
        let _ = fs::remove_file(shm);
    }
    let aside = file::side_file(&wal, &format!("-of-inode-{}", files.main.inode));
    match fs::rename(&wal, &aside) {
        Ok(()) => aside,
        Err(_) => wal,
    }
}

/// Removes the empty side files that are still ours, so that they do not count
/// as those of another database at the path. The write lock keeps a second
/// server on the same files from removing what belongs to that database by then.
fn remove_side_files(conn: &Connection, files: &OpenFiles) -> Result<(), String> {
    let lock = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)
        .map_err(|e| e.to_string())?;
    let paths = files.own_side_files();
    let wal = file::side_file(files.real_path(), "-wal");
    if paths.contains(&wal) && file::size(&wal) > 0 {
        return Err("another program has written since".to_owned());
    }
    for path in paths {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.to_string()),
            _ => {}
        }
    }
    // Nothing was written.
    lock.rollback().map_err(|e| e.to_string())
}
