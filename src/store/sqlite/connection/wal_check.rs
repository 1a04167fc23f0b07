//! WAL check: the write-ahead log beside a file must be that file's own. SQLite
//! takes any log of that name, so one that was left behind when the file was
//! replaced would be mixed into it for good.
//!
//! So a log begins, where this service begins it, with a row that says which mark the
//! file had when the last log was moved into it, and which it has once this one is.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use uuid::Uuid;

use super::file;
use crate::store::{OpenError, WAL_MARK};

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
    let log = mark(with_wal());
    let is_unmatched = match (&log, mark(alone())) {
        (Some(log), Some(file)) => !log.may_be_beside(&file),
        _ => false,
    };
    // Another process may have begun a log in between.
    let is_foreign = is_foreign || is_unmatched && mark(with_wal()) == log;
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

/// The row of [`WAL_MARK`]: the mark of a log, and the one that its file had when that
/// log began.
#[derive(PartialEq, Eq)]
struct Mark {
    of_log: String,
    of_file: String,
}

impl Mark {
    fn read(conn: &Connection) -> rusqlite::Result<Option<Self>> {
        let sql = "SELECT value FROM service_settings WHERE name = ?";
        let value = conn.query_row(sql, [WAL_MARK], |row| row.get::<_, String>(0));
        Ok(value.optional()?.and_then(|value| {
            let (of_log, of_file) = value.split_once(' ')?;
            Some(Self {
                of_log: of_log.to_owned(),
                of_file: of_file.to_owned(),
            })
        }))
    }

    /// A checkpoint that was cut off leaves a file with either.
    fn may_be_beside(&self, file: &Self) -> bool {
        [&self.of_log, &self.of_file].contains(&&file.of_log)
    }

    fn to_text(&self) -> String {
        format!("{} {}", self.of_log, self.of_file)
    }
}

fn mark(conn: rusqlite::Result<Connection>) -> Option<Mark> {
    conn.and_then(|conn| Mark::read(&conn)).ok().flatten()
}

/// A file that had all of its log, with the mark that it had then.
pub(in crate::store) struct WholeFile(Option<Mark>);

/// Moves the log into the file while others read and write; `None` when they kept it from
/// moving all.
pub(in crate::store) fn checkpoint(conn: &Connection) -> rusqlite::Result<Option<WholeFile>> {
    // Read before, so that a mark which is the same later was moved too.
    let mark = Mark::read(conn)?;
    let sql = "PRAGMA wal_checkpoint(PASSIVE)";
    let is_whole = conn.query_row(sql, [], |row| {
        let (is_busy, pages, moved): (bool, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(!is_busy && pages == moved)
    })?;
    Ok(is_whole.then_some(WholeFile(mark)))
}

impl WholeFile {
    /// Gives the log that begins now a mark, unless another process has.
    pub(in crate::store) fn begin_log(&self, conn: &Connection) -> rusqlite::Result<()> {
        let last = self.0.as_ref();
        let next = Mark {
            of_log: Uuid::new_v4().simple().to_string(),
            of_file: last.map_or_else(|| "none".to_owned(), |last| last.of_log.clone()),
        };
        let sql = "INSERT INTO service_settings (name, value) VALUES (?, ?)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value = ?";
        let values = params![WAL_MARK, next.to_text(), last.map(Mark::to_text)];
        conn.execute(sql, values).map(drop)
    }
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
