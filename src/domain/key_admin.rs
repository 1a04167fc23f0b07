//! Changes of keys that operators ask for. Each works on the database alone, beside
//! running servers. These check for new key events every 500 ms, so they usually
//! follow within a second; under load it may take longer.

use std::fmt;
use std::sync::Arc;

use super::adopted_keys::AdoptedKey;
use super::bad_key::BadKey;
use super::opened_key::OpenedKey;
use super::rotation::{self, RotationError};
use crate::clock::{Clock, UnixTime};
use crate::crypto::fernet::SealingKeys;
use crate::crypto::rsa::KeySource;
use crate::lifecycle::{self, KeyTimes, Kid, Policy, Stage};
use crate::store::{
    AdoptedRow, KeyChange, KeyRow, KeyRows, KeySelection, NewKey, Store, StoreError,
};
pub use crate::store::{KeyEvent, KeyEventKind};

/// Keys that operators may publish at once, adopted ones among them: verifiers and gateways
/// stop reading large key sets, some at 50 KiB, some at 100 keys.
pub const MAX_PUBLISHED: usize = 16;

/// Operators' changes of the keys in one database.
pub struct KeyOperations {
    pub store: Store,
    pub sealing_keys: Arc<SealingKeys>,
    pub source: Arc<dyn KeySource>,
    pub policy: Policy,
    pub clock: Arc<dyn Clock>,
}

/// All that is shown of a key, ours or adopted.
#[derive(Debug)]
pub struct KeyStatus {
    pub kid: String,
    pub stage: Stage,
    /// `None` for keys of the earlier server.
    pub created_at: Option<UnixTime>,
    /// `None` for keys of the earlier server, which may sign at once.
    pub signs_from: Option<UnixTime>,
    /// Time at which another key takes over, unless keys change before; `None` when
    /// it never signs again.
    pub stops_signing: Option<UnixTime>,
    /// Time at which it leaves the key set, or has left it.
    pub unpublished_at: UnixTime,
    pub deleted_at: UnixTime,
    /// Index of the entry of `NOT_MY_KEY` that opens it.
    pub opened_by: Result<usize, BadKey>,
}

/// Numbers of keys after a re-encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reencrypted {
    /// Under the first entry of `NOT_MY_KEY` now, and not before.
    pub changed: usize,
    /// Under the first entry already.
    pub unchanged: usize,
    /// Opened by no entry, or not readable as a key, and left as they are.
    pub unreadable: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    #[error("there is no key {0}; `keys list` shows all")]
    Unknown(String),
    #[error("key {0} is not published any more")]
    NotPublished(String),
    #[error(
        "key {0} is the only one that can sign, and no other would be left: use `keys rotate --now`, which makes a new one"
    )]
    LastOne(Kid),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyOperations {
    /// Publishes a new key, which signs after the usual lead. Returns its times.
    pub async fn rotate(&self) -> Result<(Kid, UnixTime), RotationError> {
        let (kid, sealed) = self.generate_sealed().await?;
        let policy = self.policy;
        let decide = move |keys: &KeyRows, now| {
            let there = published(keys, now).len();
            if there >= MAX_PUBLISHED {
                return Err(RotationError::TooMany(there));
            }
            let span = lifecycle::rotated_key(&policy, now);
            let insert = Some(NewKey { kid, sealed, span });
            let change = KeyChange {
                insert,
                ..KeyChange::default()
            };
            Ok((change, span.signs_from))
        };
        let selection = KeySelection::Unexpired { and_expired: 0 };
        let signs_from = self
            .store
            .change_keys(selection, &self.clock, decide)
            .await?;
        Ok((kid, signs_from))
    }

    /// `keys rotate --now`, for an emergency: takes all keys out of the set, adopted ones
    /// too, since whoever has `NOT_MY_KEY` could adopt one, and puts a new one in, which
    /// signs at once. Returns the new one and those that were published.
    pub async fn emergency_rotate(
        &self,
        reason: String,
    ) -> Result<(Kid, Vec<String>), RotationError> {
        let (kid, sealed) = self.generate_sealed().await?;
        let policy = self.policy;
        let decide = move |keys: &KeyRows, now| {
            let span = lifecycle::emergency_key(&policy, now);
            let change = KeyChange {
                insert: Some(NewKey { kid, sealed, span }),
                revoke: revocable(keys),
                revoke_adopted: keys.adopted.iter().map(|row| row.kid.clone()).collect(),
                reason,
                ..KeyChange::default()
            };
            Ok::<_, RotationError>((change, published(keys, now)))
        };
        let gone = self
            .store
            .change_keys(KeySelection::All, &self.clock, decide)
            .await?;
        Ok((kid, gone))
    }

    /// Takes one key out of the set, unless no other could sign then.
    pub async fn revoke(&self, kid: impl fmt::Display, reason: String) -> Result<(), RevokeError> {
        let kid = kid.to_string();
        let (policy, sealing_keys) = (self.policy, Arc::clone(&self.sealing_keys));
        let decide = move |keys: &KeyRows, now| {
            let mut change = KeyChange {
                reason,
                ..KeyChange::default()
            };
            match keys.adopted.iter().find(|row| row.kid == kid) {
                Some(row) if row.times.is_published_at(now) => change.revoke_adopted.push(kid),
                Some(_) => return Err(RevokeError::NotPublished(kid)),
                None => {
                    let own = kid.parse().map_err(|_| RevokeError::Unknown(kid))?;
                    check_revocable(own, keys, &sealing_keys, &policy, now)?;
                    change.revoke.push(own);
                }
            }
            Ok((change, ()))
        };
        self.store
            .change_keys(KeySelection::All, &self.clock, decide)
            .await
    }

    /// Encrypts every key again that is not under the first entry of `NOT_MY_KEY`.
    pub async fn reencrypt(&self) -> Result<Reencrypted, StoreError> {
        let sealing_keys = Arc::clone(&self.sealing_keys);
        let decide = move |keys: &KeyRows, _| Ok(plan_reencryption(keys, &sealing_keys));
        self.store
            .change_keys(KeySelection::All, &self.clock, decide)
            .await
    }

    /// A new key, sealed under the entry of `NOT_MY_KEY` that is in use.
    async fn generate_sealed(&self) -> Result<(Kid, Vec<u8>), RotationError> {
        let entry = self.entry_in_use().await?;
        rotation::generate_sealed(&self.source, &self.sealing_keys, entry).await
    }

    /// Index of the entry of `NOT_MY_KEY` that opens the newest published key. A
    /// running server has it; it may not have the first one yet.
    pub(super) async fn entry_in_use(&self) -> Result<usize, RotationError> {
        let now = self.clock.now();
        let keys = self.store.all_keys().await?;
        let (sealing_keys, policy) = (Arc::clone(&self.sealing_keys), self.policy);
        let list = move || statuses(&keys, &sealing_keys, &policy, now);
        let published: Vec<_> = tokio::task::spawn_blocking(list)
            .await?
            .into_iter()
            .filter(|key| key.stage.is_published() && key.stage != Stage::Adopted)
            .collect();
        let mut newest_first = published.iter().rev();
        match newest_first.find_map(|key| key.opened_by.as_ref().ok()) {
            Some(&entry) => Ok(entry),
            None if published.is_empty() => Ok(0),
            None => Err(RotationError::OtherSealingKey),
        }
    }
}

/// Keys for an emergency to revoke. Expired ones too: by a clock that is set back
/// later they may not be expired. Bad rows too: another program may repair them.
fn revocable(keys: &KeyRows) -> Vec<Kid> {
    let rows = keys.rows.iter().filter(|row| !row.times.revoked);
    let bad = keys.bad.iter().map(|bad| Kid::from_row(bad.row));
    rows.map(|row| row.times.kid).chain(bad).collect()
}

pub(super) fn published_own(keys: &KeyRows, now: UnixTime) -> impl Iterator<Item = Kid> {
    let times = keys.rows.iter().map(|row| &row.times);
    times
        .filter(move |times| times.is_published_at(now))
        .map(|times| times.kid)
}

fn published(keys: &KeyRows, now: UnixTime) -> Vec<String> {
    let own = published_own(keys, now).map(|kid| kid.to_string());
    let adopted = keys.adopted.iter();
    let adopted = adopted.filter(|row| row.times.is_published_at(now));
    own.chain(adopted.map(|row| row.kid.clone())).collect()
}

/// Plan of a re-encryption. Each new sealed form is opened again, before
/// anything is written.
fn plan_reencryption(keys: &KeyRows, sealing_keys: &SealingKeys) -> (KeyChange, Reencrypted) {
    let mut change = KeyChange::default();
    let mut done = Reencrypted {
        unreadable: keys.bad.len(),
        ..Reencrypted::default()
    };
    let mut resealed = |sealed: &[u8]| {
        let Some((entry, plain)) = sealing_keys.open_with_index(sealed) else {
            done.unreadable += 1;
            return None;
        };
        if entry == 0 {
            done.unchanged += 1;
            return None;
        }
        let sealed = sealing_keys.seal(&plain);
        match sealing_keys.open_with_index(&sealed) {
            Some((0, again)) if again == plain => {
                done.changed += 1;
                Some(sealed)
            }
            _ => {
                done.unreadable += 1;
                None
            }
        }
    };
    for row in &keys.rows {
        let sealed = resealed(&row.sealed);
        change
            .reencrypt
            .extend(sealed.map(|it| (row.times.kid, it)));
    }
    for row in &keys.adopted {
        let sealed = resealed(&row.sealed);
        let sealed = sealed.map(|it| (row.kid.clone(), it));
        change.reencrypt_adopted.extend(sealed);
    }
    (change, done)
}

/// Status at `now` of the keys in `keys.rows`, then of adopted ones. Opens each one: slow,
/// call it on a blocking thread.
pub fn statuses(
    keys: &KeyRows,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Vec<KeyStatus> {
    let rows = &keys.rows;
    let opened: Vec<_> = rows.iter().map(|row| open(row, sealing_keys)).collect();
    // A server counts only on keys that open.
    let usable: Vec<_> = rows
        .iter()
        .zip(&opened)
        .filter(|(_, opened)| opened.is_ok())
        .map(|(row, _)| row.times)
        .collect();
    let own = rows
        .iter()
        .zip(opened)
        .map(|(row, opened_by)| status(row, opened_by, &usable, policy, now));
    let adopted = keys.adopted.iter();
    let adopted = adopted.map(|row| adopted_status(row, sealing_keys, policy, now));
    own.chain(adopted).collect()
}

fn adopted_status(
    row: &AdoptedRow,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> KeyStatus {
    let opened = AdoptedKey::open(row, sealing_keys);
    let times = *opened.as_ref().map_or(&row.times, AdoptedKey::times);
    let entry = || sealing_keys.open_with_index(&row.sealed).map(|it| it.0);
    KeyStatus {
        kid: row.kid.clone(),
        stage: lifecycle::adopted_stage(&times, now),
        created_at: Some(times.adopted_at),
        signs_from: None,
        stops_signing: None,
        unpublished_at: times.until,
        deleted_at: lifecycle::deleted_at(times.until, policy),
        opened_by: opened.and_then(|_| entry().ok_or(BadKey::NotOpened)),
    }
}

fn open(row: &KeyRow, sealing_keys: &SealingKeys) -> Result<usize, BadKey> {
    let (entry, _) = sealing_keys
        .open_with_index(&row.sealed)
        .ok_or(BadKey::NotOpened)?;
    OpenedKey::open(row, sealing_keys)?;
    Ok(entry)
}

fn status(
    row: &KeyRow,
    opened_by: Result<usize, BadKey>,
    usable: &[KeyTimes],
    policy: &Policy,
    now: UnixTime,
) -> KeyStatus {
    let times = &row.times;
    let stage = lifecycle::stage(times, usable, policy, now);
    KeyStatus {
        kid: times.kid.to_string(),
        stage,
        created_at: row.times.created_at,
        signs_from: times.signs_from,
        stops_signing: stage
            .will_sign()
            .then(|| lifecycle::stops_signing(times, usable, policy)),
        unpublished_at: times.published_until(),
        deleted_at: lifecycle::deleted_at(times.expires_at, policy),
        opened_by,
    }
}

/// Refuses an unknown key, one that is not published, and the last that can sign.
fn check_revocable(
    kid: Kid,
    keys: &KeyRows,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Result<(), RevokeError> {
    let published = |row: &&KeyRow| row.times.is_published_at(now);
    let row = keys.rows.iter().find(|row| row.times.kid == kid);
    let is_bad = keys.bad.iter().any(|bad| bad.row == kid.as_i64());
    match row {
        None if !is_bad => return Err(RevokeError::Unknown(kid.to_string())),
        Some(row) if published(&row) => {}
        _ => return Err(RevokeError::NotPublished(kid.to_string())),
    }
    let others = keys.rows.iter().filter(published);
    // A key that does not open cannot take over.
    let rest: Vec<_> = others
        .filter(|row| row.times.kid != kid)
        .filter(|row| OpenedKey::open(row, sealing_keys).is_ok())
        .map(|row| row.times)
        .collect();
    match lifecycle::signer(&rest, policy, now) {
        Some(_) => Ok(()),
        None => Err(RevokeError::LastOne(kid)),
    }
}
