//! The times that the life of keys is made of, and the rule that holds them together.

use std::time::Duration;

use super::KeyTimes;
use crate::clock::UnixTime;

/// The least time in which a key must be able to sign full tokens.
pub const MIN_SIGNING_WINDOW: Duration = Duration::from_secs(60);

/// The times that all keys follow. Whole seconds; the letters are those of the
/// picture of [`lifecycle`](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(super) key_lifetime: Duration,
    pub(super) token_lifetime: Duration,
    pub(super) lead: Duration,
    pub(super) skew: Duration,
    pub(super) retention: Duration,
}

/// The parts of a [`Policy`], as they are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyParts {
    /// `L`: from creation to the end of publication.
    pub key_lifetime: Duration,
    /// `T`: from a token's `iat` to its `exp`.
    pub token_lifetime: Duration,
    /// `P`: how long a key is published before it signs.
    pub lead: Duration,
    /// `S`: how far the clocks of verifiers may be off.
    pub skew: Duration,
    /// `R`: how long an expired key is kept.
    pub retention: Duration,
}

/// The parts do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "keys live {have} s, but need at least {need} s: lead {lead} s + token {token} s + clock skew {skew} s + a signing window of {window} s"
)]
pub struct PolicyError {
    have: u64,
    need: u64,
    lead: u64,
    token: u64,
    skew: u64,
    window: u64,
}

impl Policy {
    /// Checks `L >= P + T + S + 1 min`, without which no key could both be
    /// announced in time and outlive its tokens.
    pub fn new(parts: PolicyParts) -> Result<Self, PolicyError> {
        let PolicyParts {
            key_lifetime,
            token_lifetime,
            lead,
            skew,
            retention,
        } = parts;
        let need = [lead, token_lifetime, skew, MIN_SIGNING_WINDOW]
            .into_iter()
            .fold(0_u64, |sum, part| sum.saturating_add(part.as_secs()));
        if key_lifetime.as_secs() < need {
            return Err(PolicyError {
                have: key_lifetime.as_secs(),
                need,
                lead: lead.as_secs(),
                token: token_lifetime.as_secs(),
                skew: skew.as_secs(),
                window: MIN_SIGNING_WINDOW.as_secs(),
            });
        }
        Ok(Self {
            key_lifetime,
            token_lifetime,
            lead,
            skew,
            retention,
        })
    }

    /// `T`.
    pub fn token_lifetime(&self) -> Duration {
        self.token_lifetime
    }

    /// `P`.
    pub fn lead(&self) -> Duration {
        self.lead
    }

    /// How long before it signs a key is made, so that `P` is kept: times are
    /// cut to whole seconds, and another process publishes it a moment later.
    pub(super) fn notice(&self) -> Duration {
        const MARGIN: Duration = Duration::from_secs(2);
        self.lead + MARGIN
    }

    /// `S`.
    pub fn skew(&self) -> Duration {
        self.skew
    }

    /// What expired before this moment is deleted at `now`.
    pub fn delete_before(&self, now: UnixTime) -> UnixTime {
        now - self.retention
    }

    /// The last second in which `key` may sign a token of full length.
    pub(super) fn signs_full_until(&self, key: &KeyTimes) -> UnixTime {
        key.expires_at - self.token_lifetime - self.skew
    }

    /// The last second for which `key` is counted on: no longer than this
    /// policy would have a key sign, should it have been made under another.
    pub(super) fn covers_until(&self, key: &KeyTimes) -> UnixTime {
        let longest = self.key_lifetime - self.token_lifetime - self.skew;
        let full = self.signs_full_until(key);
        key.signs_from.map_or(full, |from| full.min(from + longest))
    }
}
