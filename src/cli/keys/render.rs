//! What the `keys` commands print: tables for people, JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{Moment, UnixTime};
use crate::domain::key_admin::KeyStatus;
use crate::lifecycle::Kid;
use crate::store::{KeyEvent, Resealed};

pub(super) fn list(keys: &[KeyStatus], now: UnixTime, as_json: bool) -> String {
    if as_json {
        let keys: Vec<_> = keys.iter().map(status_json).collect();
        return document(&json!({ "now": Moment::from(now), "keys": keys }));
    }
    let head = [
        "KID",
        "STATE",
        "CREATED",
        "SIGNS FROM",
        "STOPS SIGNING",
        "UNPUBLISHED",
        "DELETED",
        "OPENED BY",
    ];
    let when = |at: Option<UnixTime>| at.map_or("-".to_owned(), |at| relative(at, now));
    let rows = keys.iter().map(|key| {
        vec![
            key.kid.to_string(),
            key.stage.name().to_owned(),
            when(key.created_at),
            when(key.signs_from),
            when(key.stops_signing),
            when(Some(key.unpublished_at)),
            when(Some(key.deleted_at)),
            opened_by(key),
        ]
    });
    table(&head, rows)
}

pub(super) fn rotated(kid: Kid, signs_from: UnixTime, as_json: bool) -> String {
    if as_json {
        return document(&json!({
            "kid": kid.to_string(),
            "signs_from": Moment::from(signs_from),
        }));
    }
    format!(
        "Key {kid} is published and signs from {}.\n",
        signs_from.rfc3339()
    )
}

pub(super) fn replaced(kid: Kid, gone: &[Kid], as_json: bool) -> String {
    let gone: Vec<_> = gone.iter().map(Kid::to_string).collect();
    if as_json {
        return document(&json!({ "kid": kid.to_string(), "revoked": gone }));
    }
    format!(
        "Key {kid} signs. Revoked: {}.\nVerifiers accept tokens of revoked keys until they fetch the key set again: restart them, or empty their caches.\n",
        gone.join(", ")
    )
}

pub(super) fn revoked(kid: Kid, as_json: bool) -> String {
    if as_json {
        return document(&json!({ "revoked": kid.to_string() }));
    }
    format!(
        "Key {kid} is revoked.\nVerifiers accept its tokens until they fetch the key set again: restart them, or empty their caches.\n"
    )
}

pub(super) fn resealed(done: Resealed, as_json: bool) -> String {
    if as_json {
        return document(&json!({
            "reencrypted": done.changed,
            "unchanged": done.unchanged,
            "unreadable": done.unreadable,
        }));
    }
    format!(
        "{} keys encrypted anew, {} were under the first entry of NOT_MY_KEY already.\n",
        done.changed, done.unchanged
    )
}

pub(super) fn history(events: &[KeyEvent], as_json: bool) -> String {
    if as_json {
        let events: Vec<_> = events
            .iter()
            .map(|event| {
                json!({
                    "at": Moment::from(event.at),
                    "kid": event.kid.to_string(),
                    "event": event.kind.name(),
                    "reason": event.reason,
                })
            })
            .collect();
        return document(&json!({ "events": events }));
    }
    let rows = events.iter().map(|event| {
        vec![
            event.at.rfc3339(),
            event.kid.to_string(),
            event.kind.name().to_owned(),
            event.reason.clone().unwrap_or_default(),
        ]
    });
    table(&["AT", "KID", "EVENT", "REASON"], rows)
}

fn status_json(key: &KeyStatus) -> Value {
    json!({
        "kid": key.kid.to_string(),
        "state": key.stage.name(),
        "created_at": key.created_at.map(Moment::from),
        "signs_from": key.signs_from.map(Moment::from),
        "stops_signing": key.stops_signing.map(Moment::from),
        "unpublished_at": Moment::from(key.unpublished_at),
        "deleted_at": Moment::from(key.deleted_at),
        "opened_by": key.opened_by.as_ref().ok().map(|&entry| if entry == 0 { "first" } else { "older" }),
        "problem": key.opened_by.as_ref().err().map(ToString::to_string),
    })
}

fn opened_by(key: &KeyStatus) -> String {
    match &key.opened_by {
        Ok(0) => "first".to_owned(),
        Ok(entry) => format!("older ({})", entry + 1),
        Err(problem) => format!("NONE: {problem}"),
    }
}

/// `in 12m 30s`, `2h 5m ago`: the two largest units.
fn relative(at: UnixTime, now: UnixTime) -> String {
    let two_units = |d: Duration| {
        let text = humantime::format_duration(d).to_string();
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    };
    if now < at {
        format!("in {}", two_units(now.until(at)))
    } else {
        format!("{} ago", two_units(at.until(now)))
    }
}

fn document(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Columns as wide as their widest cell.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![head.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>()];
    lines.extend(rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|n| {
            lines
                .iter()
                .map(|line| line[n].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    lines
        .iter()
        .map(|line| {
            let cells = line.iter().zip(&widths);
            let padded: Vec<_> = cells
                .map(|(cell, &width)| format!("{cell:width$}"))
                .collect();
            format!("{}\n", padded.join("  ").trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::domain::key_ring::BadKey;
    use crate::lifecycle::Stage;
    use crate::store::KeyEventKind;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn keys() -> Vec<KeyStatus> {
        let secs = Duration::from_secs;
        let ours = KeyStatus {
            kid: Kid::from_row(909_699_718_269_300),
            stage: Stage::Signing,
            created_at: Some(NOW - secs(700)),
            signs_from: Some(NOW - secs(100)),
            stops_signing: Some(NOW + secs(1040)),
            unpublished_at: NOW + secs(2900),
            deleted_at: NOW + secs(607_701),
            opened_by: Ok(0),
        };
        let earlier = KeyStatus {
            kid: Kid::from_row(1),
            stage: Stage::Retiring,
            created_at: None,
            signs_from: None,
            stops_signing: None,
            opened_by: Ok(1),
            unpublished_at: NOW + secs(60),
            ..ours
        };
        let broken = KeyStatus {
            kid: Kid::from_row(2),
            stage: Stage::Expired,
            unpublished_at: NOW,
            opened_by: Err(BadKey::WrongKid),
            ..earlier
        };
        vec![broken, earlier, ours]
    }

    #[test]
    fn keys_are_listed_in_a_table() {
        assert_snapshot!(list(&keys(), NOW, false), @r#"
        KID              STATE     CREATED      SIGNS FROM  STOPS SIGNING  UNPUBLISHED  DELETED       OPENED BY
        2                expired   -            -           -              0s ago       in 7days 48m  NONE: it was tampered with: it is not the key that its kid names
        1                retiring  -            -           -              in 1m        in 7days 48m  older (2)
        909699718269300  signing   11m 40s ago  1m 40s ago  in 17m 20s     in 48m 20s   in 7days 48m  first
        "#);
    }

    #[test]
    fn keys_are_listed_in_json() {
        assert_snapshot!(list(&keys(), NOW, true), @r#"
        {
          "keys": [
            {
              "created_at": null,
              "deleted_at": {
                "epoch": 1800607701,
                "time": "2027-01-22T08:48:21Z"
              },
              "kid": "2",
              "opened_by": null,
              "problem": "it was tampered with: it is not the key that its kid names",
              "signs_from": null,
              "state": "expired",
              "stops_signing": null,
              "unpublished_at": {
                "epoch": 1800000000,
                "time": "2027-01-15T08:00:00Z"
              }
            },
            {
              "created_at": null,
              "deleted_at": {
                "epoch": 1800607701,
                "time": "2027-01-22T08:48:21Z"
              },
              "kid": "1",
              "opened_by": "older",
              "problem": null,
              "signs_from": null,
              "state": "retiring",
              "stops_signing": null,
              "unpublished_at": {
                "epoch": 1800000060,
                "time": "2027-01-15T08:01:00Z"
              }
            },
            {
              "created_at": {
                "epoch": 1799999300,
                "time": "2027-01-15T07:48:20Z"
              },
              "deleted_at": {
                "epoch": 1800607701,
                "time": "2027-01-22T08:48:21Z"
              },
              "kid": "909699718269300",
              "opened_by": "first",
              "problem": null,
              "signs_from": {
                "epoch": 1799999900,
                "time": "2027-01-15T07:58:20Z"
              },
              "state": "signing",
              "stops_signing": {
                "epoch": 1800001040,
                "time": "2027-01-15T08:17:20Z"
              },
              "unpublished_at": {
                "epoch": 1800002900,
                "time": "2027-01-15T08:48:20Z"
              }
            }
          ],
          "now": {
            "epoch": 1800000000,
            "time": "2027-01-15T08:00:00Z"
          }
        }
        "#);
    }

    #[test]
    fn events_are_shown_in_a_table_and_in_json() {
        let event = |kid, kind, reason: Option<&str>| KeyEvent {
            kid: Kid::from_row(kid),
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
        assert_snapshot!(history(&events[1..], true), @r#"
        {
          "events": [
            {
              "at": {
                "epoch": 1800000000,
                "time": "2027-01-15T08:00:00Z"
              },
              "event": "revoked",
              "kid": "1",
              "reason": "a leak"
            }
          ]
        }
        "#);
    }

    #[test]
    fn what_was_done_is_said() {
        let (one, two) = (Kid::from_row(1), Kid::from_row(2));
        let done = Resealed {
            changed: 3,
            unchanged: 1,
            unreadable: 0,
        };
        assert_snapshot!(rotated(one, NOW, false), @r#"Key 1 is published and signs from 2027-01-15T08:00:00Z."#);
        assert_snapshot!(rotated(one, NOW, true), @r#"
        {
          "kid": "1",
          "signs_from": {
            "epoch": 1800000000,
            "time": "2027-01-15T08:00:00Z"
          }
        }
        "#);
        assert_snapshot!(replaced(one, &[two], false), @r#"
        Key 1 signs. Revoked: 2.
        Verifiers accept tokens of revoked keys until they fetch the key set again: restart them, or empty their caches.
        "#);
        assert_snapshot!(replaced(one, &[two], true), @r#"
        {
          "kid": "1",
          "revoked": [
            "2"
          ]
        }
        "#);
        assert_snapshot!(revoked(one, false), @r#"
        Key 1 is revoked.
        Verifiers accept its tokens until they fetch the key set again: restart them, or empty their caches.
        "#);
        assert_snapshot!(revoked(one, true), @r#"
        {
          "revoked": "1"
        }
        "#);
        assert_snapshot!(resealed(done, false), @r#"3 keys encrypted anew, 1 were under the first entry of NOT_MY_KEY already."#);
        assert_snapshot!(resealed(done, true), @r#"
        {
          "reencrypted": 3,
          "unchanged": 1,
          "unreadable": 0
        }
        "#);
    }
}
