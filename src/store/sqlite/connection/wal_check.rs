//! WAL check: the write-ahead log beside a file must be that file's own. SQLite
//! takes any log of that name, so one that was left behind when the file was
//! replaced would be mixed into it for good.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::file;
use crate::store::OpenError;

/// A file up to this size is checked page by page when a log is beside it, in
/// about a tenth of a second. A larger one would hold up a start.
const MAX_CHECKED: u64 = 16 * 1024 * 1024;

/// Refuses a log that belongs to another database, or that damages a file which
/// is sound alone, as one of another state of it does. Changes nothing.
pub(in crate::store) fn check(path: &Path) -> Result<(), OpenError> {
    let path = &file::real(path);
    let wal = file::side_file(path, "-wal");
    let (size, wal_size) = (file::size(path), file::size(&wal));
    if size == 0 || wal_size == 0 {
        return Ok(());
    }
    let alone = || file::connect_read_only(path, true);
    let with_wal = || file::connect_read_only(path, false);
    let is_foreign = match (created(with_wal()), created(alone())) {
        (Some(one), Some(other)) => one != other,
        _ => false,
    };
    let is_small = size.max(wal_size) <= MAX_CHECKED;
    if is_foreign || is_small && is_damaged(with_wal()) && !is_damaged(alone()) {
        return Err(OpenError::ForeignWal(wal));
    }
    Ok(())
}

/// Moment of the first migration, to the nanosecond: no two databases share it.
fn created(conn: rusqlite::Result<Connection>) -> Option<String> {
    let first = "SELECT applied_on FROM refinery_schema_history ORDER BY version LIMIT 1";
    conn.ok()?.query_row(first, [], |row| row.get(0)).ok()
}

fn is_damaged(conn: rusqlite::Result<Connection>) -> bool {
    let check = "PRAGMA integrity_check(1)";
    match conn.and_then(|conn| conn.query_row(check, [], |row| row.get::<_, String>(0))) {
        Ok(found) => found != "ok",
        Err(e) => matches!(
            e.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
    }
}
