//! How the rotation of keys fares, for whoever asks: whether it goes round, and
//! whether what it does succeeds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Shared by the rotation, which writes it, and those who ask.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    /// Milliseconds from `began`.
    last_beat: AtomicU64,
    failures: AtomicU64,
    fails: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            last_beat: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            fails: AtomicBool::new(false),
        }
    }
}

impl Pulse {
    /// The loop is where it should be.
    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat.store(now, Ordering::Relaxed);
    }

    /// A tick has ended.
    pub(super) fn ticked(&self, well: bool) {
        if !well {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.fails.store(!well, Ordering::Relaxed);
    }

    /// How long the loop has not been heard of.
    pub fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last_beat.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }

    /// How many ticks have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether the latest tick has failed.
    pub fn fails(&self) -> bool {
        self.fails.load(Ordering::Relaxed)
    }
}
