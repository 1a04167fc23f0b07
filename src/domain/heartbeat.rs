//! Signs of life of the rotation loop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A loop that is silent for this long hangs: it beats twice a second, and its longest
/// steps are to wait for a lock on the database and to create a key.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Written by the loop, and read by readiness, metrics and the watchdog.
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    /// Milliseconds from `started`.
    last_beat: AtomicU64,
    failures: AtomicU64,
    is_failing: AtomicBool,
    unloaded_since: Mutex<Option<Instant>>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last_beat: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            unloaded_since: Mutex::default(),
        }
    }
}

impl Heartbeat {
    pub fn beat(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat.store(now, Ordering::Relaxed);
    }

    /// `has_unloaded_changes`: keys have changed in the database that the tick has not loaded.
    pub(super) fn tick_ended(&self, succeeded: bool, has_unloaded_changes: bool) {
        let mut unloaded_since = self.unloaded_since.lock();
        *unloaded_since = has_unloaded_changes.then(|| unloaded_since.unwrap_or_else(Instant::now));
        if !succeeded {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.is_failing.store(!succeeded, Ordering::Relaxed);
    }

    /// Time since the last beat.
    pub fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last_beat.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }

    /// True when the last beat is a minute ago.
    pub fn hangs(&self) -> bool {
        self.silence() >= HANGS_AFTER
    }

    /// Time since the first of the ticks that have not loaded what had changed; zero when
    /// the latest has.
    pub fn unloaded_for(&self) -> Duration {
        self.unloaded_since
            .lock()
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Number of ticks that have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Has the latest tick failed?
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }
}
