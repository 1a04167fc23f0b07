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
//! In steady running a key is made `P` before the one before it stops signing.

use std::cmp::Reverse;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::store::{KeySpan, KeyTimes};

/// The least time in which a key must be able to sign full tokens.
pub const MIN_SIGNING_WINDOW: Duration = Duration::from_secs(60);

/// How far in the past a token for testing expired, at least.
const EXPIRED_BY: Duration = Duration::from_secs(3600);

/// The times that all keys follow. Whole seconds; the letters are those of the
/// picture above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    key_lifetime: Duration,
    token_lifetime: Duration,
    lead: Duration,
    skew: Duration,
    retention: Duration,
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

    /// `L`.
    pub fn key_lifetime(&self) -> Duration {
        self.key_lifetime
    }

    /// What expired before this moment is deleted at `now`.
    pub fn delete_before(&self, now: UnixTime) -> UnixTime {
        now - self.retention
    }

    /// The last second in which `key` may sign a token of full length.
    fn signs_full_until(&self, key: &KeyTimes) -> UnixTime {
        key.expires_at - self.token_lifetime - self.skew
    }
}

/// Whether `key` is in the key set at `now`.
pub fn is_published(key: &KeyTimes, now: UnixTime) -> bool {
    now < key.expires_at
}

/// The key that signs at `now`: there is one as long as any key that may ever
/// sign has not expired.
///
/// Best is the newest key within its signing time. Without one, because the
/// machine was off or the clock jumped, a key past its signing time signs
/// shorter tokens; and last comes the key that has been there for longest.
pub fn signer<'a>(keys: &'a [KeyTimes], policy: &Policy, now: UnixTime) -> Option<&'a KeyTimes> {
    keys.iter()
        .filter(|key| is_published(key, now) && may_ever_sign(key))
        .max_by_key(|key| (Fitness::of(key, policy, now), key.kid))
}

/// The expired key whose time ended last.
pub fn last_expired(keys: &[KeyTimes], now: UnixTime) -> Option<&KeyTimes> {
    keys.iter()
        .filter(|key| !is_published(key, now))
        .max_by_key(|key| (key.expires_at, key.kid))
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
    if covered.is_some_and(|until| now + policy.lead < until) {
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
            Some(until) => (now + policy.lead).min(until.max(now)),
            None => now,
        },
        expires_at: now + policy.key_lifetime,
    })
}

/// The times of a key that is made expired, when no key has expired yet: it
/// serves `/auth?expired` on a new database and is never published.
pub fn due_expired_key(keys: &[KeyTimes], now: UnixTime) -> Option<KeySpan> {
    if last_expired(keys, now).is_some() {
        return None;
    }
    let expires_at = now - EXPIRED_BY;
    Some(KeySpan {
        created_at: now,
        signs_from: expires_at,
        expires_at,
    })
}

/// When the next key is due; `now` if one is.
pub fn next_due(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> UnixTime {
    match covered_until(keys, policy, now) {
        Some(until) => (until - policy.lead).max(now),
        None => now,
    }
}

/// Until when the keys that are there can sign full tokens, leaving out those
/// whose times this policy would not give: a key from a clock that was ahead
/// must not keep the next one from being made.
fn covered_until(keys: &[KeyTimes], policy: &Policy, now: UnixTime) -> Option<UnixTime> {
    let longest_signing = policy.key_lifetime - policy.token_lifetime - policy.skew;
    keys.iter()
        .filter(|key| is_published(key, now) && may_ever_sign(key))
        .filter(|key| match key.signs_from {
            Some(from) => from <= now + policy.lead,
            None => key.expires_at <= now + policy.key_lifetime,
        })
        .map(|key| {
            let full = policy.signs_full_until(key);
            key.signs_from
                .map_or(full, |from| full.min(from + longest_signing))
        })
        .max()
}

fn may_ever_sign(key: &KeyTimes) -> bool {
    key.signs_from.is_none_or(|from| from < key.expires_at)
}

/// How fit a published key is to sign; greater is better.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
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
            _ if policy.signs_full_until(key) < now => Self::Waning(key.expires_at),
            from => Self::Signing(from, key.expires_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kid;

    const T0: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn policy() -> Policy {
        Policy::new(PolicyParts {
            key_lifetime: secs(3600),
            token_lifetime: secs(1800),
            lead: secs(600),
            skew: secs(60),
            retention: secs(7 * 86_400),
        })
        .unwrap()
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn key(kid: i64, span: KeySpan) -> KeyTimes {
        KeyTimes {
            kid: Kid::from_row(kid),
            serial: kid,
            signs_from: Some(span.signs_from),
            expires_at: span.expires_at,
        }
    }

    /// A lone key that has been signing and has `left` seconds to live.
    fn ending_in(left: u64) -> KeyTimes {
        KeyTimes {
            kid: Kid::from_row(1),
            serial: 1,
            signs_from: Some(T0 - secs(1000)),
            expires_at: T0 + secs(left),
        }
    }

    #[test]
    fn the_first_key_signs_at_once_and_the_next_is_announced_a_lead_ahead() {
        let p = policy();
        let first = key(1, due_signing_key(&[], &p, T0).unwrap());
        assert_eq!(first.signs_from, Some(T0));
        let due = T0 + secs(3600 - 1800 - 60 - 600);
        assert_eq!(next_due(&[first], &p, T0), due);
        assert_eq!(due_signing_key(&[first], &p, due - secs(1)), None);
        let second = key(2, due_signing_key(&[first], &p, due).unwrap());
        assert_eq!(second.signs_from, Some(due + secs(600)));
        let keys = [first, second];
        let turn = due + secs(600);
        assert_eq!(signer(&keys, &p, turn - secs(1)), Some(&first));
        assert_eq!(signer(&keys, &p, turn), Some(&second));
        assert_eq!(
            token_times(&first, &p, turn - secs(1)).1,
            turn - secs(1) + secs(1800)
        );
    }

    #[test]
    fn a_key_too_short_for_a_token_bridges_the_lead_with_shorter_ones() {
        let p = policy();
        for (left, wait) in [
            (30, 0),
            (60, 0),
            (61, 1),
            (660, 600),
            (1200, 600),
            (1790, 600),
        ] {
            let old = ending_in(left);
            let span = due_signing_key(&[old], &p, T0).unwrap();
            assert_eq!(span.signs_from, T0 + secs(wait), "{left} s left");
            assert_eq!(
                token_times(&old, &p, T0).1,
                old.expires_at.min(T0 + secs(1800))
            );
        }
        assert_eq!(due_signing_key(&[ending_in(1860 + 601)], &p, T0), None);
    }

    #[test]
    fn a_key_from_a_clock_that_was_ahead_signs_until_its_successor_may() {
        let p = policy();
        let ahead = key(1, due_signing_key(&[], &p, T0 + secs(86_400)).unwrap());
        let span = due_signing_key(&[ahead], &p, T0).unwrap();
        assert_eq!(span.signs_from, T0 + secs(600));
        let keys = [ahead, key(2, span)];
        assert_eq!(signer(&keys, &p, T0).unwrap().kid, ahead.kid);
        assert_eq!(signer(&keys, &p, T0 + secs(600)).unwrap().kid, keys[1].kid);
        assert_eq!(due_signing_key(&keys, &p, T0), None);
    }

    #[test]
    fn a_key_of_the_earlier_server_may_sign_and_does_not_hold_up_the_next_for_years() {
        let p = policy();
        let row = |left| KeyTimes {
            kid: Kid::from_row(1),
            serial: 1,
            signs_from: None,
            expires_at: T0 + secs(left),
        };
        assert_eq!(signer(&[row(5)], &p, T0), Some(&row(5)));
        assert_eq!(due_signing_key(&[row(3600)], &p, T0), None);
        assert!(due_signing_key(&[row(1_000_000_000)], &p, T0).is_some());
    }

    #[test]
    fn a_key_made_expired_never_signs_even_when_the_clock_goes_back() {
        let p = policy();
        let expired = key(1, due_expired_key(&[], T0).unwrap());
        assert_eq!(last_expired(&[expired], T0), Some(&expired));
        let before = T0 - secs(86_400);
        assert!(is_published(&expired, before));
        assert_eq!(signer(&[expired], &p, before), None);
        assert!(due_signing_key(&[expired], &p, before).is_some());
        assert!(due_expired_key(&[expired], before).is_some());
    }

    #[test]
    fn an_expired_token_is_old_and_from_its_keys_lifetime() {
        let p = policy();
        let mut key = ending_in(0);
        assert_eq!(
            expired_token_times(&key, &p, T0),
            (T0 - secs(3600 + 1800), T0 - secs(3600))
        );
        key.expires_at = T0 - secs(9000);
        assert_eq!(expired_token_times(&key, &p, T0).1, T0 - secs(9000));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused_with_the_numbers() {
        let mut parts = PolicyParts {
            key_lifetime: secs(2520),
            token_lifetime: secs(1800),
            lead: secs(600),
            skew: secs(60),
            retention: secs(0),
        };
        assert!(Policy::new(parts).is_ok());
        parts.key_lifetime = secs(2519);
        assert_eq!(
            Policy::new(parts).unwrap_err().to_string(),
            "keys live 2519 s, but need at least 2520 s: lead 600 s + token 1800 s + clock skew 60 s + a signing window of 60 s"
        );
    }
}
