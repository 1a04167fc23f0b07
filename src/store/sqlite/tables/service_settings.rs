//! The table `service_settings`: what the service runs by, for commands.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::SqliteStore;
use crate::store::{LONGEST_KEY_LIFETIME as LONGEST, StoreError, UNERASED, WAL_MARK};

/// Rows of the table that are of the store itself.
const NO_SETTINGS: [&str; 3] = [LONGEST, UNERASED, WAL_MARK];

impl SqliteStore {
    pub async fn record_settings(
        &self,
        settings: Vec<(String, String)>,
        key_lifetime: Duration,
    ) -> Result<(), StoreError> {
        self.write(move |conn| {
            conn.execute(
                "INSERT OR REPLACE INTO service_settings (name, value)
                 SELECT ?1, max(?2, coalesce(
                     (SELECT CAST(value AS INTEGER) FROM service_settings WHERE name = ?1),
                     (SELECT max(k.exp - t.created_at) FROM keys k JOIN key_times t ON t.kid = k.kid),
                     0))",
                params![LONGEST, i64::try_from(key_lifetime.as_secs()).unwrap_or(i64::MAX)],
            )?;
            let sql = "DELETE FROM service_settings WHERE name NOT IN (?, ?, ?)";
            conn.execute(sql, NO_SETTINGS)?;
            let sql = "INSERT INTO service_settings (name, value) VALUES (?, ?)";
            let mut insert = conn.prepare_cached(sql)?;
            for (name, value) in &settings {
                insert.execute([name, value])?;
            }
            Ok(())
        })
        .await
    }
}

pub(in crate::store::sqlite) fn all(conn: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    if !conn.table_exists(None, "service_settings")? {
        return Ok(Vec::new());
    }
    let sql = "SELECT name, value FROM service_settings WHERE name NOT IN (?, ?, ?)";
    let mut query = conn.prepare(sql)?;
    let rows = query.query_map(NO_SETTINGS, |row| Ok((row.get("name")?, row.get("value")?)))?;
    rows.collect()
}

/// Records that bytes of deleted rows may be left in the file.
pub(super) fn mark_unerased(conn: &Connection) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO service_settings (name, value) VALUES (?, '')";
    conn.execute(sql, [UNERASED]).map(drop)
}

pub(in crate::store::sqlite) fn mark_erased(conn: &Connection) -> rusqlite::Result<()> {
    let sql = "DELETE FROM service_settings WHERE name = ?";
    conn.execute(sql, [UNERASED]).map(drop)
}

pub(in crate::store::sqlite) fn is_unerased(conn: &Connection) -> rusqlite::Result<bool> {
    if !conn.table_exists(None, "service_settings")? {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM service_settings WHERE name = ?)";
    conn.query_row(sql, [UNERASED], |row| row.get(0))
}
