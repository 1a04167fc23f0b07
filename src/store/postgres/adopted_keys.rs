//! The tables `adopted_keys` and `adopted_key_events`: sealed public keys of another
//! issuer, and what has happened to them.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connection::{Database, Transaction, only};
use crate::clock::UnixTime;
use crate::lifecycle::AdoptedTimes;
use crate::store::{AdoptedRow, KEPT_EVENTS, KeyChange, KeyEventKind, StoreError};

pub(super) const SELECT: &str =
    "SELECT k.kid AS kid, k.key AS key, k.adopted_at AS adopted_at, k.exp AS exp,
        EXISTS (SELECT 1 FROM adopted_key_events e
            WHERE e.kid = k.kid AND e.event = 'revoked') AS revoked
    FROM adopted_keys k ORDER BY k.exp, k.kid";

/// False while the schema is older than these tables.
pub(super) async fn exist(database: &Database) -> Result<bool, StoreError> {
    let sql = "SELECT to_regclass('adopted_key_events') IS NOT NULL AS found";
    Ok(only(&database.rows(sql, &[]).await?)?.try_get("found")?)
}

pub(super) fn collect(rows: &[Row]) -> Result<Vec<AdoptedRow>, StoreError> {
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<AdoptedRow, StoreError> {
    Ok(AdoptedRow {
        kid: row.try_get("kid")?,
        times: AdoptedTimes {
            adopted_at: UnixTime::from_secs(row.try_get("adopted_at")?),
            until: UnixTime::from_secs(row.try_get("exp")?),
            revoked: row.try_get("revoked")?,
        },
        sealed: row.try_get("key")?,
    })
}

pub(super) async fn apply(
    work: &mut Transaction<'_>,
    change: &KeyChange,
    now: UnixTime,
) -> Result<(), StoreError> {
    let (at, reason) = (now.as_secs(), Some(&*change.reason));
    for key in &change.adopt {
        let revoked = work
            .rows(
                "SELECT EXISTS (SELECT 1 FROM adopted_key_events
                     WHERE kid = $1 AND event = 'revoked') AS revoked",
                &[(&key.kid, Type::TEXT)],
            )
            .await?;
        if only(&revoked)?.try_get("revoked")? {
            return Err(StoreError::Revoked(key.kid.clone()));
        }
        let until = key.until.as_secs();
        work.rows(
            "INSERT INTO adopted_keys AS k (kid, key, adopted_at, exp) VALUES ($1, $2, $3, $4)
             ON CONFLICT (kid) DO UPDATE SET key = excluded.key, exp = excluded.exp,
                 adopted_at = CASE WHEN k.exp <= excluded.adopted_at
                     THEN excluded.adopted_at ELSE k.adopted_at END",
            &[
                (&key.kid, Type::TEXT),
                (&key.sealed, Type::BYTEA),
                (&at, Type::INT8),
                (&until, Type::INT8),
            ],
        )
        .await?;
        event(work, &key.kid, KeyEventKind::Adopted, now, reason).await?;
    }
    for kid in &change.revoke_adopted {
        event(work, kid, KeyEventKind::Revoked, now, reason).await?;
        work.rows(
            "UPDATE adopted_keys SET exp = least(exp, $1) WHERE kid = $2",
            &[(&at, Type::INT8), (kid, Type::TEXT)],
        )
        .await?;
    }
    for (kid, sealed) in &change.reencrypt_adopted {
        work.rows(
            "UPDATE adopted_keys SET key = $1 WHERE kid = $2",
            &[(sealed, Type::BYTEA), (kid, Type::TEXT)],
        )
        .await?;
    }
    Ok(())
}

/// Deletes those that left the key set before `before`, and the oldest events of
/// deleted ones. Returns the number of keys.
pub(super) async fn prune(
    work: &mut Transaction<'_>,
    before: UnixTime,
    now: UnixTime,
) -> Result<usize, StoreError> {
    let before = before.as_secs();
    let deleted = work
        .rows(
            "DELETE FROM adopted_keys WHERE exp < $1 RETURNING kid",
            &[(&before, Type::INT8)],
        )
        .await?;
    for row in &deleted {
        let kid: String = row.try_get("kid")?;
        event(work, &kid, KeyEventKind::Deleted, now, None).await?;
    }
    work.rows(
        "DELETE FROM adopted_key_events WHERE id <= (SELECT max(id) FROM adopted_key_events) - $1
             AND event <> 'revoked' AND kid NOT IN (SELECT kid FROM adopted_keys)",
        &[(&KEPT_EVENTS, Type::INT8)],
    )
    .await?;
    Ok(deleted.len())
}

async fn event(
    work: &mut Transaction<'_>,
    kid: &str,
    kind: KeyEventKind,
    at: UnixTime,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let at = at.as_secs();
    work.rows(
        "INSERT INTO adopted_key_events (kid, event, at, reason) VALUES ($1, $2, $3, $4)
         ON CONFLICT (kid) WHERE event = 'revoked' DO NOTHING",
        &[
            (&kid, Type::TEXT),
            (&kind.name(), Type::TEXT),
            (&at, Type::INT8),
            (&reason, Type::TEXT),
        ],
    )
    .await
    .map(drop)
}
