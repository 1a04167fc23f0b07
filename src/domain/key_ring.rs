//! The keys in memory: one snapshot, replaced as a whole after each load from the
//! database.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::adopted_keys::AdoptedKey;
use super::bad_key::BadKey;
use super::opened_key::OpenedKey;
use super::snapshot::Snapshot;
use crate::clock::{Clock, Reading, StepWatch, UnixTime};
use crate::crypto::fernet::SealingKeys;
use crate::lifecycle::Kid;
use crate::store::{AdoptedRow, KeyRow};

/// A request waits this long for a key to sign or publish before it is refused.
const MAX_KEY_WAIT: Duration = Duration::from_secs(5);

/// Holds the current [`Snapshot`] of the process.
#[derive(Debug, Default)]
pub struct KeyRing {
    current: ArcSwap<Snapshot>,
    /// Locked for a moment while a snapshot is derived from the current one.
    replacing: Mutex<()>,
    changed: watch::Sender<()>,
    steps: StepWatch,
}

impl KeyRing {
    /// The current snapshot. Costs one atomic load.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The wall-clock time as far as this process can rely on it.
    pub fn reading(&self, clock: &dyn Clock) -> Reading {
        self.steps.read(clock)
    }

    /// Result of `pick` on the snapshot, now or as soon as a later snapshot has
    /// one; `None` when none does within a few seconds. The clock is read for
    /// each attempt.
    pub async fn wait_for<T>(
        &self,
        clock: &dyn Clock,
        pick: impl Fn(&Snapshot, UnixTime) -> Option<T>,
    ) -> Option<(T, UnixTime)> {
        let attempt = || {
            let now = clock.now();
            pick(&self.snapshot(), now).map(|found| (found, now))
        };
        if let Some(found) = attempt() {
            return Some(found);
        }
        let mut changes = self.changed.subscribe();
        tokio::time::timeout(MAX_KEY_WAIT, async {
            loop {
                // Subscribed before this attempt, so no change is missed.
                if let Some(found) = attempt() {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        })
        .await
        .ok()
        .flatten()
    }

    /// Loads the rows of the database: opens new ones, keeps known ones, and
    /// replaces the snapshot. Returns the rows that did not open.
    ///
    /// A known key stays in use when its row no longer opens, as when another
    /// process has encrypted it under an entry of `NOT_MY_KEY` that this one does
    /// not have: there are live tokens of it.
    /// Slow: call it on a blocking thread.
    pub fn load(
        &self,
        rows: Vec<KeyRow>,
        adopted: Vec<AdoptedRow>,
        sealing_keys: &SealingKeys,
    ) -> Vec<Unopened> {
        let known = self.current.load_full();
        let mut unopened = Vec::new();
        let adopted = open_adopted(adopted, &known, sealing_keys, &mut unopened);
        let mut keys = Vec::with_capacity(rows.len());
        for row in rows {
            let before = known.by_kid(row.times.kid);
            if let Some(key) = before.filter(|key| key.is_of(&row)) {
                keys.push(Arc::clone(key));
                continue;
            }
            match Self::open(&row, sealing_keys) {
                Ok(key) => keys.push(Arc::new(key)),
                Err(reason) => {
                    unopened.push(Unopened {
                        kid: row.times.kid.to_string(),
                        own: Some(row.times.kid),
                        reason,
                        still_used: before.is_some(),
                    });
                    keys.extend(before.map(|key| key.with(row.times, row.sealed)));
                }
            }
        }
        self.replace(|current| {
            // Withdrawn since the rows were read.
            let is_withdrawn = |kid| current.by_kid(kid).is_some_and(|key| key.times().withdrawn);
            for key in &mut keys {
                if !key.times().withdrawn && is_withdrawn(key.kid()) {
                    *key = key.withdrawn();
                }
            }
            (keys, adopted)
        });
        unopened
    }

    /// Each start records the thumbprints of an earlier server's keys, by which they stay
    /// revoked under any kid. A key without one was added since.
    fn open(row: &KeyRow, sealing_keys: &SealingKeys) -> Result<OpenedKey, BadKey> {
        let key = OpenedKey::open(row, sealing_keys)?;
        match row.is_of_earlier_server
            && row.thumbprint_kid.is_none()
            && row.times.signs_from.is_none()
        {
            true => Err(BadKey::Added),
            false => Ok(key),
        }
    }

    /// Takes a key out of the key sets for good; the database says so already.
    pub fn withdraw(&self, kid: Kid) {
        self.replace(|current| {
            let keys = current.keys().iter();
            let key = |key: &Arc<OpenedKey>| match key.kid() == kid {
                true => key.withdrawn(),
                false => Arc::clone(key),
            };
            (keys.map(key).collect(), current.adopted().to_vec())
        });
    }

    fn replace(&self, keys: impl FnOnce(&Snapshot) -> (Vec<Arc<OpenedKey>>, Vec<Arc<AdoptedKey>>)) {
        let _lock = self.replacing.lock();
        let (own, adopted) = keys(&self.current.load());
        self.current.store(Arc::new(Snapshot::new(own, adopted)));
        self.changed.send_replace(());
    }
}

/// A row that gave no key.
#[derive(Debug)]
pub struct Unopened {
    pub kid: String,
    /// None of an adopted key.
    pub own: Option<Kid>,
    pub reason: BadKey,
    /// The key is used all the same, from an earlier load.
    pub still_used: bool,
}

/// Known keys stay in use when their rows no longer open, as our own do.
fn open_adopted(
    rows: Vec<AdoptedRow>,
    known: &Snapshot,
    sealing_keys: &SealingKeys,
    unopened: &mut Vec<Unopened>,
) -> Vec<Arc<AdoptedKey>> {
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        let before = known.adopted().iter().find(|key| key.kid() == row.kid);
        if let Some(key) = before.filter(|key| *key.row() == row) {
            keys.push(Arc::clone(key));
            continue;
        }
        match AdoptedKey::open(&row, sealing_keys) {
            Ok(key) => keys.push(Arc::new(key)),
            Err(reason) => {
                unopened.push(Unopened {
                    kid: row.kid.clone(),
                    own: None,
                    reason,
                    still_used: before.is_some(),
                });
                keys.extend(before.map(|key| Arc::new(key.with(row))));
            }
        }
    }
    keys
}
