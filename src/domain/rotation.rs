//! The rotation loop. A tick loads the keys, creates those that are due and deletes
//! old ones; it may run late, twice, or in several processes at once on one file.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::change_watch::ChangeWatch;
pub use super::heartbeat::Heartbeat;
use super::key_ring::{KeyRing, Unopened};
use crate::clock::{Clock, UnixTime};
use crate::crypto::fernet::SealingKeys;
use crate::crypto::rsa::KeyError;
pub use crate::crypto::rsa::{KeySource, Rsa2048};
use crate::lifecycle::{self, Policy};
use crate::lifecycle::{KeySpan, KeyTimes, Kid};
use crate::store::{KeyChange, KeyRows, KeySelection, NewKey, Store, StoreError};

/// Longest time between two ticks: a change by a program that records no key event
/// is seen by then.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// Keys dated ahead keep their times until the clock has been behind them for this long:
/// it may be wrong now, and their tokens are good when it is put right.
const CLOCK_BEHIND_FOR: Duration = Duration::from_secs(300);
/// Delay after a failed tick.
const RETRY: Duration = Duration::from_secs(1);
/// Loads in one tick until its new key shows; each asks for twice as many expired rows
/// as are known to be bad.
const MAX_LOADS: usize = 16;

/// Keeps key ring and database as the policy requires.
pub struct Rotation {
    store: Store,
    ring: Arc<KeyRing>,
    sealing_keys: Arc<SealingKeys>,
    source: Arc<dyn KeySource>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    heartbeat: Arc<Heartbeat>,
    bad: HashSet<Kid>,
    /// Kids of rows that were logged, once each.
    logged: HashSet<String>,
    /// [`Store::change_counter`] when the snapshot was loaded.
    seen_change: i64,
    /// Monotonic time at which the clock was first found behind unexpired keys.
    clock_behind_since: Option<Duration>,
}

/// Error of a tick. Its steps before the error are committed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("work on a blocking thread failed: {0}")]
    Join(#[from] tokio::task::JoinError),
    #[error("NOT_MY_KEY opens none of the keys that are published; nothing was changed")]
    OtherSealingKey,
    #[error(
        "{0} keys are published already, and verifiers stop reading large key sets; nothing was changed. `keys list` shows when one leaves"
    )]
    TooMany(usize),
    /// Rows that cannot be used take up all that a load returns.
    #[error("there are too many keys in the database that cannot be used")]
    NoProgress,
}

/// The times of a key that is due; none when it is not.
type Due = fn(&[KeyTimes], &Policy, UnixTime) -> Option<KeySpan>;

/// Kinds of keys that are created when they are due. A signing key comes first: without
/// one no sign-in succeeds.
const KINDS: [(&str, Due); 2] = [
    ("signing", lifecycle::due_signing_key),
    ("expired", |keys, _, now| {
        lifecycle::due_expired_key(keys, now)
    }),
];

impl Rotation {
    pub fn new(
        store: Store,
        ring: Arc<KeyRing>,
        sealing_keys: Arc<SealingKeys>,
        source: Arc<dyn KeySource>,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            ring,
            sealing_keys,
            source,
            policy,
            clock,
            heartbeat: Arc::default(),
            bad: HashSet::new(),
            logged: HashSet::new(),
            seen_change: 0,
            clock_behind_since: None,
        }
    }

    pub fn heartbeat(&self) -> &Arc<Heartbeat> {
        &self.heartbeat
    }

    /// Ticks until `stop`. A tick that fails is logged and tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.heartbeat.beat();
            // A tick may be cancelled anywhere: each of its steps is a transaction.
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

    /// Waits until `next`, or until a change that needs a tick.
    async fn wait(&self, next: UnixTime) {
        let now = self.clock.now();
        let watch = ChangeWatch {
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            heartbeat: Arc::clone(&self.heartbeat),
            seen_change: self.seen_change,
        };
        tokio::select! {
            () = tokio::time::sleep(now.until(next).min(MAX_SLEEP)) => {}
            () = watch.until_changed(now, next) => {}
        }
    }

    /// Brings keys and snapshot up to date; returns the time when a key is due next.
    /// A key's times count from its insertion, not from the start of its generation.
    pub async fn tick(&mut self) -> Result<UnixTime, RotationError> {
        self.store.check_room().await;
        let ticked = self.load_and_rotate().await;
        self.heartbeat
            .tick_ended(ticked.is_ok(), self.has_unloaded_changes());
        ticked
    }

    /// Has another replica changed keys since the last load? Only where that is known
    /// without asking the database.
    fn has_unloaded_changes(&self) -> bool {
        self.store.is_shared_by_replicas()
            && self
                .store
                .blocking_change_counter()
                .is_ok_and(|counter| counter > self.seen_change)
    }

    async fn load_and_rotate(&mut self) -> Result<UnixTime, RotationError> {
        let mut was_due = false;
        for _ in 0..MAX_LOADS {
            let now = self.store.now(&*self.clock).await?;
            self.load(now).await?;
            let clock_behind_for = self.clock_behind_for(now);
            if clock_behind_for >= CLOCK_BEHIND_FOR {
                self.move_back(clock_behind_for).await?;
                self.load(now).await?;
            }
            let due = first_due(self.ring.snapshot().times(), &self.policy, now);
            let Some((kind, due)) = due else {
                if self.prune(now).await? > 0 {
                    // Deleted keys must not be published when the clock is set back.
                    self.load(now).await?;
                }
                // Whichever process was the first to insert it.
                if was_due {
                    self.checkpoint().await;
                }
                let next = lifecycle::next_due(self.ring.snapshot().times(), &self.policy, now);
                return Ok(next.unwrap_or(now));
            };
            self.create(kind, due).await?;
            was_due = true;
        }
        Err(RotationError::NoProgress)
    }

    /// A plain copy of the database file has the new key then. That the file was
    /// replaced is for the store to say, once.
    async fn checkpoint(&self) {
        match self.store.checkpoint().await {
            Ok(()) | Err(StoreError::Replaced) => {}
            Err(e) => {
                tracing::warn!("the write-ahead log was not moved into the database file: {e}");
            }
        }
    }

    /// Loads the keys at `now` and swaps the snapshot.
    async fn load(&mut self, now: UnixTime) -> Result<(), RotationError> {
        // Keys that only a clock ahead says have expired are loaded too.
        let earliest = self.ring.reading(&*self.clock).earliest.min(now);
        // Read before the rows, so that no later change is missed.
        let counter = self.store.change_counter().await?;
        let keys = self.store.keys_at(earliest, self.expired_rows()).await?;
        let KeyRows { rows, bad, adopted } = keys;
        for row in rows.iter().filter(|row| row.exp_is_too_late) {
            let kid = row.times.kid;
            if self.logged.insert(kid.to_string()) {
                tracing::error!(%kid, "another program made the exp of a key later: it is published until {} only", row.times.expires_at);
            }
        }
        let (ring, sealing_keys) = (Arc::clone(&self.ring), Arc::clone(&self.sealing_keys));
        let load = move || ring.load(rows, adopted, &sealing_keys);
        let unopened = tokio::task::spawn_blocking(load).await?;
        self.seen_change = counter;
        // Not kept from the last load: a row may have been repaired.
        self.bad.clear();
        for Unopened {
            kid,
            own,
            reason,
            still_used,
        } in unopened
        {
            if !still_used {
                self.bad.extend(own);
            }
            if self.logged.insert(kid.clone()) {
                let what = if still_used {
                    "stays in use as it was loaded before"
                } else {
                    "cannot be used and is ignored"
                };
                tracing::error!(%kid, "a key in the database {what}: {reason}");
            }
        }
        for bad in bad {
            let kid = Kid::from_row(bad.row);
            if self.logged.insert(kid.to_string()) {
                tracing::error!(%kid, "a key in the database cannot be used and is ignored: {bad}");
            }
        }
        Ok(())
    }

    /// Time since the clock was first found behind unexpired keys; zero when it is not.
    fn clock_behind_for(&mut self, now: UnixTime) -> Duration {
        let ahead = lifecycle::moved_back(
            self.ring.snapshot().times(),
            &self.policy,
            now,
            Duration::ZERO,
        );
        let mono = self.clock.monotonic();
        self.clock_behind_since =
            (!ahead.is_empty()).then(|| self.clock_behind_since.unwrap_or(mono));
        self.clock_behind_since
            .map_or(Duration::ZERO, |since| mono.saturating_sub(since))
    }

    /// Moves the times of keys that were created by a clock that was ahead.
    async fn move_back(&self, clock_behind_for: Duration) -> Result<(), RotationError> {
        let (policy, bad) = (self.policy, self.bad.clone());
        let decide = move |keys: &KeyRows, now| {
            let retime = lifecycle::moved_back(&usable(keys, &bad), &policy, now, clock_behind_for);
            let moved = retime.len();
            let change = KeyChange {
                retime,
                ..KeyChange::default()
            };
            Ok::<_, RotationError>((change, moved))
        };
        let moved = self
            .store
            .change_keys(self.selection(), &self.clock, decide)
            .await?;
        if moved > 0 {
            tracing::warn!("the clock was set back: {moved} keys that it dated ahead end earlier");
        }
        Ok(())
    }

    /// Creates a key and inserts it, unless it is no longer due by then.
    async fn create(&self, kind: &str, due: Due) -> Result<(), RotationError> {
        let (kid, sealed) = generate_sealed(&self.source, &self.sealing_keys, 0).await?;
        let (policy, bad) = (self.policy, self.bad.clone());
        // A key is due for all replicas at once: few may wait for the lock, so those that
        // another was faster than load the keys instead.
        if self
            .store
            .another_replica_changed_keys(self.seen_change)
            .await?
        {
            return Ok(());
        }
        let decide = move |keys: &KeyRows, now| {
            let span = due(&usable(keys, &bad), &policy, now);
            let insert = span.map(|span| NewKey { kid, sealed, span });
            let is_due = insert.is_some();
            let change = KeyChange {
                insert,
                ..KeyChange::default()
            };
            Ok::<_, RotationError>((change, is_due))
        };
        let inserted = self
            .store
            .change_keys(self.selection(), &self.clock, decide)
            .await?;
        if inserted {
            tracing::info!(%kid, "a new {kind} key is in the database");
        }
        Ok(())
    }

    /// Deletes keys past their retention; returns their number.
    async fn prune(&self, now: UnixTime) -> Result<usize, StoreError> {
        // A clock that is ahead would delete live keys.
        if !self.ring.reading(&*self.clock).is_settled {
            return Ok(0);
        }
        let before = self.policy.delete_before(now);
        let keep = self
            .ring
            .snapshot()
            .last_unpublished(now)
            .map(|key| key.kid());
        if !self.store.can_prune_keys(before, keep).await? {
            return Ok(0);
        }
        let deleted = self.store.prune_keys(before, keep, now).await?;
        tracing::info!("deleted {deleted} keys that expired before {before}");
        Ok(deleted)
    }

    fn selection(&self) -> KeySelection {
        KeySelection::Unexpired {
            and_expired: self.expired_rows(),
        }
    }

    /// Number of expired rows to load. Only the last usable one matters; with bad
    /// rows twice as many are loaded, so that few loads get past them.
    fn expired_rows(&self) -> usize {
        (2 * self.bad.len()).max(1)
    }
}

fn first_due(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<(&'static str, Due)> {
    let mut kinds = KINDS.into_iter();
    kinds.find(|(_, due)| due(keys, policy, now).is_some())
}

fn usable(keys: &KeyRows, bad: &HashSet<Kid>) -> Vec<KeyTimes> {
    let times = keys.rows.iter().map(|row| row.times);
    times.filter(|times| !bad.contains(&times.kid)).collect()
}

/// A new key, sealed under the given entry of `NOT_MY_KEY`, and its kid.
pub(super) async fn generate_sealed(
    source: &Arc<dyn KeySource>,
    sealing_keys: &Arc<SealingKeys>,
    entry: usize,
) -> Result<(Kid, Vec<u8>), RotationError> {
    let (source, sealing_keys) = (Arc::clone(source), Arc::clone(sealing_keys));
    let made = tokio::task::spawn_blocking(move || -> Result<_, KeyError> {
        let key = source.generate()?;
        let kid = Kid::from_thumbprint(&key.public().thumbprint());
        Ok((kid, sealing_keys.seal_under(entry, key.to_pem().as_bytes())))
    });
    Ok(made.await??)
}
