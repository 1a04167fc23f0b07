//! The keys of one load from the database: both the key set and the signer are taken from
//! it. Its key sets are finished bytes, one for each time at which a key leaves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::adopted_keys::AdoptedKey;
use super::document::{Document, Jwk, JwkSet, Member};
use super::opened_key::OpenedKey;
use crate::clock::UnixTime;
use crate::lifecycle::{self, KeyTimes, Kid, Policy};

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
    pub(super) fn new(mut keys: Vec<Arc<OpenedKey>>, mut adopted: Vec<Arc<AdoptedKey>>) -> Self {
        keys.sort_by_key(|key| (key.times().expires_at, key.kid()));
        adopted.sort_by(|a, b| (a.times().until, a.kid()).cmp(&(b.times().until, b.kid())));
        let own_ends = keys.iter().map(|key| key.times().published_until());
        let ends = own_ends.chain(adopted.iter().map(|key| key.times().until));
        let ends: BTreeSet<_> = ends.collect();
        let sets = ends
            .into_iter()
            .filter_map(|until| set_until(&keys, &adopted, until));
        let sets = sets.collect();
        Self {
            times: keys.iter().map(|key| *key.times()).collect(),
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
    pub fn last_unpublished(&self, now: UnixTime) -> Option<&Arc<OpenedKey>> {
        lifecycle::last_unpublished(&self.times, now).and_then(|times| self.by_kid(times.kid))
    }

    /// The key of expired tokens, which is never published again, and the time by
    /// which it has expired: `earliest`, as the clock may be ahead at `now`, unless
    /// no key had expired by then.
    pub fn expired(
        &self,
        now: UnixTime,
        earliest: UnixTime,
    ) -> Option<(&Arc<OpenedKey>, UnixTime)> {
        let by = |at| self.last_unpublished(at).map(|key| (key, at));
        by(earliest).or_else(|| by(now))
    }

    pub fn times(&self) -> &[KeyTimes] {
        &self.times
    }

    pub(super) fn keys(&self) -> &[Arc<OpenedKey>] {
        &self.keys
    }

    /// Keys of another issuer, which never sign.
    pub fn adopted(&self) -> &[Arc<AdoptedKey>] {
        &self.adopted
    }

    pub(super) fn by_kid(&self, kid: Kid) -> Option<&Arc<OpenedKey>> {
        self.keys.iter().find(|key| key.kid() == kid)
    }
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
        .filter(|key| key.times().is_published_at(last_second))
        .map(|key| Member::Own(Jwk::new(key.kid(), key.private().public())));
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
