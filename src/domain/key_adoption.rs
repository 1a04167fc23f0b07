//! `keys adopt`: publishing keys of another issuer, and the reasons to refuse it.

use std::sync::Arc;

use super::adopted_keys::{AdoptedKey, MAX_ADOPTED, PublicJwk};
use super::key_admin::{KeyOperations, MAX_PUBLISHED, published_own};
use super::rotation::RotationError;
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
use crate::lifecycle::Kid;
use crate::store::{AdoptedRow, KeyChange, KeyRows, KeySelection, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error("--until must be in the future")]
    Past,
    #[error("key {0:?} has the kid of another key; `keys list` shows it")]
    SameKid(String),
    #[error("two keys of the source have the kid {0:?}")]
    SameKidInSource(String),
    #[error("key {0:?} is twice in the source")]
    Twice(String),
    #[error("key {0:?} is this service's own key {1}, which cannot be adopted")]
    OwnKey(String, String),
    #[error("key {0:?} is the same key as {1:?}")]
    SameKey(String, String),
    #[error(
        "{0} adopted keys would be published, and at most {MAX_ADOPTED} may be; `keys list` shows when one leaves"
    )]
    TooManyAdopted(usize),
    #[error(
        "{0} keys would be published, and at most {MAX_PUBLISHED} may be: verifiers stop reading large key sets; `keys list` shows when one leaves"
    )]
    TooManyPublished(usize),
    #[error(transparent)]
    Rotation(#[from] RotationError),
    #[error(transparent)]
    Revoked(StoreError),
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for AdoptError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Revoked(_) => Self::Revoked(error),
            _ => Self::Store(error),
        }
    }
}

impl KeyOperations {
    /// Publishes keys of another issuer until `until`. One that is adopted already gets
    /// the new end.
    pub async fn adopt(
        &self,
        keys: Vec<PublicJwk>,
        until: UnixTime,
        reason: String,
    ) -> Result<(), AdoptError> {
        let entry = self.entry_in_use().await?;
        let seal = |key: &PublicJwk| key.sealed(&self.sealing_keys, entry, until);
        let adopt: Vec<_> = keys.iter().map(seal).collect();
        let sealing_keys = Arc::clone(&self.sealing_keys);
        let decide = move |there: &KeyRows, now| {
            check_adoptable(&keys, there, &sealing_keys, until, now)?;
            let change = KeyChange {
                adopt,
                reason,
                ..KeyChange::default()
            };
            Ok((change, ()))
        };
        self.store
            .change_keys(KeySelection::All, &self.clock, decide)
            .await
    }
}

fn check_adoptable(
    keys: &[PublicJwk],
    there: &KeyRows,
    sealing_keys: &SealingKeys,
    until: UnixTime,
    now: UnixTime,
) -> Result<(), AdoptError> {
    if until <= now {
        return Err(AdoptError::Past);
    }
    let opened: Vec<_> = there
        .adopted
        .iter()
        .filter_map(|row| AdoptedKey::open(row, sealing_keys).ok())
        .collect();
    for (n, key) in keys.iter().enumerate() {
        if let Some(e) = collision(key, &keys[..n], there, &opened) {
            return Err(e);
        }
    }
    let is_given = |row: &&AdoptedRow| keys.iter().any(|key| key.kid() == row.kid);
    let is_published = |row: &&AdoptedRow| row.times.is_published_at(now);
    let others = there.adopted.iter().filter(|row| !is_given(row));
    let adopted = others.filter(is_published).count() + keys.len();
    if adopted > MAX_ADOPTED {
        return Err(AdoptError::TooManyAdopted(adopted));
    }
    let all = published_own(there, now).count() + adopted;
    match all > MAX_PUBLISHED {
        true => Err(AdoptError::TooManyPublished(all)),
        false => Ok(()),
    }
}

/// Why `key` cannot stand beside the keys that are there, published or not, and those
/// before it in its set: a kid never names two keys, nor two kids one key.
fn collision(
    key: &PublicJwk,
    before: &[PublicJwk],
    there: &KeyRows,
    opened: &[AdoptedKey],
) -> Option<AdoptError> {
    let same_kid = || Some(AdoptError::SameKid(key.kid().to_owned()));
    let same_key = |kid: String| Some(AdoptError::SameKey(key.kid().to_owned(), kid));
    let own = there
        .rows
        .iter()
        .map(|row| (row.times.kid, row.thumbprint_kid));
    let bad = there.bad.iter().map(|bad| (Kid::from_row(bad.row), None));
    for (kid, thumbprint_kid) in own.chain(bad) {
        let print = Kid::from_thumbprint(key.thumbprint());
        if print == kid || Some(print) == thumbprint_kid {
            return Some(AdoptError::OwnKey(key.kid().to_owned(), kid.to_string()));
        }
        if key.kid() == kid.to_string() {
            return same_kid();
        }
    }
    if let Some(row) = there.adopted.iter().find(|row| row.kid == key.kid()) {
        if row.times.revoked {
            return Some(StoreError::Revoked(key.kid().to_owned()).into());
        }
        let other = opened.iter().find(|other| other.kid() == key.kid());
        if other.is_none_or(|other| other.jwk().thumbprint() != key.thumbprint()) {
            return same_kid();
        }
    }
    if let Some(other) = before.iter().find(|other| other.kid() == key.kid()) {
        let kid = key.kid().to_owned();
        return Some(match other.thumbprint() == key.thumbprint() {
            true => AdoptError::Twice(kid),
            false => AdoptError::SameKidInSource(kid),
        });
    }
    let others = before.iter().chain(opened.iter().map(AdoptedKey::jwk));
    let mut others = others.filter(|other| other.kid() != key.kid());
    let twin = others.find(|other| other.thumbprint() == key.thumbprint());
    twin.and_then(|other| same_key(other.kid().to_owned()))
}
