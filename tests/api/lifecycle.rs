//! The rules at their edges, with the numbers of the default policy.

use std::time::Duration;

use jwks_server::clock::UnixTime;
use jwks_server::lifecycle::*;
use strum::VariantArray as _;

const T0: UnixTime = UnixTime::from_secs(1_800_000_000);

/// The lead and two seconds, see [`Policy::lead_with_margin`].
const LEAD_WITH_MARGIN: Duration = Duration::from_secs(602);

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
        withdrawn: false,
    }
}

/// A lone key that has been signing and has `left` seconds to live.
fn ending_in(left: u64) -> KeyTimes {
    signing(1, T0 - secs(1000), left)
}

/// A key that may sign from `signs_from` on and has `left` seconds to live at [`T0`].
fn signing(kid: i64, signs_from: UnixTime, left: u64) -> KeyTimes {
    KeyTimes {
        kid: Kid::from_row(kid),
        serial: kid,
        created_at: None,
        signs_from: Some(signs_from),
        expires_at: T0 + secs(left),
        revoked: false,
        withdrawn: false,
    }
}

fn revoked(key: KeyTimes) -> KeyTimes {
    KeyTimes {
        revoked: true,
        ..key
    }
}

#[test]
fn the_first_key_signs_at_once_and_the_next_is_announced_a_lead_ahead() {
    let p = policy();
    let first = key(1, due_signing_key(&[], &p, T0).unwrap());
    assert_eq!(first.signs_from, Some(T0));
    let due = T0 + secs(3600 - 1800 - 60) - LEAD_WITH_MARGIN;
    assert_eq!(next_due(&[first], &p, T0), Some(due));
    assert_eq!(due_signing_key(&[first], &p, due - secs(1)), None);
    let second = key(2, due_signing_key(&[first], &p, due).unwrap());
    assert_eq!(second.signs_from, Some(due + LEAD_WITH_MARGIN));
    let keys = [first, second];
    let turn = due + LEAD_WITH_MARGIN;
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
    assert_eq!(span.signs_from, T0 + LEAD_WITH_MARGIN);
    let keys = [ahead, key(2, span)];
    assert_eq!(signer(&keys, &p, T0).unwrap().kid, ahead.kid);
    assert_eq!(
        signer(&keys, &p, T0 + LEAD_WITH_MARGIN).unwrap().kid,
        keys[1].kid
    );
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
        withdrawn: false,
    };
    assert_eq!(signer(&[row(5)], &p, T0), Some(&row(5)));
    assert_eq!(due_signing_key(&[row(3600)], &p, T0), None);
    let due = T0 + secs(3600 - 1800 - 60) - LEAD_WITH_MARGIN;
    assert_eq!(next_due(&[row(3600)], &p, T0), Some(due));
    assert!(due_signing_key(&[row(1_000_000_000)], &p, T0).is_some());
}

#[test]
fn a_key_made_expired_never_signs_even_when_the_clock_goes_back() {
    let p = policy();
    let expired = key(1, due_expired_key(&[], T0).unwrap());
    assert_eq!(last_unpublished(&[expired], T0), Some(&expired));
    let before = T0 - secs(86_400);
    assert!(expired.is_published_at(before));
    assert_eq!(signer(&[expired], &p, before), None);
    assert_eq!(stage(&expired, &[expired], &p, before), Stage::Retiring);
    let span = due_signing_key(&[expired], &p, before).unwrap();
    assert_eq!(span.signs_from, before);
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
fn a_key_leaves_the_set_in_the_second_of_its_end_and_is_the_last_expired_then() {
    let key = ending_in(0);
    assert!(key.is_published_at(T0 - secs(1)));
    assert!(!key.is_published_at(T0));
    assert_eq!(last_unpublished(&[key], T0 - secs(1)), None);
    assert_eq!(last_unpublished(&[key], T0), Some(&key));
    assert!(due_expired_key(&[key], T0 - secs(1)).is_some());
    assert_eq!(due_expired_key(&[key], T0), None);
}

#[test]
fn a_revoked_key_serves_as_expired_only_where_none_has_expired() {
    let ahead = revoked(signing(1, T0, 3600));
    let old = signing(2, T0 - secs(9000), 0);
    assert_eq!(last_unpublished(&[ahead], T0), Some(&ahead));
    assert_eq!(last_unpublished(&[ahead, old], T0), Some(&old));
    // Nor does it hold up the next key, or bridge the lead of one.
    let span = due_signing_key(&[ahead], &policy(), T0).unwrap();
    assert_eq!(span.signs_from, T0);
}

#[test]
fn the_fittest_key_signs() {
    let p = policy();
    let announced = signing(9, T0 + secs(1), 3600);
    let earlier_server = |left| KeyTimes {
        signs_from: None,
        ..ending_in(left)
    };
    let newer = |left| signing(2, T0 - secs(500), left);
    for (comparison, fitter, other) in [
        ("signing: newer before older", newer(4000), ending_in(5000)),
        (
            "signing: also in its last second",
            newer(1860),
            ending_in(5000),
        ),
        (
            "signing: a key of this server before the earlier one's",
            ending_in(1860),
            earlier_server(9000),
        ),
        (
            "signing before retiring, though older",
            ending_in(1860),
            newer(1859),
        ),
        (
            "retiring: most left, though older",
            ending_in(1859),
            newer(1858),
        ),
        (
            "retiring before announced, with a second left",
            ending_in(61),
            announced,
        ),
        ("announced before spent", announced, ending_in(60)),
        (
            "announced: created first",
            signing(8, T0 + secs(9), 3000),
            announced,
        ),
        ("spent: most left, though older", ending_in(59), newer(58)),
        (
            "a tie of all times: the higher kid",
            signing(2, T0, 3600),
            signing(1, T0, 3600),
        ),
    ] {
        for keys in [[fitter, other], [other, fitter]] {
            assert_eq!(signer(&keys, &p, T0), Some(&fitter), "{comparison}");
        }
    }
}

/// Examples of the comments in `src/lifecycle/mod.rs`, with [`T0`] for 12:00:00.
#[test]
fn the_examples_in_the_comments_hold() {
    let p = policy();
    // Covered until 12:29:00, and due 602 s before.
    let due = T0 + secs(29 * 60) - LEAD_WITH_MARGIN;
    assert_eq!(next_due(&[signing(1, T0, 3600)], &p, T0), Some(due));
    assert_eq!(due, T0 + secs(18 * 60 + 58));
    let ahead = signing(1, T0 + secs(3600), 7200);
    assert_eq!(next_due(&[ahead], &p, T0), None);
    let bridge = due_signing_key(&[ending_in(300)], &p, T0).unwrap();
    assert_eq!(bridge.signs_from, T0 + secs(240));

    let by_rank = [
        signing(1, T0 - secs(20 * 60), 40 * 60),
        signing(2, T0 - secs(40 * 60), 20 * 60),
        signing(3, T0 + secs(5 * 60), 3600),
        signing(4, T0 - secs(3550), 50),
    ];
    for (n, key) in by_rank.iter().enumerate() {
        // Each signs when the ones before it are gone.
        assert_eq!(signer(&by_rank[n..], &p, T0), Some(key));
    }
    let two_days_before = T0 - secs(2 * 86_400);
    assert_eq!(signer(&by_rank, &p, two_days_before), Some(&by_rank[0]));
    assert_eq!(token_times(&by_rank[1], &p, T0).1, T0 + secs(20 * 60));
}

#[test]
fn a_key_goes_through_its_stages_to_the_second() {
    let p = policy();
    let first = key(1, due_signing_key(&[], &p, T0).unwrap());
    let second = key(2, rotated_key(&p, T0));
    let keys = [first, second];
    let at = |key, n| stage(key, &keys, &p, T0 + secs(n));
    assert_eq!(
        (at(&first, 601), at(&second, 601)),
        (Stage::Signing, Stage::Announced)
    );
    assert_eq!(
        (at(&first, 602), at(&second, 602)),
        (Stage::Retiring, Stage::Signing)
    );
    assert_eq!(at(&first, 3599), Stage::Retiring);
    assert_eq!(at(&first, 3600), Stage::Expired);
    assert_eq!(stage(&revoked(first), &keys, &p, T0), Stage::Revoked);
    // Two may sign from the same second on; the one that does not is no
    // longer on its way.
    let twin = KeyTimes {
        kid: Kid::from_row(3),
        ..second
    };
    let keys = [first, second, twin];
    let turn = T0 + LEAD_WITH_MARGIN;
    assert_eq!(stage(&second, &keys, &p, turn), Stage::Retiring);
    assert_eq!(stage(&twin, &keys, &p, turn), Stage::Signing);
}

#[test]
fn each_stage_says_what_a_key_there_does() {
    let found: Vec<_> = Stage::VARIANTS
        .iter()
        .map(|stage| (stage.name(), stage.is_published(), stage.will_sign()))
        .collect();
    let expected = [
        ("announced", true, true),
        ("signing", true, true),
        ("retiring", true, false),
        ("adopted", true, false),
        ("expired", false, false),
        ("revoked", false, false),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_key_stops_signing_for_its_successor_or_at_its_own_end() {
    let p = policy();
    let key = signing(1, T0, 3600);
    let own = T0 + secs(1740);
    let stops = |others: &[KeyTimes]| stops_signing(&key, &[&[key], others].concat(), &p);
    assert_eq!(stops(&[]), own);
    assert_eq!(stops(&[signing(2, T0 - secs(500), 3000)]), own);
    assert_eq!(stops(&[revoked(signing(2, T0 + secs(500), 4000))]), own);
    assert_eq!(stops(&[signing(2, T0 + secs(500), 500)]), own);
    assert_eq!(stops(&[signing(2, T0 + secs(2000), 6000)]), own);
    let next = [
        signing(3, T0 + secs(900), 4500),
        signing(2, T0 + secs(700), 4300),
    ];
    assert_eq!(stops(&next), T0 + secs(700));
}

#[test]
fn a_key_of_a_longer_life_than_the_policy_gives_is_counted_on_no_longer() {
    let p = policy();
    let due = T0 + secs(3600 - 1800 - 60) - LEAD_WITH_MARGIN;
    assert_eq!(next_due(&[signing(1, T0, 100_000)], &p, T0), Some(due));
}

#[test]
fn the_key_that_is_planned_is_the_one_that_is_made_when_it_is_due() {
    let p = policy();
    let first = key(1, due_signing_key(&[], &p, T0).unwrap());
    let due = next_due(&[first], &p, T0).unwrap();
    let (planned, stops) = planned_key(&p, due);
    assert_eq!(due_signing_key(&[first], &p, due), Some(planned));
    let second = key(2, planned);
    assert_eq!(stops, stops_signing(&second, &[first, second], &p));
}

#[test]
fn what_operators_ask_for_has_the_times_of_the_policy() {
    let p = policy();
    let rotated = KeySpan {
        created_at: T0,
        signs_from: T0 + LEAD_WITH_MARGIN,
        expires_at: T0 + secs(3600),
    };
    assert_eq!(rotated_key(&p, T0), rotated);
    let emergency = KeySpan {
        signs_from: T0,
        ..rotated
    };
    assert_eq!(emergency_key(&p, T0), emergency);
}

#[test]
fn a_row_is_deleted_in_the_second_after_its_retention() {
    let p = policy();
    let key = ending_in(0);
    let gone = T0 + secs(7 * 86_400 + 1);
    assert_eq!(deleted_at(key.expires_at, &p), gone);
    assert!(key.expires_at < p.delete_before(gone));
    assert_eq!(key.expires_at, p.delete_before(gone - secs(1)));
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
