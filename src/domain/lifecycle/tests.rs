//! The rules at their edges, with the numbers of the default policy.

use super::*;
use crate::store::Kid;

const T0: UnixTime = UnixTime::from_secs(1_800_000_000);

/// The lead and two seconds, see [`Policy::notice`].
const NOTICE: Duration = Duration::from_secs(602);

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
        created_at: Some(span.created_at),
        signs_from: Some(span.signs_from),
        expires_at: span.expires_at,
        revoked: false,
    }
}

/// A lone key that has been signing and has `left` seconds to live.
fn ending_in(left: u64) -> KeyTimes {
    KeyTimes {
        kid: Kid::from_row(1),
        serial: 1,
        created_at: None,
        signs_from: Some(T0 - secs(1000)),
        expires_at: T0 + secs(left),
        revoked: false,
    }
}

#[test]
fn the_first_key_signs_at_once_and_the_next_is_announced_a_lead_ahead() {
    let p = policy();
    let first = key(1, due_signing_key(&[], &p, T0).unwrap());
    assert_eq!(first.signs_from, Some(T0));
    let due = T0 + secs(3600 - 1800 - 60) - NOTICE;
    assert_eq!(next_due(&[first], &p, T0), Some(due));
    assert_eq!(due_signing_key(&[first], &p, due - secs(1)), None);
    let second = key(2, due_signing_key(&[first], &p, due).unwrap());
    assert_eq!(second.signs_from, Some(due + NOTICE));
    let keys = [first, second];
    let turn = due + NOTICE;
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
        (662, 602),
        (1200, 602),
        (1790, 602),
    ] {
        let old = ending_in(left);
        let span = due_signing_key(&[old], &p, T0).unwrap();
        assert_eq!(span.signs_from, T0 + secs(wait), "{left} s left");
        assert_eq!(
            token_times(&old, &p, T0).1,
            old.expires_at.min(T0 + secs(1800))
        );
    }
    assert_eq!(due_signing_key(&[ending_in(1860 + 603)], &p, T0), None);
}

#[test]
fn a_key_from_a_clock_that_was_ahead_signs_until_its_successor_may() {
    let p = policy();
    let ahead = key(1, due_signing_key(&[], &p, T0 + secs(86_400)).unwrap());
    let span = due_signing_key(&[ahead], &p, T0).unwrap();
    assert_eq!(span.signs_from, T0 + NOTICE);
    let keys = [ahead, key(2, span)];
    assert_eq!(signer(&keys, &p, T0).unwrap().kid, ahead.kid);
    assert_eq!(signer(&keys, &p, T0 + NOTICE).unwrap().kid, keys[1].kid);
    assert_eq!(due_signing_key(&keys, &p, T0), None);
}

#[test]
fn a_key_of_the_earlier_server_may_sign_and_does_not_hold_up_the_next_for_years() {
    let p = policy();
    let row = |left| KeyTimes {
        kid: Kid::from_row(1),
        serial: 1,
        created_at: None,
        signs_from: None,
        expires_at: T0 + secs(left),
        revoked: false,
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
