//! A copy of a database that may be in use.

use std::path::Path;

use super::connection::{file, wal_check};
use super::{SqliteStore, schema};
use crate::store::OpenError;

impl SqliteStore {
    /// Copies one state of the database at `from` to `to`, the absolute path of an
    /// empty file, and leaves out free pages. Readers and writers go on meanwhile.
    ///
    /// Blocks, for long when the file is large.
    pub fn back_up(from: &Path, to: &str) -> Result<(), OpenError> {
        let from = &file::real(from);
        wal_check::check(from)?;
        let conn = file::connect_reader(from)?;
        schema::check(&conn)?;
        // Or the copy could not be written either.
        conn.execute_batch("PRAGMA query_only = OFF")?;
        conn.execute("VACUUM INTO ?", [to])?;
        Ok(())
    }
}
