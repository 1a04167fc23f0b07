//! The table `key_events`: what has happened to keys.

use tokio_postgres::types::Type;

use super::adopted_keys;
use super::connection::{Database, Transaction};
use crate::clock::UnixTime;
use crate::lifecycle::Kid;
use crate::store::{KEPT_EVENTS, KeyEvent, KeyEventKind, StoreError, merged_events};

/// The latest `limit` events, also of adopted keys, in the order in which they happened.
pub(super) async fn latest(database: &Database, latest: u32) -> Result<Vec<KeyEvent>, StoreError> {
    let limit = i64::from(latest);
    let rows = database
        .rows(
            "SELECT * FROM (SELECT id, kid, event, at, reason FROM key_events
                 ORDER BY id DESC LIMIT $1) latest ORDER BY id",
            &[(&limit, Type::INT8)],
        )
        .await?;
    let events = rows.iter().map(|row| {
        let kind: String = row.try_get("event")?;
        Ok(KeyEvent {
            kid: row.try_get::<_, i64>("kid")?.to_string(),
            kind: kind
                .parse()
                .map_err(|_| StoreError::Refused(format!("key_events has the event {kind:?}")))?,
            at: UnixTime::from_secs(row.try_get("at")?),
            reason: row.try_get("reason")?,
        })
    });
    let events = events.collect::<Result<_, StoreError>>()?;
    if !adopted_keys::exist(database).await? {
        return Ok(events);
    }
    let adopted = adopted_keys::latest_events(database, latest).await?;
    Ok(merged_events(events, adopted, latest))
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

/// Deletes the oldest events of deleted keys.
pub(super) async fn prune(work: &mut Transaction<'_>) -> Result<(), StoreError> {
    work.rows(
        "DELETE FROM key_events WHERE id <= (SELECT max(id) FROM key_events) - $1
             AND kid NOT IN (SELECT kid FROM keys)",
        &[(&KEPT_EVENTS, Type::INT8)],
    )
    .await
    .map(drop)
}
