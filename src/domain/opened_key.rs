//! Opens sealed rows, which become keys only here, and seals those that an earlier server
//! left in the clear.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bad_key::BadKey;
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
use crate::crypto::rsa::PrivateKey;
use crate::lifecycle::{KeyTimes, Kid};
use crate::store::KeyRow;

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
    thumbprint_kid: Kid,
}

impl OpenedKey {
    /// Opens the key of a row. Slow: call it on a blocking thread.
    ///
    /// | kid | in `earlier_keys` | the row is |
    /// | --- | --- | --- |
    /// | large, or with times: the key's thumbprint | | a key of this service, also when its times were lost |
    /// | large, or with times: another | | `WrongKid`: a copy, or the key was exchanged |
    /// | small, without times | none, or of a key that has a row of its own | `Added` |
    /// | small, without times | with the key's thumbprint | a key of the earlier server |
    /// | small, without times | with another thumbprint | `WrongKid` |
    ///
    /// `KeyRing::load` refuses one of the earlier server without a thumbprint too: a start
    /// records them.
    pub fn open(row: &KeyRow, sealing_keys: &SealingKeys) -> Result<Self, BadKey> {
        let times = row.times;
        let pem = sealing_keys
            .open(&row.sealed)
            .ok_or_else(|| match is_pem(&row.sealed) {
                true => BadKey::InTheClear,
                false => BadKey::NotOpened,
            })?;
        let private = PrivateKey::from_pem(&pem)?;
        let thumbprint_kid = Kid::from_thumbprint(&private.public().thumbprint());
        // Rows of the earlier server have no times, and kids that count from one.
        let named = match times.signs_from.is_some() || times.kid.as_i64() > HIGHEST_COUNTED_KID {
            true => times.kid,
            false if !row.is_of_earlier_server => return Err(BadKey::Added),
            false => row.thumbprint_kid.unwrap_or(thumbprint_kid),
        };
        if named != thumbprint_kid {
            return Err(BadKey::WrongKid);
        }
        Ok(Self {
            times,
            sealed: row.sealed.clone(),
            private: Arc::new(private),
            used: Arc::default(),
            thumbprint_kid,
        })
    }

    /// True when this is the key of that row, with the same times.
    pub(super) fn is_of(&self, row: &KeyRow) -> bool {
        self.times == row.times && self.sealed == row.sealed
    }

    /// The same key with other times and another sealed form.
    pub(super) fn with(&self, times: KeyTimes, sealed: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            times,
            sealed,
            private: Arc::clone(&self.private),
            used: Arc::clone(&self.used),
            thumbprint_kid: self.thumbprint_kid,
        })
    }

    /// The same key, never published again.
    pub(super) fn withdrawn(&self) -> Arc<Self> {
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
    pub fn thumbprint_kid(&self) -> Kid {
        self.thumbprint_kid
    }

    pub fn times(&self) -> &KeyTimes {
        &self.times
    }

    pub fn private(&self) -> &PrivateKey {
        &self.private
    }
}

/// Sealed form of a key that an earlier server left in the clear; `None` when it is no such key.
pub fn seal_clear(stored: &[u8], sealing_keys: &SealingKeys) -> Option<Vec<u8>> {
    let key = PrivateKey::from_pem(stored)
        .ok()
        .filter(|_| is_pem(stored))?;
    Some(sealing_keys.seal(key.to_pem().as_bytes()))
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
    let opens = |row: KeyRow| sealing_keys.open(&row.sealed).is_some();
    published.is_empty() || published.into_iter().rev().any(opens)
}
