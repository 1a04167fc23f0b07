//! The keys in memory: one snapshot of opened keys, from which both the key set
//! and the signer are taken, swapped whole after each look at the database.
//! The one place where sealed rows become keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;

use crate::clock::{Clock, UnixTime};
use crate::crypto::digest::sha256;
use crate::crypto::fernet::SealingKeys;
use crate::crypto::rsa::{KeyError, PrivateKey, PublicKey};
use crate::lifecycle::{self, Policy};
use crate::lifecycle::{KeyTimes, Kid};
use crate::store::KeyRow;

/// How long a request waits for a key to sign or publish before it is refused.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// No earlier server has counted its keys up to here; a thumbprint is lower
/// once in two million.
const MOST_COUNTED: i64 = 1 << 32;

/// A key that was opened, with its times.
#[derive(Debug)]
pub struct OpenedKey {
    times: KeyTimes,
    sealed: Vec<u8>,
    private: Arc<PrivateKey>,
    /// See [`is_used`](Self::is_used).
    used: Arc<AtomicBool>,
}

/// Why a row gives no key.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// None of the keys of `NOT_MY_KEY` opens it, or it was changed.
    #[error("it does not open under NOT_MY_KEY")]
    NotOpened,
    /// It opened, but what is in it cannot sign.
    #[error(transparent)]
    Unusable(#[from] KeyError),
    /// It opened, but is another key than the row says.
    #[error("it was tampered with: it is not the key that its kid names")]
    WrongKid,
}

impl OpenedKey {
    /// Opens a row. Slow: call it on a blocking thread.
    pub fn open(row: KeyRow, secrets: &SealingKeys) -> Result<Self, BadKey> {
        let pem = secrets.open(&row.sealed).ok_or(BadKey::NotOpened)?;
        let private = PrivateKey::from_pem(&pem)?;
        // Rows of the earlier server have no times of ours and count from one.
        let is_ours = row.times.signs_from.is_some() || row.times.kid.as_i64() > MOST_COUNTED;
        if is_ours && row.times.kid != Kid::from_thumbprint(&private.public().thumbprint()) {
            return Err(BadKey::WrongKid);
        }
        Ok(Self {
            times: row.times,
            sealed: row.sealed,
            private: Arc::new(private),
            used: Arc::default(),
        })
    }

    /// The same key with what its row says now.
    fn with_row(&self, row: KeyRow) -> Self {
        Self {
            times: row.times,
            sealed: row.sealed,
            private: Arc::clone(&self.private),
            used: Arc::clone(&self.used),
        }
    }

    /// Whether this process has written down that the key has signed.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// It is written down now.
    pub fn set_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Which key.
    pub fn kid(&self) -> Kid {
        self.times.kid
    }

    /// When it is published and signs.
    pub fn times(&self) -> &KeyTimes {
        &self.times
    }

    /// The key itself.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }
}

/// A public key as a member of the key set (RFC 7517, RFC 7518 section 6.3.1).
/// All six members are there, also the optional ones that some verifiers insist on.
#[derive(Serialize)]
struct Jwk<'a> {
    kty: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    /// No two keys ever have the same.
    kid: String,
    /// The modulus, base64url.
    n: &'a str,
    /// The exponent, base64url.
    e: &'a str,
}

/// A JWK Set (RFC 7517 section 5).
#[derive(Serialize)]
struct JwkSet<'a> {
    keys: Vec<Jwk<'a>>,
}

impl<'a> Jwk<'a> {
    fn new(kid: Kid, public: &'a PublicKey) -> Self {
        Self {
            kty: "RSA",
            usage: "sig",
            alg: "RS256",
            kid: kid.to_string(),
            n: &public.n,
            e: &public.e,
        }
    }
}

/// A JSON document, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The JSON text.
    pub body: Bytes,
    /// Its strong entity tag with the quotes (RFC 9110 section 8.8.3): equal
    /// bytes have equal tags, over restarts too.
    pub etag: Bytes,
}

impl Document {
    /// The JSON of `value`.
    pub fn new(value: &impl Serialize) -> Self {
        // What is made a document here are structs of strings and numbers,
        // which always have a JSON form.
        Self::from_json(serde_json::to_vec(value).unwrap_or_default())
    }

    /// A text that is JSON already.
    pub fn from_json(text: impl Into<Bytes>) -> Self {
        let body = text.into();
        let hex: String = sha256(&body)[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            body,
            etag: Bytes::from(format!("\"{hex}\"")),
        }
    }
}

/// A key set and the first second in which it must not be given out any more.
#[derive(Debug)]
struct PublishedSet {
    document: Document,
    until: UnixTime,
}

/// All keys that matter at one look at the database.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By the end of their publication.
    keys: Vec<Arc<OpenedKey>>,
    times: Vec<KeyTimes>,
    /// One set a moment at which a key leaves: the first that is still good counts.
    sets: Vec<PublishedSet>,
}

impl Snapshot {
    fn new(mut keys: Vec<Arc<OpenedKey>>) -> Self {
        keys.sort_by_key(|key| (key.times.expires_at, key.times.kid));
        let shown: Vec<_> = keys.iter().filter(|key| !key.times.revoked).collect();
        let sets = (0..shown.len())
            .filter(|&i| i == 0 || shown[i - 1].times.expires_at < shown[i].times.expires_at)
            .map(|i| publish(&shown[i..]))
            .collect();
        Self {
            times: keys.iter().map(|key| key.times).collect(),
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

    /// The times of all keys.
    pub fn times(&self) -> &[KeyTimes] {
        &self.times
    }

    fn by_kid(&self, kid: Kid) -> Option<&Arc<OpenedKey>> {
        self.keys.iter().find(|key| key.kid() == kid)
    }
}

/// The one current [`Snapshot`] of the process.
#[derive(Debug)]
pub struct KeyRing {
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<()>,
}

impl Default for KeyRing {
    fn default() -> Self {
        Self {
            current: ArcSwap::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl KeyRing {
    /// The snapshot of this moment. Costs one atomic load.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// What `pick` finds in the snapshot, now or as soon as a coming snapshot
    /// has it; `None` when none does within a few seconds. The moment given to
    /// `pick` is read anew each time.
    pub async fn wait_for<T>(
        &self,
        clock: &dyn Clock,
        pick: impl Fn(&Snapshot, UnixTime) -> Option<T>,
    ) -> Option<(T, UnixTime)> {
        let look = || {
            let now = clock.now();
            pick(&self.snapshot(), now).map(|found| (found, now))
        };
        if let Some(found) = look() {
            return Some(found);
        }
        let mut changes = self.changed.subscribe();
        tokio::time::timeout(MAX_WAIT, async {
            loop {
                // Subscribed before this look, so no change is missed.
                if let Some(found) = look() {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        })
        .await
        .ok()
        .flatten()
    }

    /// Takes over the rows of the database: opens what is new, keeps what is
    /// known, and swaps the snapshot. Returns the rows that did not open.
    ///
    /// A key that is known stays in use also when its row no longer opens, as
    /// when another process has encrypted it anew under a key that this one
    /// was not given: its tokens are out there.
    /// Slow: call it on a blocking thread.
    pub fn load(&self, rows: Vec<KeyRow>, secrets: &SealingKeys) -> Vec<Unopened> {
        let known = self.current.load_full();
        let mut unopened = Vec::new();
        let mut keys = Vec::with_capacity(rows.len());
        for row in rows {
            let before = known.by_kid(row.times.kid);
            if let Some(key) = before.filter(|k| k.times == row.times && k.sealed == row.sealed) {
                keys.push(Arc::clone(key));
                continue;
            }
            match OpenedKey::open(row.clone(), secrets) {
                Ok(key) => keys.push(Arc::new(key)),
                Err(reason) => {
                    unopened.push(Unopened {
                        kid: row.times.kid,
                        reason,
                        still_used: before.is_some(),
                    });
                    keys.extend(before.map(|key| Arc::new(key.with_row(row))));
                }
            }
        }
        self.current.store(Arc::new(Snapshot::new(keys)));
        self.changed.send_replace(());
        unopened
    }
}

/// A row that gave no key.
#[derive(Debug)]
pub struct Unopened {
    /// Which.
    pub kid: Kid,
    /// Why.
    pub reason: BadKey,
    /// Whether the key is in use all the same, from an earlier look.
    pub still_used: bool,
}

/// False when not one of the unexpired rows opens, if there are any: then
/// `NOT_MY_KEY` is another database's.
pub fn secrets_fit(rows: Vec<KeyRow>, secrets: &SealingKeys, now: UnixTime) -> bool {
    let is_unexpired = |row: &KeyRow| row.times.is_published_at(now);
    let unexpired: Vec<_> = rows.into_iter().filter(is_unexpired).collect();
    let opens = |row| OpenedKey::open(row, secrets).is_ok();
    unexpired.is_empty() || unexpired.into_iter().rev().any(opens)
}

fn publish(keys: &[&Arc<OpenedKey>]) -> PublishedSet {
    let set = JwkSet {
        keys: keys
            .iter()
            .map(|key| Jwk::new(key.kid(), key.private.public()))
            .collect(),
    };
    PublishedSet {
        document: Document::new(&set),
        until: keys[0].times.published_until(),
    }
}
