//! The table `key_events`: what has happened to keys; and the events of both kinds of keys.
//! Running servers load the keys again when they find a new row.

use rusqlite::{Connection, Row, params};

use super::{SqliteStore, column};
use crate::clock::UnixTime;
use crate::lifecycle::Kid;
use crate::store::{BadRow, KEPT_EVENTS, KeyEvent, KeyEventKind, StoreError, merged_events};

impl SqliteStore {
    /// Grows with each event, also of adopted keys, and each key that is withdrawn.
    pub async fn change_counter(&self) -> Result<i64, StoreError> {
        self.read(change_counter).await
    }

    pub fn blocking_change_counter(&self) -> Result<i64, StoreError> {
        self.blocking_read(change_counter)
    }
}

fn change_counter(conn: &Connection) -> Result<i64, StoreError> {
    let mut query = conn.prepare_cached(
        "SELECT coalesce((SELECT max(id) FROM key_events), 0)
             + coalesce((SELECT max(id) FROM withdrawn_keys), 0)
             + coalesce((SELECT max(id) FROM adopted_key_events), 0) AS counter",
    )?;
    Ok(query.query_row([], |row| row.get("counter"))?)
}

/// The latest `limit` events, also of adopted keys, in the order in which they happened.
/// The database may lack the table of the latter.
pub(in crate::store::sqlite) fn latest(
    conn: &Connection,
    limit: u32,
) -> Result<Vec<KeyEvent>, StoreError> {
    let own = latest_in(conn, "key_events", limit)?;
    if !conn.table_exists(None, "adopted_key_events")? {
        return Ok(own);
    }
    let adopted = latest_in(conn, "adopted_key_events", limit)?;
    Ok(merged_events(own, adopted, limit))
}

fn latest_in(
    conn: &Connection,
    table: &'static str,
    limit: u32,
) -> Result<Vec<KeyEvent>, StoreError> {
    let mut query = conn.prepare(&format!(
        "SELECT * FROM (SELECT id, CAST(kid AS TEXT) AS kid, event, at, reason FROM {table}
             ORDER BY id DESC LIMIT ?) ORDER BY id"
    ))?;
    let events = query.query_map([limit], |row| Ok(read(row, table)))?;
    events.map(|event| event?).collect()
}

/// Inserts an event. False: it happens but once and is there already; any other
/// conflict, as with an index of another program, is an error.
pub(super) fn insert(
    conn: &Connection,
    kid: Kid,
    kind: KeyEventKind,
    at: UnixTime,
    reason: Option<&str>,
) -> rusqlite::Result<bool> {
    let inserted = conn
        .prepare_cached(
            "INSERT OR ABORT INTO key_events (kid, event, at, reason) VALUES (?, ?, ?, ?)
         ON CONFLICT (kid, event) WHERE event IN ('first_signed', 'revoked') DO NOTHING",
        )?
        .execute(params![kid.as_i64(), kind.name(), at.as_secs(), reason])?;
    Ok(inserted > 0)
}

/// Deletes the oldest events of deleted keys. A revocation stays: the row may come back.
pub(super) fn prune(conn: &Connection) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "DELETE FROM key_events WHERE id <= (SELECT max(id) FROM key_events) - ?
             AND event <> 'revoked' AND kid NOT IN (SELECT kid FROM keys)",
    )?
    .execute([KEPT_EVENTS])?;
    Ok(())
}

fn read(row: &Row<'_>, table: &'static str) -> Result<KeyEvent, StoreError> {
    let id: i64 = row.get("id")?;
    let name: String = column(row, table, "event", id)?;
    Ok(KeyEvent {
        kid: column(row, table, "kid", id)?,
        kind: name.parse().map_err(|_| BadRow {
            table,
            column: "event".into(),
            row: id,
        })?,
        at: UnixTime::from_secs(column(row, table, "at", id)?),
        reason: column(row, table, "reason", id)?,
    })
}
