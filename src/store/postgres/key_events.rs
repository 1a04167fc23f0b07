//! The table `key_events`: what has happened to keys; and the events of both kinds of keys.

use tokio_postgres::types::Type;

use super::adopted_keys;
use super::connection::{Database, Transaction};
use crate::clock::UnixTime;
use crate::lifecycle::Kid;
use crate::store::{KEPT_EVENTS, KeyEvent, KeyEventKind, StoreError, merged_events};

/// The latest `limit` events, also of adopted keys, in the order in which they happened.
pub(super) async fn latest(database: &Database, limit: u32) -> Result<Vec<KeyEvent>, StoreError> {
    let own = latest_in(database, "key_events", limit).await?;
    if !adopted_keys::exist(database).await? {
        return Ok(own);
    }
    let adopted = latest_in(database, "adopted_key_events", limit).await?;
    Ok(merged_events(own, adopted, limit))
}

async fn latest_in(
    database: &Database,
    table: &'static str,
    limit: u32,
) -> Result<Vec<KeyEvent>, StoreError> {
    let sql = format!(
        "SELECT * FROM (SELECT id, kid::text AS kid, event, at, reason FROM {table}
             ORDER BY id DESC LIMIT $1) latest ORDER BY id"
    );
    let limit = i64::from(limit);
    let rows = database.rows(&sql, &[(&limit, Type::INT8)]).await?;
    let events = rows.iter().map(|row| {
        let kind: String = row.try_get("event")?;
        Ok(KeyEvent {
            kid: row.try_get("kid")?,
            kind: kind
                .parse()
                .map_err(|_| StoreError::Refused(format!("{table} has the event {kind:?}")))?,
            at: UnixTime::from_secs(row.try_get("at")?),
            reason: row.try_get("reason")?,
        })
    });
    events.collect()
}

/// Inserts an event. False: it happens but once and is there already.
pub(super) async fn insert(
    work: &mut Transaction<'_>,
    kid: Kid,
    kind: KeyEventKind,
    at: UnixTime,
    reason: Option<&str>,
) -> Result<bool, StoreError> {
    let (kid, at) = (kid.as_i64(), at.as_secs());
    let rows = work
        .rows(
            "INSERT INTO key_events (kid, event, at, reason) VALUES ($1, $2, $3, $4)
             ON CONFLICT (kid, event) WHERE event IN ('first_signed', 'revoked') DO NOTHING
             RETURNING id",
            &[
                (&kid, Type::INT8),
                (&kind.name(), Type::TEXT),
                (&at, Type::INT8),
                (&reason, Type::TEXT),
            ],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Deletes the oldest events of deleted keys. A revocation stays: the row may come back.
pub(super) async fn prune(work: &mut Transaction<'_>) -> Result<(), StoreError> {
    work.rows(
        "DELETE FROM key_events WHERE id <= (SELECT max(id) FROM key_events) - $1
             AND event <> 'revoked' AND kid NOT IN (SELECT kid FROM keys)",
        &[(&KEPT_EVENTS, Type::INT8)],
    )
    .await
    .map(drop)
}
