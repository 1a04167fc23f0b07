//! Deleted rows leave their bytes in free space of the file and in the write-ahead log,
//! until something else is written there.

use std::path::Path;
use std::time::Duration;

use super::connection::{file, wal_check};
use super::tables::service_settings;
use super::{SqliteStore, schema};
use crate::store::OpenError;

/// The checkpoint waits this long for reads to end.
const WAIT: Duration = Duration::from_secs(10);

impl SqliteStore {
    /// Writes the database at `path` anew, without a byte of deleted rows, and empties
    /// the write-ahead log. Readers go on meanwhile, writers wait.
    ///
    /// Blocks, for long when the file is large.
    pub fn erase_deleted(path: &Path) -> Result<(), OpenError> {
        let path = &file::real(path);
        wal_check::check(path)?;
        let conn = file::connect(path)?;
        schema::check(&conn)?;
        conn.execute_batch("VACUUM")?;
        if !file::empty_wal(&conn, WAIT)? {
            let text = "a read of another program does not end";
            return Err(OpenError::Engine(text.to_owned()));
        }
        service_settings::mark_erased(&conn)?;
        if let Some(whole) = wal_check::checkpoint(&conn)? {
            whole.begin_log(&conn)?;
        }
        Ok(())
    }
}
