//! Whether the write-ahead log beside a file is that file's own. SQLite takes
//! any log of that name, so one that was left behind when the file was replaced
//! would be mixed into it for good.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::{OpenError, file, inspect};

/// A file up to this size is checked through and through when a log is beside
/// it; that takes about a tenth of a second. A larger one would hold up a start.
const CHECKED_UP_TO: u64 = 16 * 1024 * 1024;

/// Refuses a log that belongs to another database, or that damages a file which
/// is sound alone, as one of another time of it does. Changes nothing.
pub(in crate::store) fn check(path: &Path) -> Result<(), OpenError> {
    let size = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
    let path = &file::real(path);
    let log = file::side_file(path, "-wal");
    if size(path) == 0 || size(&log) == 0 {
        return Ok(());
    }
    let alone = || inspect::connect(path, true);
    let with_log = || inspect::connect(path, false);
    if let (Some(one), Some(other)) = (born(with_log()), born(alone()))
        && one != other
    {
        return Err(OpenError::OtherLog(log));
    }
    let is_small = size(path).max(size(&log)) <= CHECKED_UP_TO;
    if is_small && is_damaged(with_log()) && !is_damaged(alone()) {
        return Err(OpenError::OtherLog(log));
    }
    Ok(())
}

/// When the database was made, to the nanosecond: no two have the same.
fn born(conn: Result<Connection, OpenError>) -> Option<String> {
    let first = "SELECT applied_on FROM refinery_schema_history ORDER BY version LIMIT 1";
    conn.ok()?.query_row(first, [], |row| row.get(0)).ok()
}

fn is_damaged(conn: Result<Connection, OpenError>) -> bool {
    let checked = conn.and_then(|conn| {
        let check = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
        Ok(check?)
    });
    match checked {
        Ok(found) => String::ne(&found, "ok"),
        Err(OpenError::Sqlite(e)) => matches!(
            e.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
        Err(_) => false,
    }
}
