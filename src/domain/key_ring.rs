//! The keys in memory: one snapshot of opened keys, from which both the key set
//! and the signer are taken, replaced as a whole after each load from the
//! database. Sealed rows become keys only here.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::adopted_keys::AdoptedKey;
pub use super::bad_key::BadKey;
pub use super::document::Document;
use super::document::{Jwk, JwkSet, Member};
use crate::clock::{Clock, Reading, StepWatch, UnixTime};
use crate::crypto::fernet::SealingKeys;
use crate::crypto::rsa::PrivateKey;
use crate::lifecycle::{self, KeyTimes, Kid, Policy};
use crate::store::{AdoptedRow, KeyRow};

/// A request waits this long for a key to sign or publish before it is refused.
const MAX_KEY_WAIT: Duration = Duration::from_secs(5);

/// Kids of the earlier server count up from 1; one above this number is a thumbprint's.
/// A thumbprint's is below it once in two million keys, and is then checked only if the
/// row has times.
const HIGHEST_COUNTED_KID: i64 = 1 << 32;

/// Start of every Fernet token: version and the upper half of the time.
const FERNET: &[u8] = b"gAAAAA";

/// A key that was opened, with its times.
#[derive(Debug)]
pub struct OpenedKey {
    times: KeyTimes,
    sealed: Vec<u8>,
    private: Arc<PrivateKey>,
    /// True once this process has recorded that the key has signed.
    used: Arc<AtomicBool>,
    thumbprint: Kid,
}

impl OpenedKey {
    /// Opens the key of a row. Slow: call it on a blocking thread.
    pub fn open(row: &KeyRow, sealing_keys: &SealingKeys) -> Result<Self, BadKey> {
        let times = row.times;
        let pem = sealing_keys
            .open(&row.sealed)
            .ok_or_else(|| match is_pem(&row.sealed) {
                true => BadKey::InTheClear,
                false => BadKey::NotOpened,
            })?;
        let private = PrivateKey::from_pem(&pem)?;
        let thumbprint = Kid::from_thumbprint(&private.public().thumbprint());
        // Rows of the earlier server have no times, and kids that count from one.
        let named = match times.signs_from.is_some() || times.kid.as_i64() > HIGHEST_COUNTED_KID {
            true => times.kid,
            false if !row.is_of_earlier_server => return Err(BadKey::Added),
            false => row.thumbprint.unwrap_or(thumbprint),
        };
        if named != thumbprint {
            return Err(BadKey::WrongKid);
        }
        Ok(Self {
            times,
            sealed: row.sealed.clone(),
            private: Arc::new(private),
            used: Arc::default(),
            thumbprint,
        })
    }

    /// The same key with other times and another sealed form.
    fn with(&self, times: KeyTimes, sealed: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            times,
            sealed,
            private: Arc::clone(&self.private),
            used: Arc::clone(&self.used),
            thumbprint: self.thumbprint,
        })
    }

    /// The same key, never published again.
    fn withdrawn(&self) -> Arc<Self> {
        let mut times = self.times;
        times.withdrawn = true;
        self.with(times, self.sealed.clone())
    }

    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    pub fn set_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    pub fn kid(&self) -> Kid {
        self.times.kid
    }

    /// First 53 bits of the thumbprint: the kid, except of an earlier server's key.
    pub fn thumbprint(&self) -> Kid {
        self.thumbprint
    }

    pub fn times(&self) -> &KeyTimes {
        &self.times
    }

    pub fn private(&self) -> &PrivateKey {
        &self.private
    }
}

/// A key set, and the first second in which it must not be served any more.
#[derive(Debug)]
struct PublishedSet {
    document: Document,
    until: UnixTime,
}

/// The keys of one load from the database.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Sorted by the end of their publication.
    keys: Vec<Arc<OpenedKey>>,
    times: Vec<KeyTimes>,
    /// Of another issuer. Sorted by the end of their publication.
    adopted: Vec<Arc<AdoptedKey>>,
    /// Key sets in order of time, one for each time at which a key leaves. The first
    /// one whose `until` has not come is the current one.
    sets: Vec<PublishedSet>,
}

impl Snapshot {
    fn new(mut keys: Vec<Arc<OpenedKey>>, mut adopted: Vec<Arc<AdoptedKey>>) -> Self {
        keys.sort_by_key(|key| (key.times.expires_at, key.times.kid));
        adopted.sort_by(|a, b| (a.times().until, a.kid()).cmp(&(b.times().until, b.kid())));
        let own_ends = keys.iter().map(|key| key.times.published_until());
        let ends = own_ends.chain(adopted.iter().map(|key| key.times().until));
        let ends: BTreeSet<_> = ends.collect();
        let sets = ends
            .into_iter()
            .filter_map(|until| set_until(&keys, &adopted, until));
        let sets = sets.collect();
        Self {
            times: keys.iter().map(|key| key.times).collect(),
            adopted,
            keys,
            sets,
        }
    }

    /// The key set at `now`; none when no key is left.
    pub fn published(&self, now: UnixTime) -> Option<&Document> {
        let set = self.sets.iter().find(|set| now < set.until);
        set.map(|set| &set.document)
    }

    /// The key that signs at `now`.
    pub fn signing(&self, policy: &Policy, now: UnixTime) -> Option<&Arc<OpenedKey>> {
        lifecycle::signer(&self.times, policy, now).and_then(|times| self.by_kid(times.kid))
    }

    /// The key that expired last.
    pub fn last_expired(&self, now: UnixTime) -> Option<&Arc<OpenedKey>> {
        lifecycle::last_expired(&self.times, now).and_then(|times| self.by_kid(times.kid))
    }

    /// The key of expired tokens, which is never published again, and the time by
    /// which it has expired: `earliest`, as the clock may be ahead at `now`, unless
    /// no key had expired by then.
    pub fn expired(
        &self,
        now: UnixTime,
        earliest: UnixTime,
    ) -> Option<(&Arc<OpenedKey>, UnixTime)> {
        let by = |at| self.last_expired(at).map(|key| (key, at));
        by(earliest).or_else(|| by(now))
    }

    pub fn times(&self) -> &[KeyTimes] {
        &self.times
    }

    /// Keys of another issuer, which never sign.
    pub fn adopted(&self) -> &[Arc<AdoptedKey>] {
        &self.adopted
    }

    fn by_kid(&self, kid: Kid) -> Option<&Arc<OpenedKey>> {
        self.keys.iter().find(|key| key.kid() == kid)
    }
}

/// Holds the current [`Snapshot`] of the process.
#[derive(Debug)]
pub struct KeyRing {
    current: ArcSwap<Snapshot>,
    /// Locked for a moment while a snapshot is derived from the current one.
    replacing: Mutex<()>,
    changed: watch::Sender<()>,
    steps: StepWatch,
}

impl Default for KeyRing {
    fn default() -> Self {
        Self {
            current: ArcSwap::default(),
            replacing: Mutex::default(),
            changed: watch::Sender::new(()),
            steps: StepWatch::default(),
        }
    }
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
            if let Some(key) = before.filter(|k| k.times == row.times && k.sealed == row.sealed) {
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
            let is_withdrawn = |kid| current.by_kid(kid).is_some_and(|key| key.times.withdrawn);
            for key in &mut keys {
                if !key.times.withdrawn && is_withdrawn(key.kid()) {
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
        match row.is_of_earlier_server && row.thumbprint.is_none() && row.times.signs_from.is_none()
        {
            true => Err(BadKey::Added),
            false => Ok(key),
        }
    }

    /// Takes a key out of the key sets for good; the database says so already.
    pub fn withdraw(&self, kid: Kid) {
        self.replace(|current| {
            let keys = current.keys.iter();
            let key = |key: &Arc<OpenedKey>| match key.kid() == kid {
                true => key.withdrawn(),
                false => Arc::clone(key),
            };
            (keys.map(key).collect(), current.adopted.clone())
        });
    }

    fn replace(&self, keys: impl FnOnce(&Snapshot) -> (Vec<Arc<OpenedKey>>, Vec<Arc<AdoptedKey>>)) {
        let _lock = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
        let before = known.adopted.iter().find(|key| key.kid() == row.kid);
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

/// Sealed form of a key that an earlier server left in the clear; `None` when it is no such key.
pub fn seal_clear(stored: &[u8], sealing_keys: &SealingKeys) -> Option<Vec<u8>> {
    let key = PrivateKey::from_pem(stored)
        .ok()
        .filter(|_| is_pem(stored))?;
    Some(sealing_keys.seal(key.to_pem().as_bytes()).into_bytes())
}

fn is_pem(stored: &[u8]) -> bool {
    stored.starts_with(b"-----BEGIN ")
}

/// False when not one of the published rows that look like Fernet tokens opens,
/// if there are any: then `NOT_MY_KEY` is another database's.
pub fn sealing_keys_fit(rows: Vec<KeyRow>, sealing_keys: &SealingKeys, now: UnixTime) -> bool {
    let is_published =
        |row: &KeyRow| row.times.is_published_at(now) && row.sealed.starts_with(FERNET);
    let published: Vec<_> = rows.into_iter().filter(is_published).collect();
    let opens = |row: KeyRow| OpenedKey::open(&row, sealing_keys).is_ok();
    published.is_empty() || published.into_iter().rev().any(opens)
}

/// The key set of the last second before `until`, at which a key leaves it; `None` where
/// none of our own is published then. Adopted keys come last: python-jose fails at a
/// key of another `kty` before the one that it needs.
fn set_until(
    keys: &[Arc<OpenedKey>],
    adopted: &[Arc<AdoptedKey>],
    until: UnixTime,
) -> Option<PublishedSet> {
    let last_second = until - Duration::from_secs(1);
    let own = keys
        .iter()
        .filter(|key| key.times.is_published_at(last_second))
        .map(|key| Member::Own(Jwk::new(key.kid(), key.private.public())));
    let own: Vec<_> = own.collect();
    let has_own = !own.is_empty();
    let adopted = adopted
        .iter()
        .filter(|key| key.times().is_published_at(last_second))
        .map(|key| Member::Adopted(key.jwk().members()));
    let set = JwkSet {
        keys: own.into_iter().chain(adopted).collect(),
    };
    has_own.then(|| PublishedSet {
        document: Document::new(&set),
        until,
    })
}
