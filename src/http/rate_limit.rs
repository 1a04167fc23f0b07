//! The log of a quota: in any second, at most `rate` calls of one client are let in, and a
//! client within the rate is never refused. `quota.rs` puts the quotas on their routes.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::client_key::ClientKey;
use crate::clock::Clock;

/// Span of time in which a client may make `rate` calls.
const WINDOW: Duration = Duration::from_secs(1);
/// Number of locks; clients are spread over them by hash.
const SHARDS: usize = 16;
/// A shard is not swept before it holds this many clients.
const SWEEP_FROM: usize = 64;

/// Times of each client's latest calls that were let in; clones share them.
#[derive(Clone)]
pub struct SlidingLog {
    shared: Arc<LogState>,
}

struct LogState {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    rate: usize,
    refusals: AtomicU64,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Shard {
    /// Oldest first. Most clients call once in a while, so one call is stored
    /// inline: the allocator would keep the many small pieces that a flood of
    /// such clients takes.
    calls: HashMap<ClientKey, SmallVec<[Duration; 1]>>,
    /// Number of clients at which idle ones are removed.
    sweep_at: usize,
}

impl SlidingLog {
    pub fn new(rate: NonZeroU32, clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(LogState {
                shards: Default::default(),
                hasher: RandomState::new(),
                rate: usize::try_from(rate.get()).unwrap_or(usize::MAX),
                refusals: AtomicU64::new(0),
                clock,
            }),
        }
    }

    /// Lets a call in, or returns the time until one would be.
    pub fn admit(&self, client: ClientKey) -> Result<(), Duration> {
        let mut shard = self.shard(client).lock();
        // Read under the lock, so that the log is in order of time.
        let now = self.shared.clock.monotonic();
        shard.sweep_if_grown(now);
        let calls = shard.calls.entry(client).or_default();
        let is_past = |at: &Duration| now.saturating_sub(*at) >= WINDOW;
        let past = calls.iter().take_while(|at| is_past(at)).count();
        calls.drain(..past);
        match calls.first() {
            Some(&oldest) if calls.len() >= self.shared.rate => {
                self.shared.refusals.fetch_add(1, Ordering::Relaxed);
                Err((oldest + WINDOW).saturating_sub(now))
            }
            _ => {
                calls.push(now);
                Ok(())
            }
        }
    }

    /// Takes the client's latest call out of the log, and counts it as refused.
    pub(super) fn refuse_latest(&self, client: ClientKey) {
        if let Some(calls) = self.shard(client).lock().calls.get_mut(&client) {
            calls.pop();
        }
        self.shared.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of calls that are let in, of each client in a second.
    pub(super) fn rate(&self) -> usize {
        self.shared.rate
    }

    /// Removes clients that have been quiet for a second, and frees their memory.
    pub fn sweep(&self) {
        let now = self.shared.clock.monotonic();
        for shard in &self.shared.shards {
            shard.lock().sweep(now);
        }
    }

    /// Number of clients in the log.
    pub fn clients(&self) -> usize {
        let held = |shard: &Mutex<Shard>| shard.lock().calls.len();
        self.shared.shards.iter().map(held).sum()
    }

    /// Number of calls refused so far.
    pub fn refusals(&self) -> u64 {
        self.shared.refusals.load(Ordering::Relaxed)
    }

    fn shard(&self, client: ClientKey) -> &Mutex<Shard> {
        let hash = self.shared.hasher.hash_one(client);
        &self.shared.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}

impl Shard {
    fn sweep_if_grown(&mut self, now: Duration) {
        if self.calls.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.sweep(now);
        }
    }

    fn sweep(&mut self, now: Duration) {
        self.calls.retain(|_, calls| {
            calls
                .last()
                .is_some_and(|&at| now.saturating_sub(at) < WINDOW)
        });
        self.calls.shrink_to(SWEEP_FROM);
        self.sweep_at = 2 * self.calls.len();
    }
}
