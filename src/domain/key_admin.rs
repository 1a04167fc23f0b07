//! Changes of keys that operators ask for. Each works on the database alone, beside
//! running servers. These check for new key events every 500 ms, so they usually
//! follow within a second; under load it may take longer.

use std::sync::Arc;

use super::key_ring::{BadKey, OpenedKey};
use super::rotation::{self, RotationError};
use crate::clock::{Clock, UnixTime};
use crate::crypto::fernet::SealingKeys;
use crate::crypto::rsa::KeySource;
use crate::lifecycle::{self, KeyTimes, Kid, Policy, Stage};
use crate::store::{BadRow, KeyChange, KeyRow, KeyRows, KeySelection, NewKey, Store, StoreError};
pub use crate::store::{KeyEvent, KeyEventKind};

/// Keys that operators may publish at once: verifiers and gateways stop reading
/// large key sets, some at 50 KiB, some at 100 keys.
pub const MAX_PUBLISHED: usize = 16;

/// Operators' changes of the keys in one database.
pub struct KeyOperations {
    pub store: Store,
    pub sealing_keys: Arc<SealingKeys>,
    /// Source of new keys.
    pub source: Arc<dyn KeySource>,
    pub policy: Policy,
    pub clock: Arc<dyn Clock>,
}

/// All that is shown of a key.
#[derive(Debug)]
pub struct KeyStatus {
    pub kid: Kid,
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
    /// Time at which its row is deleted.
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
    Unknown(Kid),
    #[error("key {0} is not published any more")]
    NotPublished(Kid),
    #[error(
        "key {0} is the only one that can sign, and no other would be left: use `keys rotate --now`, which makes a new one"
    )]
    LastOne(Kid),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyOperations {
    /// Status of all keys at `now`, in creation order, and the rows that could not be
    /// read. Opens each key, so it is slow.
    pub async fn list(
        &self,
        now: UnixTime,
    ) -> Result<(Vec<KeyStatus>, Vec<BadRow>), RotationError> {
        let KeyRows { rows, bad } = self.store.all_keys().await?;
        let (sealing_keys, policy) = (Arc::clone(&self.sealing_keys), self.policy);
        let list = move || statuses(&rows, &sealing_keys, &policy, now);
        Ok((tokio::task::spawn_blocking(list).await?, bad))
    }

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

    /// `keys rotate --now`, for an emergency: takes all keys out of the set and puts
    /// a new one in, which signs at once. Returns the new one and those that were
    /// published.
    pub async fn emergency_rotate(&self, reason: String) -> Result<(Kid, Vec<Kid>), RotationError> {
        let (kid, sealed) = self.generate_sealed().await?;
        let policy = self.policy;
        let decide = move |keys: &KeyRows, now| {
            let span = lifecycle::emergency_key(&policy, now);
            let change = KeyChange {
                insert: Some(NewKey { kid, sealed, span }),
                revoke: revocable(keys),
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
    pub async fn revoke(&self, kid: Kid, reason: String) -> Result<(), RevokeError> {
        let (policy, sealing_keys) = (self.policy, Arc::clone(&self.sealing_keys));
        let decide = move |keys: &KeyRows, now| {
            may_revoke(kid, keys, &sealing_keys, &policy, now)?;
            let change = KeyChange {
                revoke: vec![kid],
                reason,
                ..KeyChange::default()
            };
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
        let (kid, sealed) =
            rotation::generate_sealed(&self.source, &self.sealing_keys, entry).await?;
        Ok((kid, sealed.into_bytes()))
    }

    /// Index of the entry of `NOT_MY_KEY` that opens the newest published key. A
    /// running server has it; it may not have the first one yet.
    async fn entry_in_use(&self) -> Result<usize, RotationError> {
        let (keys, _) = self.list(self.clock.now()).await?;
        let published: Vec<_> = keys
            .into_iter()
            .filter(|key| key.stage.is_published())
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

fn published(keys: &KeyRows, now: UnixTime) -> Vec<Kid> {
    let times = keys.rows.iter().map(|row| &row.times);
    times
        .filter(|times| times.is_published_at(now))
        .map(|times| times.kid)
        .collect()
}

/// Plan of a re-encryption. Each new sealed form is opened again, before
/// anything is written.
fn plan_reencryption(keys: &KeyRows, sealing_keys: &SealingKeys) -> (KeyChange, Reencrypted) {
    let mut change = KeyChange::default();
    let mut done = Reencrypted {
        unreadable: keys.bad.len(),
        ..Reencrypted::default()
    };
    for row in &keys.rows {
        let Some((entry, plain)) = sealing_keys.open_with_index(&row.sealed) else {
            done.unreadable += 1;
            continue;
        };
        if entry == 0 {
            done.unchanged += 1;
            continue;
        }
        let sealed = sealing_keys.seal(&plain).into_bytes();
        match sealing_keys.open_with_index(&sealed) {
            Some((0, again)) if again == plain => {
                change.reencrypt.push((row.times.kid, sealed));
                done.changed += 1;
            }
            _ => done.unreadable += 1,
        }
    }
    (change, done)
}

/// Status at `now` of the keys in `rows`. Opens each one: slow, call it on a
/// blocking thread.
pub fn statuses(
    rows: &[KeyRow],
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Vec<KeyStatus> {
    let opened: Vec<_> = rows.iter().map(|row| open(row, sealing_keys)).collect();
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
    keys: &KeyRows,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Result<(), RevokeError> {
    let published = |row: &&KeyRow| row.times.is_published_at(now);
    let row = keys.rows.iter().find(|row| row.times.kid == kid);
    let is_bad = keys.bad.iter().any(|bad| bad.row == kid.as_i64());
    match row {
        None if !is_bad => return Err(RevokeError::Unknown(kid)),
        Some(row) if published(&row) => {}
        _ => return Err(RevokeError::NotPublished(kid)),
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
