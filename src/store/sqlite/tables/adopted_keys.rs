//! The tables `adopted_keys` and `adopted_key_events`: sealed public keys of another
//! issuer, and what has happened to them.

use rusqlite::{Connection, Row, params};

use super::{TextOrBlob, column};
use crate::clock::UnixTime;
use crate::lifecycle::AdoptedTimes;
use crate::store::{AdoptedRow, KEPT_EVENTS, KeyChange, KeyEventKind, StoreError};

const TABLE: &str = "adopted_keys";

/// All rows; those with a value of the wrong type are another program's and give no key.
pub(super) fn all(conn: &Connection) -> Result<Vec<AdoptedRow>, StoreError> {
    let mut query = conn.prepare_cached(
        "SELECT k.rowid AS id, k.kid AS kid, k.key AS key, k.adopted_at AS adopted_at, k.exp AS exp,
             EXISTS (SELECT 1 FROM adopted_key_events e
                 WHERE e.kid = k.kid AND e.event = 'revoked') AS revoked
         FROM adopted_keys k ORDER BY k.exp, k.kid",
    )?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(row) => found.push(row),
            Err(StoreError::BadRow(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<AdoptedRow, StoreError> {
    let id: i64 = row.get("id")?;
    let TextOrBlob(sealed) = column(row, TABLE, "key", id)?;
    Ok(AdoptedRow {
        kid: column(row, TABLE, "kid", id)?,
        times: AdoptedTimes {
            adopted_at: UnixTime::from_secs(column(row, TABLE, "adopted_at", id)?),
            until: UnixTime::from_secs(column(row, TABLE, "exp", id)?),
            revoked: row.get("revoked")?,
        },
        sealed,
    })
}

pub(super) fn apply(
    conn: &Connection,
    change: &KeyChange,
    now: UnixTime,
) -> Result<(), StoreError> {
    let at = now.as_secs();
    for key in &change.adopt {
        let revoked: bool = conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM adopted_key_events WHERE kid = ? AND event = 'revoked')",
            )?
            .query_row([&key.kid], |row| row.get(0))?;
        if revoked {
            return Err(StoreError::Revoked(key.kid.clone()));
        }
        conn.prepare_cached(
            "INSERT OR ABORT INTO adopted_keys (kid, key, adopted_at, exp) VALUES (?, ?, ?, ?)
             ON CONFLICT (kid) DO UPDATE SET key = excluded.key, exp = excluded.exp,
                 adopted_at = iif(exp <= excluded.adopted_at, excluded.adopted_at, adopted_at)",
        )?
        .execute(params![key.kid, key.sealed, at, key.until.as_secs()])?;
        event(
            conn,
            &key.kid,
            KeyEventKind::Adopted,
            now,
            Some(&change.reason),
        )?;
    }
    for kid in &change.revoke_adopted {
        event(conn, kid, KeyEventKind::Revoked, now, Some(&change.reason))?;
        conn.prepare_cached("UPDATE adopted_keys SET exp = min(exp, ?) WHERE kid = ?")?
            .execute(params![at, kid])?;
    }
    for (kid, sealed) in &change.reencrypt_adopted {
        conn.prepare_cached("UPDATE adopted_keys SET key = ? WHERE kid = ?")?
            .execute(params![sealed, kid])?;
    }
    Ok(())
}

/// Deletes those that left the key set before `before`, and the oldest events of
/// deleted ones. Returns the number of keys.
pub(super) fn prune(
    conn: &Connection,
    before: UnixTime,
    now: UnixTime,
) -> Result<usize, StoreError> {
    let mut query = conn.prepare_cached("DELETE FROM adopted_keys WHERE exp < ? RETURNING kid")?;
    let deleted: Vec<String> = query
        .query_map([before.as_secs()], |row| row.get("kid"))?
        .collect::<Result<_, _>>()?;
    for kid in &deleted {
        event(conn, kid, KeyEventKind::Deleted, now, None)?;
    }
    conn.prepare_cached(
        "DELETE FROM adopted_key_events
         WHERE id <= (SELECT max(id) FROM adopted_key_events) - ?
             AND event <> 'revoked' AND kid NOT IN (SELECT kid FROM adopted_keys)",
    )?
    .execute([KEPT_EVENTS])?;
    Ok(deleted.len())
}

fn event(
    conn: &Connection,
    kid: &str,
    kind: KeyEventKind,
    at: UnixTime,
    reason: Option<&str>,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR ABORT INTO adopted_key_events (kid, event, at, reason) VALUES (?, ?, ?, ?)
         ON CONFLICT (kid) WHERE event = 'revoked' DO NOTHING",
    )?
    .execute(params![kid, kind.name(), at.as_secs(), reason])?;
    Ok(())
}
