//! Write probe: tries to write to the database without leaving anything in it,
//! at a cost that does not depend on the number of callers.

use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Mutex;

use super::SqliteStore;
use crate::store::StoreError;

/// Later callers get the same outcome for this long.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// A database that takes longer to answer counts as one that cannot be written to.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A page is really written this often; in between, taking the lock is enough.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// Locked by the caller that runs the probe, while others wait for its outcome.
pub(super) type WriteProbe = Mutex<Outcome>;

/// The last outcome, in readings of a monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    last: Option<(Duration, bool)>,
    written_at: Option<Duration>,
}

impl SqliteStore {
    /// True when a write would be kept at the moment `now` of a monotonic clock,
    /// or was, up to a second ago.
    ///
    /// Takes the lock for writing as every write does. The first time, every
    /// ten seconds, and after a failed transaction, it also writes a page to the
    /// disk, unchanged: the lock alone does not show that a disk is full.
    pub async fn is_writable(&self, now: Duration) -> bool {
        let mut probe = self.probe.lock().await;
        if let Some((at, outcome)) = probe.last
            && now.saturating_sub(at) < GOOD_FOR
        {
            return outcome;
        }
        let write = self.commits().last_failed()
            || probe
                .written_at
                .is_none_or(|at| now.saturating_sub(at) >= WRITE_EVERY);
        let step = self.write(move |conn| match write {
            true => rewrite(conn),
            false => Ok(()),
        });
        let outcome = match tokio::time::timeout(TIMEOUT, step).await {
            Ok(Ok(())) => true,
            Ok(Err(e)) => {
                tracing::warn!("the database cannot be written to: {e}");
                false
            }
            Err(_) => {
                tracing::warn!("the database did not accept a write within {TIMEOUT:?}");
                false
            }
        };
        probe.last = Some((now, outcome));
        if outcome && write {
            probe.written_at = Some(now);
        }
        outcome
    }
}

/// Writes the first page unchanged, through the number in it that SQLite leaves
/// to applications.
fn rewrite(conn: &Connection) -> Result<(), StoreError> {
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    conn.execute_batch(&format!("PRAGMA user_version = {version}"))?;
    Ok(())
}
