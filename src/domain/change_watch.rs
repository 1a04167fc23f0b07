//! The wait between two ticks of the rotation: a thread that looks twice a second for
//! what cannot wait for the next one.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::heartbeat::Heartbeat;
use crate::clock::{Clock, UnixTime};
use crate::store::Store;

/// Interval of the checks for changes by other processes and clock steps.
const CHECK_EVERY: Duration = Duration::from_millis(500);

pub(super) struct ChangeWatch {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) heartbeat: Arc<Heartbeat>,
    /// [`Store::change_counter`] when the keys were loaded.
    pub(super) seen_change: i64,
}

impl ChangeWatch {
    /// Returns after a change that is newer than the last load: a key that another
    /// process announced must be published here well before it signs, and a revoked one
    /// must leave the key set soon. Also when the clock was set back or jumped past
    /// `next`, as after a suspend.
    ///
    /// One thread sleeps and reads: through the runtime each check woke four threads. It
    /// checks disk and schema too, which may be changed long before the next tick.
    pub(super) async fn until_changed(self, mut last: UnixTime, next: UnixTime) {
        // Nothing is ever sent: when this future is dropped, so is the guard, which ends the
        // thread's wait, and with it the thread.
        let (_stop_on_drop, stopped) = mpsc::channel::<()>();
        let changed = tokio::task::spawn_blocking(move || {
            while stopped.recv_timeout(CHECK_EVERY) == Err(RecvTimeoutError::Timeout) {
                self.heartbeat.beat();
                let now = self.clock.now();
                if now < last || now >= next {
                    return;
                }
                last = now;
                self.store.blocking_check_room();
                // Ends the store by itself when it finds a planted trigger or view.
                let _ = self.store.blocking_check_schema();
                // The next tick reports a database that does not answer.
                if let Ok(counter) = self.store.blocking_change_counter()
                    && counter != self.seen_change
                {
                    return;
                }
            }
        });
        // The runtime ends, or the thread has panicked, of which the log has a line; then the
        // next tick comes within 30 s.
        if changed.await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/change_watch.rs"]
mod tests;
