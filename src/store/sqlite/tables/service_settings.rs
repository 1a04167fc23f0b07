//! The table `service_settings`: what the service runs by, for commands.

use rusqlite::Connection;

use super::Store;
use crate::store::StoreError;

impl Store {
    /// Replaces the recorded settings: names and values.
    pub async fn record_settings(&self, settings: Vec<(String, String)>) -> Result<(), StoreError> {
        self.write(move |conn| {
            conn.execute("DELETE FROM service_settings", [])?;
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
    let mut query = conn.prepare("SELECT name, value FROM service_settings")?;
    let rows = query.query_map([], |row| Ok((row.get("name")?, row.get("value")?)))?;
    rows.collect()
}
