//! A key as the rules see it: its kid and its times, without the key itself.

use std::fmt;

use crate::clock::UnixTime;

/// The number of a key: the column `keys.kid`, and its decimal string in
/// tokens and in the key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid(i64);

impl Kid {
    /// The kid of a key of this service: the first 53 bits of its thumbprint
    /// (RFC 7638), a number that also JavaScript reads exactly.
    pub fn from_thumbprint(print: &[u8; 32]) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&print[..8]);
        Self((u64::from_be_bytes(first) >> 11).cast_signed())
    }

    /// The kid of a row.
    pub const fn from_row(kid: i64) -> Self {
        Self(kid)
    }

    /// The value of the column.
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a key is published and signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// Which key.
    pub kid: Kid,
    /// Grows with each key that is made, whatever the clock says; 0 for the
    /// keys of the earlier server.
    pub serial: i64,
    /// Start of publication; none for a key of the earlier server.
    pub created_at: Option<UnixTime>,
    /// The first second in which it may sign; none for a key of the earlier
    /// server, which may sign at once. At or after `expires_at`: it never signs.
    pub signs_from: Option<UnixTime>,
    /// The first second in which it is no longer published.
    pub expires_at: UnixTime,
    /// Whether it was taken out of the set for good.
    pub revoked: bool,
}

/// The times that a new key gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpan {
    /// Start of publication.
    pub created_at: UnixTime,
    /// See [`KeyTimes::signs_from`].
    pub signs_from: UnixTime,
    /// See [`KeyTimes::expires_at`].
    pub expires_at: UnixTime,
}
