//! A key as the rules see it: its kid and its times, without the key material.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::clock::UnixTime;

/// The number of a key: the column `keys.kid`, and its decimal string in
/// tokens and in the key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid(i64);

impl Kid {
    /// First 53 bits of the thumbprint (RFC 7638), which JavaScript reads exactly.
    pub fn from_thumbprint(print: &[u8; 32]) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&print[..8]);
        Self((u64::from_be_bytes(first) >> 11).cast_signed())
    }

    /// Value of the column `keys.kid`.
    pub const fn from_row(kid: i64) -> Self {
        Self(kid)
    }

    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

impl FromStr for Kid {
    type Err = ParseIntError;

    fn from_str(kid: &str) -> Result<Self, Self::Err> {
        kid.parse().map(Self)
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The times of a key's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    pub kid: Kid,
    /// Grows with each key that is created, whatever the clock says; 0 for the
    /// keys of the earlier server.
    pub serial: i64,
    /// When it was made, by the clock of that time: it is published from its insertion on.
    /// None for a key of the earlier server.
    pub created_at: Option<UnixTime>,
    /// First second in which it may sign; none for a key of the earlier server,
    /// which may sign at once. At or after `expires_at`: it never signs.
    pub signs_from: Option<UnixTime>,
    /// Column `keys.exp`, cut to the end of the longest `KEY_LIFETIME` by `latest_end` in
    /// `store/key_row.rs`.
    pub expires_at: UnixTime,
    /// Taken out of the set for good, whatever the clock says later.
    pub revoked: bool,
    /// Stays out of the set for good: a token of `/auth?expired` names it, or
    /// it is another row of a key that was revoked.
    pub withdrawn: bool,
}

impl KeyTimes {
    /// First second in which the key is no longer in the key set. `at_moment` in `keys.rs` of
    /// both engines must find every key for which it is later (`k.exp > now`), and may find
    /// more.
    pub const fn published_until(&self) -> UnixTime {
        self.expires_at
    }

    /// Is the key in the key set at `now`?
    pub fn is_published_at(&self, now: UnixTime) -> bool {
        !self.revoked && !self.withdrawn && !self.is_past_exp(now)
    }

    /// Is its publication over at `now`, revoked or not?
    pub fn is_past_exp(&self, now: UnixTime) -> bool {
        self.published_until() <= now
    }
}

/// The times of a public key of another issuer, which never signs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptedTimes {
    pub adopted_at: UnixTime,
    /// First second in which it is no longer in the key set.
    pub until: UnixTime,
    pub revoked: bool,
}

impl AdoptedTimes {
    /// Is the key in the key set at `now`?
    pub fn is_published_at(&self, now: UnixTime) -> bool {
        !self.revoked && now < self.until
    }
}

/// The times of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpan {
    pub created_at: UnixTime,
    pub signs_from: UnixTime,
    pub expires_at: UnixTime,
}
