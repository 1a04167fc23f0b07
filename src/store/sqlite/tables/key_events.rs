//! The table `key_events`: what has happened to keys, and the sign for servers
//! that there is news of them.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use super::{BadRow, Store, StoreError};
use crate::clock::UnixTime;
use crate::lifecycle::Kid;

/// Events of deleted keys that are kept, the latest.
const KEPT: i64 = 10_000;

/// What can happen to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEventKind {
    /// It was made and is published.
    Created,
    /// It signed its first token.
    FirstSigned,
    /// It was taken out of the set for good.
    Revoked,
    /// Its row was encrypted anew.
    Reencrypted,
    /// Its row was deleted, long after its end.
    Deleted,
}

impl KeyEventKind {
    const ALL: [Self; 5] = [
        Self::Created,
        Self::FirstSigned,
        Self::Revoked,
        Self::Reencrypted,
        Self::Deleted,
    ];

    /// Its name in the column `event`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::FirstSigned => "first_signed",
            Self::Revoked => "revoked",
            Self::Reencrypted => "reencrypted",
            Self::Deleted => "deleted",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// Which key.
    pub kid: Kid,
    /// What.
    pub kind: KeyEventKind,
    /// When.
    pub at: UnixTime,
    /// Why, for those that have a reason.
    pub reason: Option<String>,
}

impl Store {
    /// The latest `limit` events, in the order in which they happened.
    pub async fn key_history(&self, limit: u32) -> Result<Vec<KeyEvent>, StoreError> {
        self.read(move |conn| {
            let mut query = conn.prepare_cached(
                "SELECT * FROM (SELECT id, kid, event, at, reason FROM key_events ORDER BY id DESC LIMIT ?)
                 ORDER BY id",
            )?;
            let events = query.query_map([limit], |row| Ok(read(row)))?;
            events.map(|event| event?).collect()
        })
        .await
    }

    /// A number that grows with each event, in whichever process it happened.
    pub async fn last_key_event(&self) -> Result<i64, StoreError> {
        self.read(|conn| {
            let mut query = conn.prepare_cached("SELECT coalesce(max(id), 0) FROM key_events")?;
            Ok(query.query_row([], |row| row.get(0))?)
        })
        .await
    }
}

/// Writes an event down. What happens but once is noted but once.
pub(in crate::store) fn note(
    conn: &Connection,
    kid: Kid,
    kind: KeyEventKind,
    at: UnixTime,
    reason: Option<&str>,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO key_events (kid, event, at, reason) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?
    .execute(params![kid.as_i64(), kind.name(), at.as_secs(), reason])?;
    Ok(())
}

/// Forgets the oldest events of keys that are gone.
pub(in crate::store) fn prune(conn: &Connection) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "DELETE FROM key_events
         WHERE id <= (SELECT max(id) FROM key_events) - ? AND kid NOT IN (SELECT kid FROM keys)",
    )?
    .execute([KEPT])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<KeyEvent, StoreError> {
    let id: i64 = row.get(0)?;
    let kind = match row.get_ref(2)? {
        ValueRef::Text(name) => KeyEventKind::ALL
            .into_iter()
            .find(|kind| kind.name().as_bytes() == name),
        _ => None,
    };
    Ok(KeyEvent {
        kid: Kid::from_row(row.get(1)?),
        kind: kind.ok_or(StoreError::from(BadRow {
            table: "key_events",
            column: "event",
            row: id,
        }))?,
        at: UnixTime::from_secs(row.get(3)?),
        reason: row.get(4)?,
    })
}
