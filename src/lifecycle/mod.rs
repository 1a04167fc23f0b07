//! The life of a key, as pure functions of the keys' times, the policy and the
//! moment: which key signs, which are published, which one is due and when.
//!
//! ```text
//! created         signs_from         exp - T - S           exp           exp + R
//!    |-- announced --|---- signing ----|---- retiring ----|-- expired --| deleted
//!    |<----- P ----->|                 |<----- T + S ---->|
//!    |<----------------------- L ------------------------>|
//!    |<--------- published: in the key set -------------->|
//! ```
//!
//! In steady running a key is created `P` + 2 s (rounding, other processes) before its
//! predecessor stops signing.

mod key;
mod policy;

use std::cmp::Reverse;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

use crate::clock::UnixTime;
pub use key::{AdoptedTimes, KeySpan, KeyTimes, Kid};
pub use policy::{MIN_SIGNING_WINDOW, Policy, PolicyError, PolicyParts};

/// Shortest time since the expiry of a token of `/auth?expired`.
const EXPIRED_BY: Duration = Duration::from_secs(3600);

/// The key that signs at `now`: there is one as long as any key that may ever
/// sign is published. `Rank` says which one is taken.
pub fn signer<'a>(keys: &'a [KeyTimes], policy: &Policy, now: UnixTime) -> Option<&'a KeyTimes> {
    keys.iter()
        .filter(|key| key.is_published_at(now) && may_ever_sign(key))
        .max_by_key(|key| fitness(key, policy, now))
}

/// The key that expired last, among those that were loaded; a revoked or withdrawn one
/// where none has expired, because the clock went back.
pub fn last_unpublished(keys: &[KeyTimes], now: UnixTime) -> Option<&KeyTimes> {
    keys.iter()
        .filter(|key| !key.is_published_at(now))
        .max_by_key(|key| (key.is_past_exp(now), key.expires_at, key.kid))
}

/// `iat` and `exp` of a token signed by `key` at `now`: never past the key's own end.
pub fn token_times(key: &KeyTimes, policy: &Policy, now: UnixTime) -> (UnixTime, UnixTime) {
    (now, (now + policy.token_lifetime).min(key.expires_at))
}

/// `iat` and `exp` of a token of `/auth?expired`, signed by an expired key.
pub fn expired_token_times(key: &KeyTimes, policy: &Policy, now: UnixTime) -> (UnixTime, UnixTime) {
    let exp = key.expires_at.min(now - EXPIRED_BY);
    (exp - policy.token_lifetime, exp)
}

/// The times of the key that must be created at `now`; `None` while the existing
/// ones last long enough.
pub fn due_signing_key(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<KeySpan> {
    let covered = covered_until(keys, policy, now);
    if covered.is_some_and(|until| now + policy.lead_with_margin() < until) {
        return None;
    }
    // Last second in which an existing key can sign tokens that outlive the clock
    // skew, so until then the new key can be announced. With a key that expires in
    // 300 s that is 240 s from now: the new key signs after 240 s, not after 602.
    let bridged = keys
        .iter()
        .filter(|key| key.is_published_at(now) && may_ever_sign(key))
        .map(|key| key.expires_at - policy.skew)
        .max();
    Some(KeySpan {
        created_at: now,
        signs_from: match bridged {
            Some(until) => (now + policy.lead_with_margin()).min(until.max(now)),
            None => now,
        },
        expires_at: now + policy.key_lifetime,
    })
}

/// The times of a key that is created expired, when no key has expired yet: it
/// serves `/auth?expired` on a new database, never signs a live token, and is
/// published only should the clock go back.
pub fn due_expired_key(keys: &[KeyTimes], now: UnixTime) -> Option<KeySpan> {
    if keys.iter().any(|key| key.is_past_exp(now)) {
        return None;
    }
    let expires_at = now - EXPIRED_BY;
    Some(KeySpan {
        created_at: now,
        signs_from: expires_at,
        expires_at,
    })
}

/// Time at which the next key is, or was, due; none when it is due at once, since
/// no existing key can be counted on.
pub fn next_due(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<UnixTime> {
    covered_until(keys, policy, now).map(|until| until - policy.lead_with_margin())
}

/// New times for unexpired keys that were created in the future, so the clock was
/// ahead and was set back `clock_behind_for` ago: all go back by as much as the newest
/// must, or a key would be published for the whole error of the clock.
pub fn moved_back(
    keys: &[KeyTimes],
    policy: &Policy,
    now: UnixTime,
    clock_behind_for: Duration,
) -> Vec<(Kid, KeySpan)> {
    let unexpired = || keys.iter().filter(|key| !key.is_past_exp(now));
    let newest = unexpired().filter_map(|key| key.created_at).max();
    let Some(newest) = newest.filter(|&newest| now + policy.skew < newest) else {
        return Vec::new();
    };
    let by = now.until(newest) + clock_behind_for;
    let ahead = unexpired().filter(|key| key.created_at.is_some_and(|at| now < at));
    let moved = ahead.filter_map(|key| {
        let span = KeySpan {
            created_at: key.created_at? - by,
            signs_from: key.signs_from? - by,
            expires_at: key.expires_at - by,
        };
        Some((key.kid, span))
    });
    moved.collect()
}

/// Part of a key's life, in order. Keys of our own are never `Adopted`, which another
/// issuer's are until they are expired or revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Stage {
    /// Published, not signing yet.
    Announced,
    /// Published, and the one that signs.
    Signing,
    /// Published until its tokens have expired.
    Retiring,
    /// Published, of another issuer; never signs here.
    Adopted,
    /// Not published, and not revoked: past its `exp`, or withdrawn before it.
    Expired,
    /// Taken out of the set by an operator, for good.
    Revoked,
}

impl Stage {
    /// Name in documents, metrics and tables, all of which call a stage `state`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Is a key of this stage in the key set?
    pub const fn is_published(self) -> bool {
        matches!(
            self,
            Self::Announced | Self::Signing | Self::Retiring | Self::Adopted
        )
    }

    /// Does a key of this stage sign, now or later?
    pub const fn will_sign(self) -> bool {
        matches!(self, Self::Announced | Self::Signing)
    }
}

/// The stage of `key`, one of `keys`, at `now`.
pub fn stage(key: &KeyTimes, keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Stage {
    if key.revoked {
        Stage::Revoked
    } else if !key.is_published_at(now) {
        Stage::Expired
    } else if signer(keys, policy, now).is_some_and(|signer| signer.kid == key.kid) {
        Stage::Signing
    } else if may_ever_sign(key) && key.signs_from.is_some_and(|from| now < from) {
        Stage::Announced
    } else {
        Stage::Retiring
    }
}

/// The stage of another issuer's key at `now`.
pub fn adopted_stage(key: &AdoptedTimes, now: UnixTime) -> Stage {
    if key.revoked {
        Stage::Revoked
    } else if key.is_published_at(now) {
        Stage::Adopted
    } else {
        Stage::Expired
    }
}

/// First second in which `key` no longer signs, as things stand: the next key
/// takes over then, which exists already or will be created in time. Should none
/// come, `key` goes on with shorter tokens.
pub fn stops_signing(key: &KeyTimes, keys: &[KeyTimes], policy: &Policy) -> UnixTime {
    let successor = keys
        .iter()
        .filter(|other| !other.revoked && !other.withdrawn)
        .filter(|other| may_ever_sign(other) && other.signs_from > key.signs_from)
        .filter_map(|other| other.signs_from)
        .min();
    let own = policy.covers_until(key);
    successor.map_or(own, |from| from.min(own))
}

/// Time at which the row of a key is deleted that is published until `end`, unless it is
/// the last that expired.
pub fn deleted_at(end: UnixTime, policy: &Policy) -> UnixTime {
    end + policy.retention + Duration::from_secs(1)
}

/// The times of the key that the rotation makes at `due`, if by then nothing else happens,
/// and the time at which it stops signing: existing keys sign while it is announced, and
/// the key after it takes over.
pub fn planned_key(policy: &Policy, due: UnixTime) -> (KeySpan, UnixTime) {
    let span = rotated_key(policy, due);
    (span, policy.signs_full_until(span.expires_at))
}

/// The times of a key that is made at `now`, by an operator or as planned, and announced
/// for a whole lead before it signs.
pub fn rotated_key(policy: &Policy, now: UnixTime) -> KeySpan {
    KeySpan {
        created_at: now,
        signs_from: now + policy.lead_with_margin(),
        expires_at: now + policy.key_lifetime,
    }
}

/// The times of the key that replaces all others in an emergency
/// (`keys rotate --now`).
pub fn emergency_key(policy: &Policy, now: UnixTime) -> KeySpan {
    KeySpan {
        signs_from: now,
        ..rotated_key(policy, now)
    }
}

/// Last second until which existing keys can sign full-length tokens; ignores
/// keys dated further ahead than this policy would: one from a clock that was
/// ahead must not keep the next key from being created.
///
/// By the default times, at 12:00:00: a key that signs from 12:00 and expires at
/// 13:00 covers until 12:29:00, so the next one is due 602 s before, at 12:18:58. A
/// key that signs from 13:00 covers nothing.
fn covered_until(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<UnixTime> {
    keys.iter()
        .filter(|key| key.is_published_at(now) && may_ever_sign(key))
        .filter(|key| match key.signs_from {
            Some(from) => from <= now + policy.lead_with_margin(),
            None => key.expires_at <= now + policy.key_lifetime,
        })
        .map(|key| policy.covers_until(key))
        .max()
}

fn may_ever_sign(key: &KeyTimes) -> bool {
    key.signs_from.is_none_or(|from| from < key.expires_at)
}

/// Fitness of a published key to sign, lowest first: a key of a higher rank signs before
/// all keys of a lower one.
///
/// In steady running the signer is the newest key of rank `FullTokens`. Without one,
/// because the machine was off, a key was revoked or the clock jumped, a key of a
/// lower rank signs shorter tokens, or one that is announced signs early.
///
/// By the default times, at 12:00:00:
///
/// | signs from | expires | rank |
/// | --- | --- | --- |
/// | 11:40:00 | 12:40:00 | `FullTokens`: 30 min and 1 min of skew end before 12:40 |
/// | 11:20:00 | 12:20:00 | `ShortTokens`: its tokens end at 12:20 too |
/// | 12:05:00 | 13:00:00 | `Early`: some verifiers may not have it yet |
/// | 11:00:50 | 12:00:50 | `LastResort`: by a clock 1 min ahead its tokens are expired |
///
/// After a clock was set back by two days all keys are `Early`, and the one created first
/// signs; for a lead at most, since the next tick creates a key that signs then.
///
/// Of two keys of one rank the greater value signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// No token of it would outlive the clock skew. The last to expire signs.
    LastResort { expires_at: UnixTime },
    /// Not published for a whole lead yet. The first to be created signs.
    Early { serial: Reverse<i64> },
    /// Too little is left for a full-length token. The last to expire signs.
    ShortTokens { expires_at: UnixTime },
    /// Within its signing time. The last to have begun signs; keys of the earlier server,
    /// which have no such time, are older than all keys of this one.
    FullTokens { signs_from: Option<UnixTime> },
}

/// The greatest signs: by rank, then by the later `exp` and the higher kid, so that all
/// processes pick the same key.
type Fitness = (Rank, UnixTime, Kid);

fn fitness(key: &KeyTimes, policy: &Policy, now: UnixTime) -> Fitness {
    let KeyTimes {
        signs_from,
        expires_at,
        ..
    } = *key;
    let rank = if signs_from.is_some_and(|from| now < from) {
        let serial = Reverse(key.serial);
        Rank::Early { serial }
    } else if expires_at - policy.skew <= now {
        Rank::LastResort { expires_at }
    } else if policy.signs_full_until(expires_at) < now {
        Rank::ShortTokens { expires_at }
    } else {
        Rank::FullTokens { signs_from }
    };
    (rank, expires_at, key.kid)
}
