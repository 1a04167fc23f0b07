//! What doctor says of the keys of an inspected database, and of the key set that a
//! service gives out beside it. Reads nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use super::Inspection;
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
use crate::domain::adopted_keys::AdoptedKey;
use crate::domain::key_admin::{self, KeyStatus};
use crate::domain::opened_key::OpenedKey;
use crate::domain::verification::KeySet;
use crate::lifecycle::{self, Policy};

/// The latest time that is stored in the database.
pub fn newest_time(found: &Inspection) -> Option<UnixTime> {
    let created = found
        .keys
        .rows
        .iter()
        .filter_map(|row| row.times.created_at);
    created.chain(found.last_sign_in).max()
}

/// State of the keys of an inspected database.
pub struct KeyReview {
    /// Keys whose rows could be read.
    pub statuses: Vec<KeyStatus>,
    /// Time at which the next key is, or was, due; none when it is due at once.
    pub next_due: Option<UnixTime>,
}

/// Opens each key: slow.
pub fn review_keys(
    found: &Inspection,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> KeyReview {
    let rows = &found.keys.rows;
    let statuses = key_admin::statuses(&found.keys, sealing_keys, policy, now);
    let usable: Vec<_> = rows
        .iter()
        .zip(&statuses)
        .filter(|(_, status)| status.opened_by.is_ok())
        .map(|(row, _)| row.times)
        .collect();
    KeyReview {
        next_due: lifecycle::next_due(&usable, policy, now),
        statuses,
    }
}

/// Difference between the key set that a service gives out and the published keys
/// of a database.
#[derive(Debug, PartialEq, Eq)]
pub enum Difference {
    /// Kids in the key set that the database does not publish.
    Extra(Vec<String>),
    /// Kids of keys that open and are not in the key set.
    Missing(Vec<String>),
}

/// Compares both. Without `sealing_keys` no key is known to open, so none is missing.
pub fn difference(
    set: &KeySet,
    found: &Inspection,
    sealing_keys: Option<&SealingKeys>,
    now: UnixTime,
) -> Option<Difference> {
    // By kid, whether the key is known to open.
    let mut published = BTreeMap::new();
    for row in &found.keys.rows {
        if row.times.is_published_at(now) {
            let opens = sealing_keys.is_some_and(|keys| OpenedKey::open(row, keys).is_ok());
            published.insert(row.times.kid.to_string(), opens);
        }
    }
    for row in &found.keys.adopted {
        if row.times.is_published_at(now) {
            let opened = sealing_keys.and_then(|keys| AdoptedKey::open(row, keys).ok());
            // It may end before its row does.
            let opens = opened.is_some_and(|key| key.times().is_published_at(now));
            *published.entry(row.kid.clone()).or_default() |= opens;
        }
    }
    let served: BTreeSet<&str> = set.kids().collect();
    let extra = served.iter().filter(|&&kid| !published.contains_key(kid));
    let extra: Vec<_> = extra.map(|&kid| kid.to_owned()).collect();
    if !extra.is_empty() {
        return Some(Difference::Extra(extra));
    }
    published.retain(|kid, opens| *opens && !served.contains(kid.as_str()));
    let missing: Vec<_> = published.into_keys().collect();
    (!missing.is_empty()).then_some(Difference::Missing(missing))
}
