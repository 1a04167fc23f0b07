//! What the `keys` commands print.

use std::slice;
use std::time::Duration;

use insta::assert_snapshot;
use jwks_server::cli::keys::render::*;
use jwks_server::clock::{Moment, UnixTime};
use jwks_server::domain::bad_key::BadKey;
use jwks_server::domain::key_admin::{KeyEvent, KeyEventKind, KeyStatus, Reencrypted};
use jwks_server::lifecycle::{Kid, Stage};
use serde_json::{Value, json};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn keys() -> Vec<KeyStatus> {
    let secs = Duration::from_secs;
    let current = KeyStatus {
        kid: "909699718269300".to_owned(),
        stage: Stage::Signing,
        created_at: Some(NOW - secs(700)),
        signs_from: Some(NOW - secs(100)),
        stops_signing: Some(NOW + secs(1040)),
        unpublished_at: NOW + secs(2900),
        deleted_at: NOW + secs(607_701),
        opened_by: Ok(0),
    };
    let earlier = KeyStatus {
        kid: "1".to_owned(),
        stage: Stage::Retiring,
        created_at: None,
        signs_from: None,
        stops_signing: None,
        opened_by: Ok(1),
        unpublished_at: NOW + secs(60),
        ..current
    };
    let broken = KeyStatus {
        kid: "2".to_owned(),
        stage: Stage::Expired,
        unpublished_at: NOW,
        opened_by: Err(BadKey::WrongKid),
        ..earlier
    };
    vec![broken, earlier, current]
}

#[test]
fn keys_are_listed_in_a_table() {
    assert_snapshot!(list(&keys(), &[], NOW, false), @r#"
    KID              STATE     CREATED  SIGNS FROM  STOPS SIGNING  LEAVES  DELETED  OPENED BY
    2                expired   -        -           -              0s ago  in 7d    NONE: it was tampered with: it is not the key that its kid names
    1                retiring  -        -           -              in 60s  in 7d    older (2)
    909699718269300  signing   12m ago  2m ago      in 17m         in 48m  in 7d    first
    "#);
}

#[test]
fn times_are_rounded_to_the_smallest_unit_of_which_there_are_fewer_than_a_hundred() {
    for (seconds, shown) in [
        (99, " in 99s "),
        (100, " in 2m "),
        (5969, " in 99m "),
        (5970, " in 2h "),
        (356_399, " in 99h "),
        (358_200, " in 4d "),
        (9999 * 86_400, " in 9999d "),
    ] {
        let unpublished_at = NOW + Duration::from_secs(seconds);
        let key = KeyStatus {
            unpublished_at,
            ..keys().pop().unwrap()
        };
        let listed = list(&[key], &[], NOW, false);
        assert!(listed.contains(shown), "{shown}: {listed}");
    }
}

#[test]
fn a_key_that_was_revoked_while_it_was_announced_has_no_time_from_which_it_signs() {
    let soon = Some(NOW + Duration::from_secs(329));
    for (stage, is_shown) in [(Stage::Announced, true), (Stage::Revoked, false)] {
        let key = KeyStatus {
            stage,
            signs_from: soon,
            ..keys().pop().unwrap()
        };
        let listed = list(&[key], &[], NOW, false);
        assert_eq!(listed.contains("in 5m"), is_shown, "{listed}");
    }
}

#[test]
fn keys_are_listed_in_json() {
    let listed: Value = serde_json::from_str(&list(&keys(), &[], NOW, true)).unwrap();
    assert_eq!(listed["now"], json!(Moment::from(NOW)));
    let moment = |secs| json!({ "time": UnixTime::from_secs(secs).rfc3339(), "epoch": secs });
    assert_eq!(
        listed["keys"][2],
        json!({
            "kid": "909699718269300",
            "state": "signing",
            "created_at": moment(1_799_999_300),
            "signs_from": moment(1_799_999_900),
            "stops_signing": moment(1_800_001_040),
            "unpublished_at": moment(1_800_002_900),
            "deleted_at": moment(1_800_607_701),
            "opened_by": "first",
            "problem": null,
        })
    );
    assert_eq!(listed["keys"][1]["opened_by"], "older");
    assert_eq!(listed["keys"][1]["signs_from"], Value::Null);
    assert_eq!(listed["keys"][0]["opened_by"], Value::Null);
    assert!(listed["keys"][0]["problem"].is_string());
}

#[test]
fn events_are_shown_in_a_table_and_in_json() {
    let event = |kid: i64, kind, reason: Option<&str>| KeyEvent {
        kid: kid.to_string(),
        kind,
        at: NOW,
        reason: reason.map(str::to_owned),
    };
    let events = [
        event(909_699_718_269_300, KeyEventKind::Created, None),
        event(1, KeyEventKind::Revoked, Some("a leak")),
    ];
    assert_snapshot!(history(&events, false), @r#"
    AT                    KID              EVENT    REASON
    2027-01-15T08:00:00Z  909699718269300  created
    2027-01-15T08:00:00Z  1                revoked  a leak
    "#);
    let event =
        json!({ "at": Moment::from(NOW), "kid": "1", "event": "revoked", "reason": "a leak" });
    let document = document(&json!({ "events": [event] }));
    assert_eq!(history(&events[1..], true), document);
}

#[test]
fn each_command_says_what_it_did() {
    let (one, two) = (Kid::from_row(1), "2".to_owned());
    let done = Reencrypted {
        changed: 3,
        unchanged: 1,
        unreadable: 0,
    };
    assert_snapshot!(rotated(one, NOW, false), @r#"Key 1 is published and signs from 2027-01-15T08:00:00Z."#);
    assert_snapshot!(emergency_rotated(one, slice::from_ref(&two), false), @r#"
    Key 1 signs. Revoked: 2.
    Verifiers accept tokens of revoked keys until they fetch the key set again: restart them, or empty their caches.
    "#);
    assert_snapshot!(revoked(&two, false), @r#"
    Key 2 is revoked.
    Verifiers accept its tokens until they fetch the key set again: restart them, or empty their caches.
    "#);
    assert_snapshot!(reencrypted(done, false), @r#"3 keys re-encrypted, 1 were under the first entry of NOT_MY_KEY already."#);
    for (printed, value) in [
        (
            rotated(one, NOW, true),
            json!({ "kid": "1", "signs_from": Moment::from(NOW) }),
        ),
        (
            emergency_rotated(one, slice::from_ref(&two), true),
            json!({ "kid": "1", "revoked": ["2"] }),
        ),
        (revoked(&two, true), json!({ "revoked": "2" })),
        (
            reencrypted(done, true),
            json!({ "reencrypted": 3, "unchanged": 1, "unreadable": 0 }),
        ),
    ] {
        assert_eq!(printed, document(&value));
    }
}

fn document(value: &Value) -> String {
    format!("{value:#}\n")
}
