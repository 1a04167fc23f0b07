//! The loop that keeps keys coming. A tick looks at the database, makes what is
//! due and deletes what is over; it may run late, twice, or in several
//! processes at once on one file.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::key_ring::{KeyRing, Unopened};
use crate::clock::{Clock, UnixTime};
use crate::crypto::fernet::{Sealed, SealingKeys};
use crate::crypto::rsa::KeyError;
pub use crate::crypto::rsa::{KeySource, Rsa2048};
use crate::lifecycle::{self, Policy};
use crate::lifecycle::{KeySpan, KeyTimes, Kid};
use crate::store::{KeyChange, KeyRows, NewKey, Store, StoreError};

/// The loop looks at the database at least this often, for what other
/// programs have done.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// How often it asks whether another process has done something to the keys, or
/// somebody has set the clock.
const NEWS_EVERY: Duration = Duration::from_millis(500);
/// How soon a tick that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often one tick looks again when its work does not show: with each look
/// it knows twice as many rows that cannot be used.
const MAX_LOOKS: usize = 16;

/// Keeps the key ring and the database in the state that the policy wants.
pub struct Rotation {
    store: Store,
    ring: Arc<KeyRing>,
    secrets: Arc<SealingKeys>,
    source: Arc<dyn KeySource>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    heartbeat: Arc<Heartbeat>,
    /// Rows that give no key and are never counted on.
    bad: HashSet<Kid>,
    /// Rows that were complained of, once each.
    noted: HashSet<Kid>,
    /// The last event that the snapshot knows of.
    seen_event: i64,
}

/// Why a tick was not finished. What it did before is done.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Work on a blocking thread was cut off.
    #[error("a key was not made: {0}")]
    CutOff(#[from] tokio::task::JoinError),
    /// The keys in the database are those of another `NOT_MY_KEY`.
    #[error("NOT_MY_KEY opens none of the keys that are published; nothing was changed")]
    OtherSecrets,
    /// Rows that cannot be used hide what was done.
    #[error("there are too many keys in the database that cannot be used")]
    NoProgress,
}

/// Which key is missing.
#[derive(Clone, Copy, Debug)]
enum Due {
    Signing,
    Expired,
}

impl Due {
    /// The first thing that is due, the live key before the expired one.
    fn first(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<Self> {
        if lifecycle::due_signing_key(keys, policy, now).is_some() {
            Some(Self::Signing)
        } else if lifecycle::due_expired_key(keys, now).is_some() {
            Some(Self::Expired)
        } else {
            None
        }
    }

    fn span(self, keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<KeySpan> {
        match self {
            Self::Signing => lifecycle::due_signing_key(keys, policy, now),
            Self::Expired => lifecycle::due_expired_key(keys, now),
        }
    }
}

impl Rotation {
    /// A rotation that has not looked at anything yet.
    pub fn new(
        store: Store,
        ring: Arc<KeyRing>,
        secrets: Arc<SealingKeys>,
        source: Arc<dyn KeySource>,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            ring,
            secrets,
            source,
            policy,
            clock,
            heartbeat: Arc::default(),
            bad: HashSet::new(),
            noted: HashSet::new(),
            seen_event: 0,
        }
    }

    pub fn heartbeat(&self) -> &Arc<Heartbeat> {
        &self.heartbeat
    }

    /// Ticks until `stop`. A tick that fails is logged and tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.heartbeat.beat();
            // A tick may be cut off anywhere: what is not committed is as if
            // it had not begun.
            let ticked = tokio::select! {
                () = stop.cancelled() => return,
                ticked = self.tick() => ticked,
            };
            let wait = async {
                match ticked {
                    Ok(next) => self.wait(next).await,
                    // The service stops, and the log has said why.
                    Err(RotationError::Store(StoreError::Replaced)) => stop.cancelled().await,
                    Err(e) => {
                        tracing::error!("key rotation failed, next try in a second: {e}");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wait => {}
            }
        }
    }

    /// Until `next`, or earlier when there is reason to look again.
    async fn wait(&self, next: UnixTime) {
        let now = self.clock.now();
        tokio::select! {
            () = tokio::time::sleep(now.until(next).min(MAX_SLEEP)) => {}
            () = self.news(now, next) => {}
        }
    }

    /// Returns when another process has done something to the keys: what it
    /// has announced must be published here too, well before it signs, and
    /// what it has revoked must go at once. Also when the time has leapt past
    /// `next`, as after the machine was suspended, or has gone back.
    async fn news(&self, mut last: UnixTime, next: UnixTime) {
        loop {
            tokio::time::sleep(NEWS_EVERY).await;
            self.heartbeat.beat();
            let now = self.clock.now();
            if now < last || now >= next {
                return;
            }
            last = now;
            // A database that does not answer is the next tick's to report.
            if let Ok(event) = self.store.last_key_event().await
                && event != self.seen_event
            {
                return;
            }
        }
    }

    /// Brings keys and snapshot up to date and returns when a key is due next.
    ///
    /// A key's times count from the moment it is inserted and not from when its
    /// making began.
    pub async fn tick(&mut self) -> Result<UnixTime, RotationError> {
        let ticked = self.look_after_keys().await;
        self.heartbeat.tick_ended(ticked.is_ok());
        ticked
    }

    async fn look_after_keys(&mut self) -> Result<UnixTime, RotationError> {
        for _ in 0..MAX_LOOKS {
            let now = self.clock.now();
            self.look(now).await?;
            let Some(due) = Due::first(self.ring.snapshot().times(), &self.policy, now) else {
                if self.prune(now).await? > 0 {
                    // What is deleted must not come back when the clock goes back.
                    self.look(now).await?;
                }
                let next = lifecycle::next_due(self.ring.snapshot().times(), &self.policy, now);
                return Ok(next.unwrap_or(now));
            };
            self.make(due).await?;
        }
        Err(RotationError::NoProgress)
    }

    /// Loads what is in the database at `now` and swaps the snapshot.
    async fn look(&mut self, now: UnixTime) -> Result<(), RotationError> {
        // Asked before the rows, so that no event comes between unseen.
        let event = self.store.last_key_event().await?;
        let KeyRows { rows, bad } = self.store.keys_around(now, self.expired_rows()).await?;
        let (ring, secrets) = (Arc::clone(&self.ring), Arc::clone(&self.secrets));
        let unopened = tokio::task::spawn_blocking(move || ring.load(rows, &secrets)).await?;
        self.seen_event = event;
        // Anew each time: a row that was repaired counts again.
        self.bad.clear();
        for Unopened {
            kid,
            reason,
            still_used,
        } in unopened
        {
            if !still_used {
                self.bad.insert(kid);
            }
            if self.noted.insert(kid) {
                let what = if still_used {
                    "is used as it was before"
                } else {
                    "cannot be used and is left alone"
                };
                tracing::error!(%kid, "a key in the database {what}: {reason}");
            }
        }
        for bad in bad {
            let kid = Kid::from_row(bad.row);
            if self.noted.insert(kid) {
                tracing::error!(%kid, "a key in the database cannot be used and is left alone: {bad}");
            }
        }
        Ok(())
    }

    /// Makes a key and inserts it, unless it is no longer due by then.
    async fn make(&self, due: Due) -> Result<(), RotationError> {
        let (kid, sealed) = make_sealed(&self.source, &self.secrets, 0).await?;
        let (policy, bad) = (self.policy, self.bad.clone());
        let sealed = sealed.into_bytes();
        let decide = move |keys: &KeyRows, now| {
            let times = keys.rows.iter().map(|row| row.times);
            let good: Vec<_> = times.filter(|times| !bad.contains(&times.kid)).collect();
            let span = due.span(&good, &policy, now);
            let insert = span.map(|span| NewKey { kid, sealed, span });
            let is_due = insert.is_some();
            let change = KeyChange {
                insert,
                ..KeyChange::default()
            };
            Ok::<_, RotationError>((change, is_due))
        };
        let (expired, clock) = (Some(self.expired_rows()), Arc::clone(&self.clock));
        let inserted = self.store.change_keys(expired, clock, decide).await?;
        if inserted {
            let kind = match due {
                Due::Signing => "signing",
                Due::Expired => "expired",
            };
            tracing::info!(%kid, "a new {kind} key is in the database");
        }
        Ok(())
    }

    /// Deletes what is over and returns how many keys that were.
    async fn prune(&self, now: UnixTime) -> Result<usize, StoreError> {
        let before = self.policy.delete_before(now);
        let keep = self.ring.snapshot().last_expired(now).map(|key| key.kid());
        if !self.store.can_prune_keys(before, keep).await? {
            return Ok(0);
        }
        let gone = self.store.prune_keys(before, keep, now).await?;
        tracing::info!("{gone} keys that expired before {before} were deleted");
        Ok(gone)
    }

    /// Of the expired keys only the last matters; where some are known to be
    /// unusable, twice as many are asked for, so that few looks get past them.
    fn expired_rows(&self) -> usize {
        (2 * self.bad.len()).max(1)
    }
}

/// Signs of life of the rotation loop, written by it and read by readiness,
/// metrics and the watchdog.
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    /// Milliseconds from `started`.
    last_beat: AtomicU64,
    failures: AtomicU64,
    is_failing: AtomicBool,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last_beat: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        }
    }
}

impl Heartbeat {
    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat.store(now, Ordering::Relaxed);
    }

    fn tick_ended(&self, succeeded: bool) {
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

    /// Number of ticks that have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Has the latest tick failed?
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }
}

/// A new key, sealed under the given entry of `NOT_MY_KEY`, and its kid.
pub(super) async fn make_sealed(
    source: &Arc<dyn KeySource>,
    secrets: &Arc<SealingKeys>,
    entry: usize,
) -> Result<(Kid, Sealed), RotationError> {
    let (source, secrets) = (Arc::clone(source), Arc::clone(secrets));
    let made = tokio::task::spawn_blocking(move || -> Result<_, KeyError> {
        let key = source.generate()?;
        let kid = Kid::from_thumbprint(&key.public().thumbprint());
        Ok((kid, secrets.seal_under(entry, key.to_pem().as_bytes())))
    });
    Ok(made.await??)
}
