//! The configured times of keys and tokens, and the rule between them.

use std::ops::Deref;
use std::time::Duration;

use super::KeyTimes;
use crate::clock::UnixTime;

/// Shortest time in which a key must be able to sign full-length tokens.
pub const MIN_SIGNING_WINDOW: Duration = Duration::from_secs(60);

/// The times that all keys follow, checked. Whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy(PolicyParts);

/// The times as they are configured. The letters are those of the picture in
/// [`lifecycle`](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyParts {
    /// `L`: from creation to the end of publication.
    pub key_lifetime: Duration,
    /// `T`: from a token's `iat` to its `exp`.
    pub token_lifetime: Duration,
    /// `P`: how long a key is published before it signs.
    pub lead: Duration,
    /// `S`: tolerated error of verifiers' clocks.
    pub skew: Duration,
    /// `R`: how long an expired key stays in the database.
    pub retention: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "keys live {} s, but need at least {need} s: lead {} s + token {} s + clock skew {} s + a signing window of {} s",
    .parts.key_lifetime.as_secs(),
    .parts.lead.as_secs(),
    .parts.token_lifetime.as_secs(),
    .parts.skew.as_secs(),
    MIN_SIGNING_WINDOW.as_secs()
)]
pub struct PolicyError {
    parts: PolicyParts,
    need: u64,
}

impl Policy {
    /// Checks `L >= P + T + S + 1 min`, without which no key could both be
    /// announced in time and outlive its tokens.
    pub fn new(parts: PolicyParts) -> Result<Self, PolicyError> {
        let needed = [
            parts.lead,
            parts.token_lifetime,
            parts.skew,
            MIN_SIGNING_WINDOW,
        ];
        let need = needed
            .into_iter()
            .fold(0_u64, |sum, part| sum.saturating_add(part.as_secs()));
        if parts.key_lifetime.as_secs() < need {
            return Err(PolicyError { parts, need });
        }
        Ok(Self(parts))
    }

    /// Time from a key's creation until it signs: `P`, and a margin for rounding to
    /// whole seconds and for other processes, which publish it a moment later.
    pub(super) fn lead_with_margin(&self) -> Duration {
        const MARGIN: Duration = Duration::from_secs(2);
        self.lead + MARGIN
    }

    /// Keys that expired before this time are deleted at `now`.
    pub fn delete_before(&self, now: UnixTime) -> UnixTime {
        now - self.retention
    }

    /// Last second in which a key that expires at `expires_at` may sign a full-length
    /// token.
    pub(super) fn signs_full_until(&self, expires_at: UnixTime) -> UnixTime {
        expires_at - self.token_lifetime - self.skew
    }

    /// Last second in which `key` can be relied on to sign full-length tokens. By the
    /// default times a key that signs from 12:00 and expires at 13:00 covers until
    /// 12:29: one hour, less 30 min for the last token and 1 min for the skew. One
    /// that was made under a longer `KEY_LIFETIME` covers no longer than that.
    pub(super) fn covers_until(&self, key: &KeyTimes) -> UnixTime {
        let longest = self.key_lifetime - self.token_lifetime - self.skew;
        let full = self.signs_full_until(key.expires_at);
        key.signs_from.map_or(full, |from| full.min(from + longest))
    }
}

impl Deref for Policy {
    type Target = PolicyParts;

    fn deref(&self) -> &PolicyParts {
        &self.0
    }
}
