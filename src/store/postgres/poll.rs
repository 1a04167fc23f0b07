//! The poll: twice a second each replica asks for the version of the keys and for the
//! database's clock. One that gets no answer counts as cut off.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::PostgresStore;
use super::connection::{Database, NOW, only, time};
use super::health::{Objects, Poll};
use super::schema::{CALLED, written};
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::store::StoreError;

const EVERY: Duration = Duration::from_millis(500);
/// One poll may take this long.
const TIMEOUT: Duration = Duration::from_secs(1);

impl PostgresStore {
    pub async fn change_counter(&self) -> Result<i64, StoreError> {
        once(&self.database).await
    }

    pub fn blocking_change_counter(&self) -> Result<i64, StoreError> {
        let latest = *self.database.health.latest.lock();
        let poll = latest.ok_or_else(|| StoreError::Unavailable("it was not asked".to_owned()))?;
        Ok(poll.version)
    }

    /// The database's clock.
    pub async fn now(&self) -> Result<UnixTime, StoreError> {
        let rows = self.rows(&format!("SELECT {NOW}"), &[]).await?;
        time(&rows, "now")
    }

    /// Was the database asked within two seconds, does it take writes, and do the clocks
    /// agree?
    pub fn is_writable(&self) -> bool {
        let health = self.database.health.check();
        if let Err(e) = &health {
            tracing::warn!("the database cannot be written to: {e}");
        }
        health.is_ok()
    }

    /// Time since the latest good poll.
    pub fn time_since_poll(&self) -> Duration {
        let latest = *self.database.health.latest.lock();
        latest.map_or(Duration::MAX, |poll| poll.at.elapsed())
    }
}

/// Polls once; returns the version. [`StoreError::Replaced`] when the names of the tables and
/// functions stand for others than at the first poll: another role may have put its own in
/// front of them.
pub(super) async fn once(database: &Database) -> Result<i64, StoreError> {
    let began = Instant::now();
    check_objects(database).await?;
    let sql = format!(
        "SELECT version, {NOW}, current_setting('transaction_read_only') = 'on' AS read_only
         FROM key_version"
    );
    let rows = database.poll_rows(&sql, &[]).await?;
    let row = only(&rows)?;
    let is_read_only: bool = row.try_get("read_only")?;
    if is_read_only {
        return Err(StoreError::Unavailable("it is read-only".to_owned()));
    }
    let version = row.try_get("version")?;
    let ahead = SystemClock::new().now().as_secs() - time(&rows, "now")?.as_secs();
    *database.health.latest.lock() = Some(Poll {
        at: began,
        version,
        ahead,
    });
    Ok(version)
}

/// In a statement of its own, which names no table, and by functions of exact types: others
/// would be read and called else.
async fn check_objects(database: &Database) -> Result<(), StoreError> {
    let tables = written().into_iter();
    let tables = tables.map(|name| format!("to_regclass('{name}')::oid::bigint"));
    let functions = CALLED.iter();
    let functions = functions.map(|name| format!("to_regprocedure('{name}')::oid::bigint"));
    let objects: Vec<_> = tables.chain(functions).collect();
    let sql = format!("SELECT ARRAY[{}] AS objects", objects.join(", "));
    let rows = database.poll_rows(&sql, &[]).await?;
    let objects: Objects = only(&rows)?.try_get("objects")?;
    let known = database.health.objects.get_or_init(|| objects.clone());
    // One that is gone is no other one; statements say so.
    let is_other = |(known, now): (&Option<i64>, &Option<i64>)| {
        known.zip(*now).is_some_and(|(known, now)| known != now)
    };
    if known.iter().zip(&objects).any(is_other) {
        database.health.replaced.store(true, Ordering::Relaxed);
    }
    match database.health.replaced.load(Ordering::Relaxed) {
        true => Err(StoreError::Replaced),
        false => Ok(()),
    }
}

/// Stops the store when its tables were replaced.
pub(super) async fn run(database: Arc<Database>, stop: CancellationToken) {
    let mut failing = false;
    while stop
        .run_until_cancelled(tokio::time::sleep(EVERY))
        .await
        .is_some()
    {
        let polled = tokio::time::timeout(TIMEOUT, once(&database)).await;
        let why = match polled {
            Ok(Ok(_)) => None,
            Ok(Err(StoreError::Replaced)) => {
                tracing::error!(
                    "tables or functions of the service in the database were replaced, or others put in front of them, so the service stops: start it again; that is refused where they are another role's"
                );
                *database.health.latest.lock() = None;
                return stop.cancel();
            }
            Ok(Err(e)) => Some(e.to_string()),
            Err(_) => Some(format!("it has not answered within {TIMEOUT:?}")),
        };
        match &why {
            Some(why) if !failing => tracing::error!("the database does not answer: {why}"),
            None if failing => tracing::info!("the database answers again"),
            _ => {}
        }
        failing = why.is_some();
        if failing {
            database.drop_idle();
        }
    }
}
