//! The life of a key, as pure functions of the keys' times, the policy and the
//! moment: who signs, what is published, what is due, and when to look again.
//!
//! ```text
//! created        signs_from         exp - T - S              exp        exp + R
//!    |-- published --|-- published, signs --|-- published only --|-- expired --| deleted
//!    |<---- P ------>|                      |<-- T + S --------->|
//!    |<------------------------- L ----------------------------->|
//! ```
//!
//! In steady running a key is made `P`, and two seconds for what seconds cut off,
//! before the one before it stops signing.

mod key;
mod policy;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::time::Duration;

use crate::clock::UnixTime;
pub use key::{KeySpan, KeyTimes, Kid};
pub use policy::{MIN_SIGNING_WINDOW, Policy, PolicyError, PolicyParts};

/// How far in the past a token for testing expired, at least.
const EXPIRED_BY: Duration = Duration::from_secs(3600);

/// Whether `key` is in the key set at `now`.
pub fn is_published(key: &KeyTimes, now: UnixTime) -> bool {
    !key.revoked && now < key.expires_at
}

/// The key that signs at `now`: there is one as long as any key that may ever
/// sign has not expired.
///
/// Best is the newest key within its signing time. Without one, because the
/// machine was off, a key was revoked or the clock jumped, a key past its
/// signing time signs shorter tokens, as long as they outlive the clock skew;
/// after it comes the key that has been there for longest.
pub fn signer<'a>(keys: &'a [KeyTimes], policy: &Policy, now: UnixTime) -> Option<&'a KeyTimes> {
    keys.iter()
        .filter(|key| is_published(key, now) && may_ever_sign(key))
        .max_by_key(|key| (Fitness::of(key, policy, now), key.kid))
}

/// The expired key whose time ended last; where there is none, because the
/// clock went back, a revoked one.
pub fn last_expired(keys: &[KeyTimes], now: UnixTime) -> Option<&KeyTimes> {
    keys.iter()
        .filter(|key| !is_published(key, now))
        .max_by_key(|key| (key.expires_at <= now, key.expires_at, key.kid))
}

/// `iat` and `exp` of a token signed by `key` at `now`: never past the key's own end.
pub fn token_times(key: &KeyTimes, policy: &Policy, now: UnixTime) -> (UnixTime, UnixTime) {
    (now, (now + policy.token_lifetime).min(key.expires_at))
}

/// `iat` and `exp` of a token that is long expired at `now`, from an expired key.
pub fn expired_token_times(key: &KeyTimes, policy: &Policy, now: UnixTime) -> (UnixTime, UnixTime) {
    let exp = key.expires_at.min(now - EXPIRED_BY);
    (exp - policy.token_lifetime, exp)
}

/// The times of the key that must be made at `now`, or `None` while those that
/// are there last long enough.
pub fn due_signing_key(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<KeySpan> {
    let covered = covered_until(keys, policy, now);
    if covered.is_some_and(|until| now + policy.notice() < until) {
        return None;
    }
    // Until then some key can sign tokens that outlive the clock skew, so the
    // new one can be announced first.
    let bridged = keys
        .iter()
        .filter(|key| is_published(key, now) && may_ever_sign(key))
        .map(|key| key.expires_at - policy.skew)
        .max();
    Some(KeySpan {
        created_at: now,
        signs_from: match bridged {
            Some(until) => (now + policy.notice()).min(until.max(now)),
            None => now,
        },
        expires_at: now + policy.key_lifetime,
    })
}

/// The times of a key that is made expired, when no key has expired yet: it
/// serves `/auth?expired` on a new database and is never published.
pub fn due_expired_key(keys: &[KeyTimes], now: UnixTime) -> Option<KeySpan> {
    if keys.iter().any(|key| key.expires_at <= now) {
        return None;
    }
    let expires_at = now - EXPIRED_BY;
    Some(KeySpan {
        created_at: now,
        signs_from: expires_at,
        expires_at,
    })
}

/// When the next key is, or was, due; none while no key can be counted on, so
/// that one is due at once.
pub fn next_due(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<UnixTime> {
    covered_until(keys, policy, now).map(|until| until - policy.notice())
}

/// Where a key stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Published, not signing yet.
    Published,
    /// The one that signs.
    Signing,
    /// Published until its tokens are over.
    Retiring,
    /// No longer published.
    Expired,
    /// Taken out of the set for good.
    Revoked,
}

impl Stage {
    /// All of them, in the order in which a key goes through them.
    pub const ALL: [Self; 5] = [
        Self::Published,
        Self::Signing,
        Self::Retiring,
        Self::Expired,
        Self::Revoked,
    ];

    /// Its name in documents and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Whether a key there is in the set.
    pub const fn is_published(self) -> bool {
        matches!(self, Self::Published | Self::Signing | Self::Retiring)
    }

    /// Whether a key there signs, or will.
    pub const fn will_sign(self) -> bool {
        matches!(self, Self::Published | Self::Signing)
    }
}

/// Where `key`, one of `keys`, stands at `now`.
pub fn stage(key: &KeyTimes, keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Stage {
    if key.revoked {
        Stage::Revoked
    } else if !is_published(key, now) {
        Stage::Expired
    } else if signer(keys, policy, now).is_some_and(|signer| signer.kid == key.kid) {
        Stage::Signing
    } else if may_ever_sign(key) && key.signs_from.is_some_and(|from| now < from) {
        Stage::Published
    } else {
        Stage::Retiring
    }
}

/// The first second in which `key` does not sign any more, as things stand: the
/// next key takes over then, which is there already or will be made in time.
/// Should none come, it goes on with shorter tokens.
pub fn stops_signing(key: &KeyTimes, keys: &[KeyTimes], policy: &Policy) -> UnixTime {
    let successor = keys
        .iter()
        .filter(|other| !other.revoked && may_ever_sign(other) && other.signs_from > key.signs_from)
        .filter_map(|other| other.signs_from)
        .min();
    let own = policy.covers_until(key);
    successor.map_or(own, |from| from.min(own))
}

/// When the row of a key is deleted, unless it is the last that has expired.
pub fn deleted_at(key: &KeyTimes, policy: &Policy) -> UnixTime {
    key.expires_at + policy.retention + Duration::from_secs(1)
}

/// The times of a key that an operator asks for: as an ordinary one, announced first.
pub fn rotated_key(policy: &Policy, now: UnixTime) -> KeySpan {
    KeySpan {
        created_at: now,
        signs_from: now + policy.notice(),
        expires_at: now + policy.key_lifetime,
    }
}

/// The times of a key that takes the place of all others in an emergency.
pub fn emergency_key(policy: &Policy, now: UnixTime) -> KeySpan {
    KeySpan {
        signs_from: now,
        ..rotated_key(policy, now)
    }
}

/// Until when the keys that are there can sign full tokens, leaving out those
/// whose times this policy would not give: a key from a clock that was ahead
/// must not keep the next one from being made.
fn covered_until(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<UnixTime> {
    keys.iter()
        .filter(|key| is_published(key, now) && may_ever_sign(key))
        .filter(|key| match key.signs_from {
            Some(from) => from <= now + policy.notice(),
            None => key.expires_at <= now + policy.key_lifetime,
        })
        .map(|key| policy.covers_until(key))
        .max()
}

fn may_ever_sign(key: &KeyTimes) -> bool {
    key.signs_from.is_none_or(|from| from < key.expires_at)
}

/// How fit a published key is to sign; greater is better.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    /// So little is left that no token of it would outlive the clock skew.
    Spent(UnixTime),
    /// Not published for long enough yet, if the clock is to be believed: the
    /// one that was made first.
    Announced(Reverse<i64>),
    /// Too little is left for a full token: the one with most left.
    Waning(UnixTime),
    /// Within its signing time: the newest.
    Signing(Option<UnixTime>, UnixTime),
}

impl Fitness {
    fn of(key: &KeyTimes, policy: &Policy, now: UnixTime) -> Self {
        match key.signs_from {
            Some(from) if now < from => Self::Announced(Reverse(key.serial)),
            _ if key.expires_at - policy.skew <= now => Self::Spent(key.expires_at),
            _ if policy.signs_full_until(key) < now => Self::Waning(key.expires_at),
            from => Self::Signing(from, key.expires_at),
        }
    }
}
