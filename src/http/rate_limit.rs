//! The quotas of `POST /auth` and `POST /register`, each with a log of its own: in
//! any second, at most `rate` calls of one client are let in, and a client within
//! the rate is never refused.
//!
//! [`SlidingLog`] decides, as the key extractor of `tower_governor`'s layer; the layer
//! puts it on the route and turns its refusal into the 429. The layer's own token bucket
//! could not keep that promise (of 10 a second with a burst of 10 it lets in an eleventh
//! at once after ten spaced by 100 ms); it gets one key and a rate that no traffic reaches.
//!
//! An extractor usually only reads the request. This one has a side effect: it
//! writes each call into the log, or refuses it. That is right as long as the layer
//! asks it once for each request, before the handler, and stops at its error; the
//! tests of `tests/api` that count the calls which are let in would show otherwise.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::{IntoResponse as _, Response};
use governor::middleware::NoOpMiddleware;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use super::client::ClientAddr;
use super::error::{ApiError, whole_seconds};
use crate::client::ClientKey;
use crate::clock::Clock;
use crate::domain::shared_quota::SharedQuota;

/// Span of time in which a client may make `rate` calls.
const WINDOW: Duration = Duration::from_secs(1);
/// Number of locks; clients are spread over them by hash.
const SHARDS: usize = 16;
/// A shard is not swept before it holds this many clients.
const SWEEP_FROM: usize = 64;

/// Times of each client's latest calls that were let in; clones share them.
#[derive(Clone)]
pub struct SlidingLog {
    shared: Arc<Shared>,
}

struct Shared {
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
            shared: Arc::new(Shared {
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

    /// Asks all replicas for a call that this one has let in, and takes it out of the log
    /// when they refuse it: refused calls do not prolong the wait.
    pub(super) async fn admit_everywhere(
        &self,
        quota: &'static str,
        shared: &SharedQuota,
        client: ClientKey,
    ) -> Result<(), ApiError> {
        let Err(wait) = shared.admit(quota, client, self.shared.rate).await? else {
            return Ok(());
        };
        if let Some(calls) = self.shard(client).lock().calls.get_mut(&client) {
            calls.pop();
        }
        self.shared.refusals.fetch_add(1, Ordering::Relaxed);
        Err(ApiError::TooManyRequests(wait))
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

    /// The layer for the route. Requests must have a [`ClientAddr`] among their
    /// extensions.
    pub(super) fn layer(&self) -> GovernorLayer<Self, NoOpMiddleware, Body> {
        let config = GovernorConfigBuilder::const_default()
            .key_extractor(self.clone())
            .per_nanosecond(1)
            .burst_size(u32::MAX)
            .finish();
        match config {
            Some(config) => GovernorLayer::new(config).error_handler(refuse),
            // Only a period or a burst of zero gives no configuration.
            None => unreachable!("period and burst are not zero"),
        }
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

impl KeyExtractor for SlidingLog {
    /// One key for all: the bucket is not what decides.
    type Key = ();

    fn extract<T>(&self, request: &Request<T>) -> Result<(), GovernorError> {
        let Some(client) = request.extensions().get::<ClientAddr>() else {
            return Err(GovernorError::UnableToExtractKey);
        };
        self.admit(client.key())
            .map_err(|wait| GovernorError::TooManyRequests {
                wait_time: whole_seconds(wait),
                headers: None,
            })
    }
}

fn refuse(error: GovernorError) -> Response {
    match error {
        GovernorError::TooManyRequests { wait_time, .. } => {
            ApiError::TooManyRequests(Duration::from_secs(wait_time))
        }
        other => {
            tracing::error!("the quota found no client address: {other}");
            ApiError::Internal
        }
    }
    .into_response()
}
