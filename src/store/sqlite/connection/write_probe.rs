//! Whether the database can be written to, found out without leaving anything
//! in it, and at a cost that does not depend on how many ask.

use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Mutex;

use super::{Store, StoreError};

/// For how long an outcome is taken for the next ones.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// A database that takes longer to answer counts as one that cannot be written to.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a page is really written; in between, taking the lock is enough.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// What was found out last, in readings of a monotonic clock.
#[derive(Debug, Default)]
pub(in crate::store) struct Probe {
    last: Option<(Duration, bool)>,
    written_at: Option<Duration>,
}

/// Held by the one that is finding out, while others wait for its outcome.
pub(in crate::store) type SharedProbe = Mutex<Probe>;

impl Store {
    /// Whether a write would be kept at the moment `now` of a monotonic clock,
    /// or was, up to a second ago.
    ///
    /// Takes the lock for writing as every write does. The first time, every
    /// ten seconds, and after a transaction that came to nothing, it also has a
    /// page written to the disk that holds what it held before: of a disk that
    /// is full the lock alone tells nothing.
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
        let step = self.writer.write(move |conn| match write {
            true => rewrite(conn),
            false => Ok(()),
        });
        let outcome = match tokio::time::timeout(PATIENCE, step).await {
            Ok(Ok(())) => true,
            Ok(Err(e)) => {
                tracing::warn!("the database cannot be written to: {e}");
                false
            }
            Err(_) => {
                tracing::warn!("the database has not taken a write within {PATIENCE:?}");
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

/// Writes the first page anew, with the number in it that is nobody's but the
/// application's, as it is.
fn rewrite(conn: &Connection) -> Result<(), StoreError> {
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    conn.execute_batch(&format!("PRAGMA user_version = {version}"))?;
    Ok(())
}
