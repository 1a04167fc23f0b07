//! What operators do to keys by hand. Each step works on the database alone,
//! beside running servers, which notice within a second.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::key_ring::{BadKey, OpenedKey};
use super::rotation::{self, RotationError};
use crate::clock::{Clock, UnixTime};
use crate::crypto::fernet::SealingKeys;
use crate::crypto::rsa::KeySource;
use crate::lifecycle::{self, Policy, Stage};
use crate::lifecycle::{KeyTimes, Kid};
pub use crate::store::{KeyEvent, KeyEventKind, Resealed};
use crate::store::{KeyRow, Reseal, Store, StoreError};

/// The operations over one database.
pub struct KeyOperations {
    store: Store,
    secrets: Arc<SealingKeys>,
    source: Arc<dyn KeySource>,
    policy: Policy,
    clock: Arc<dyn Clock>,
}

/// Everything that can be said of a key.
#[derive(Debug)]
pub struct KeyStatus {
    /// Which.
    pub kid: Kid,
    /// Where it stands.
    pub stage: Stage,
    /// When it was made; none for keys of the earlier server.
    pub created_at: Option<UnixTime>,
    /// From when it signs; none for keys of the earlier server, which may at once.
    pub signs_from: Option<UnixTime>,
    /// When another takes over, as things stand; none when it never signs again.
    pub stops_signing: Option<UnixTime>,
    /// When it leaves, or has left, the set.
    pub unpublished_at: UnixTime,
    /// When its row is deleted.
    pub deleted_at: UnixTime,
    /// The entry of `NOT_MY_KEY` that opens it, counted from 0, or why none does.
    pub opened_by: Result<usize, BadKey>,
}

/// Why a key was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is no such key.
    #[error("there is no key {0}; `keys list` shows all")]
    Unknown(Kid),
    /// It is not published any more.
    #[error("key {0} is not published any more")]
    NotPublished(Kid),
    /// No other key could sign then.
    #[error(
        "key {0} is the only one that can sign, and nothing would be left: use `keys rotate --now`, which puts a new one in its place"
    )]
    LastOne(Kid),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyOperations {
    /// Operations on `store`; new keys come from `source`.
    pub fn new(
        store: Store,
        secrets: Arc<SealingKeys>,
        source: Arc<dyn KeySource>,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            secrets,
            source,
            policy,
            clock,
        }
    }

    /// All keys, in the order of their making, as they stand at `now`. A
    /// program that lists them opens each one: slow, but nothing is assumed.
    pub async fn list(&self, now: UnixTime) -> Result<Vec<KeyStatus>, RotationError> {
        let rows = self.store.all_keys().await?;
        let (secrets, policy) = (Arc::clone(&self.secrets), self.policy);
        let list = move || statuses(&rows, &secrets, &policy, now);
        Ok(tokio::task::spawn_blocking(list).await?)
    }

    /// Publishes a new key, which signs after the usual lead. Returns its times.
    pub async fn rotate(&self) -> Result<(Kid, UnixTime), RotationError> {
        let entry = self.entry_in_use().await?;
        let (kid, sealed) = rotation::make_sealed(&self.source, &self.secrets, entry).await?;
        let policy = self.policy;
        let (tell, told) = oneshot::channel();
        let span = move |_: &[KeyTimes], now| {
            let span = lifecycle::rotated_key(&policy, now);
            let _ = tell.send(span.signs_from);
            Some(span)
        };
        self.store
            .insert_key_if_due(kid, sealed.into_bytes(), 0, Arc::clone(&self.clock), span)
            .await?;
        // It was told before the insertion, or there would have been an error.
        Ok((kid, told.await.unwrap_or_else(|_| self.clock.now())))
    }

    /// Takes all keys out of the set and puts a new one in, which signs at
    /// once. Returns the new one and those that went.
    pub async fn replace_all(&self, reason: String) -> Result<(Kid, Vec<Kid>), RotationError> {
        let entry = self.entry_in_use().await?;
        let (kid, sealed) = rotation::make_sealed(&self.source, &self.secrets, entry).await?;
        let policy = self.policy;
        let span = move |now| lifecycle::emergency_key(&policy, now);
        let clock = Arc::clone(&self.clock);
        let gone = self
            .store
            .replace_keys(kid, sealed.into_bytes(), reason, clock, span)
            .await?;
        Ok((kid, gone))
    }

    /// Takes one key out of the set, unless no other could sign then.
    pub async fn revoke(&self, kid: Kid, reason: String) -> Result<(), RevokeError> {
        if !self.store.has_key(kid).await? {
            return Err(RevokeError::Unknown(kid));
        }
        let (policy, secrets) = (self.policy, Arc::clone(&self.secrets));
        let allowed = move |keys: &[KeyRow], now| may_revoke(kid, keys, &secrets, &policy, now);
        let clock = Arc::clone(&self.clock);
        self.store.revoke_key(kid, reason, clock, allowed).await?
    }

    /// The entry of `NOT_MY_KEY` that opens the newest published key. A running
    /// server has it; it may not have the first one yet.
    async fn entry_in_use(&self) -> Result<usize, RotationError> {
        let now = self.clock.now();
        let published: Vec<_> = self
            .list(now)
            .await?
            .into_iter()
            .filter(|key| key.stage.is_published())
            .collect();
        let newest_first = published.iter().rev();
        match newest_first
            .filter_map(|key| key.opened_by.as_ref().ok())
            .next()
        {
            Some(&entry) => Ok(entry),
            None if published.is_empty() => Ok(0),
            None => Err(RotationError::OtherSecrets),
        }
    }

    /// Encrypts every key anew that is not under the first entry of
    /// `NOT_MY_KEY`, and opens each again before anything is committed.
    pub async fn reencrypt(&self) -> Result<Resealed, StoreError> {
        let secrets = Arc::clone(&self.secrets);
        let reseal = move |_, sealed: &[u8]| match secrets.open_with_index(sealed) {
            Some((0, _)) => Reseal::Keep,
            Some((_, plain)) => {
                let anew = secrets.seal(&plain).into_bytes();
                match secrets.open_with_index(&anew) {
                    Some((0, again)) if again == plain => Reseal::Replace(anew),
                    _ => Reseal::Unreadable,
                }
            }
            None => Reseal::Unreadable,
        };
        self.store.reseal_keys(self.clock.now(), reseal).await
    }

    /// The latest events of keys.
    pub async fn history(&self, limit: u32) -> Result<Vec<KeyEvent>, StoreError> {
        self.store.key_history(limit).await
    }
}

/// How the keys in `rows` stand at `now`. Opens each one: slow, call it on a
/// blocking thread.
pub fn statuses(
    rows: &[KeyRow],
    secrets: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Vec<KeyStatus> {
    let opened: Vec<_> = rows.iter().map(|row| open(row, secrets)).collect();
    // A server counts only on keys that open.
    let usable: Vec<_> = rows
        .iter()
        .zip(&opened)
        .filter(|(_, opened)| opened.is_ok())
        .map(|(row, _)| row.times)
        .collect();
    rows.iter()
        .zip(opened)
        .map(|(row, opened_by)| status(row, opened_by, &usable, policy, now))
        .collect()
}

fn open(row: &KeyRow, secrets: &SealingKeys) -> Result<usize, BadKey> {
    let (entry, _) = secrets
        .open_with_index(&row.sealed)
        .ok_or(BadKey::NotOpened)?;
    OpenedKey::open(row.clone(), secrets)?;
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
        kid: times.kid,
        stage,
        created_at: row.times.created_at,
        signs_from: times.signs_from,
        stops_signing: stage
            .will_sign()
            .then(|| lifecycle::stops_signing(times, usable, policy)),
        unpublished_at: times.published_until(),
        deleted_at: lifecycle::deleted_at(times, policy),
        opened_by,
    }
}

fn may_revoke(
    kid: Kid,
    keys: &[KeyRow],
    secrets: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Result<(), RevokeError> {
    let (these, rest): (Vec<_>, Vec<_>) = keys.iter().partition(|row| row.times.kid == kid);
    if !these.iter().any(|row| row.times.is_published_at(now)) {
        return Err(RevokeError::NotPublished(kid));
    }
    // A key that does not open cannot take over.
    let rest: Vec<_> = rest
        .into_iter()
        .filter(|row| OpenedKey::open((*row).clone(), secrets).is_ok())
        .map(|row| row.times)
        .collect();
    match lifecycle::signer(&rest, policy, now) {
        Some(_) => Ok(()),
        None => Err(RevokeError::LastOne(kid)),
    }
}
