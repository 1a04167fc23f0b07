//! Output of the `keys` commands: tables for people, JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{Moment, UnixTime};
use crate::domain::database::BadRow;
use crate::domain::key_admin::{KeyEvent, KeyStatus, Reencrypted};
use crate::lifecycle::Kid;

/// `bad`: rows that could not be read.
pub(super) fn list(keys: &[KeyStatus], bad: &[BadRow], now: UnixTime, as_json: bool) -> String {
    if as_json {
        let bad = bad
            .iter()
            .map(|bad| json!({ "kid": bad.row.to_string(), "problem": bad.to_string() }));
        let keys: Vec<_> = keys.iter().map(status_json).chain(bad).collect();
        return document(&json!({ "now": Moment::from(now), "keys": keys }));
    }
    let header = [
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
    let bad = bad.iter().map(|bad| {
        let mut row = vec!["-".to_owned(); header.len()];
        row[0] = bad.row.to_string();
        row[header.len() - 1] = format!("NONE: {bad}");
        row
    });
    table(&header, rows.chain(bad))
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

pub(super) fn emergency_rotated(kid: Kid, old: &[Kid], as_json: bool) -> String {
    let old: Vec<_> = old.iter().map(Kid::to_string).collect();
    if as_json {
        return document(&json!({ "kid": kid.to_string(), "revoked": old }));
    }
    format!(
        "Key {kid} signs. Revoked: {}.\nVerifiers accept tokens of revoked keys until they fetch the key set again: restart them, or empty their caches.\n",
        old.join(", ")
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

pub(super) fn reencrypted(done: Reencrypted, as_json: bool) -> String {
    if as_json {
        return document(&json!({
            "reencrypted": done.changed,
            "unchanged": done.unchanged,
            "unreadable": done.unreadable,
        }));
    }
    format!(
        "{} keys re-encrypted, {} were under the first entry of NOT_MY_KEY already.\n",
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
            event.reason.as_deref().map(plain).unwrap_or_default(),
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

/// False for what a terminal obeys or does not show: control characters, marks
/// that turn the direction of text, and the like.
pub(super) fn is_plain(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

fn plain(text: &str) -> String {
    let shown = |c: char| match is_plain(c) {
        true => c.to_string(),
        false => c.escape_unicode().to_string(),
    };
    text.chars().map(shown).collect()
}

/// Characters that are not plain are escaped as JSON does.
fn document(value: &Value) -> String {
    let shown = |c: char| match is_plain(c) || c == '\n' {
        true => c.to_string(),
        false => {
            let units = c.encode_utf16(&mut [0; 2]).to_vec();
            units.iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }
    };
    let text: String = format!("{value:#}").chars().map(shown).collect();
    format!("{text}\n")
}

/// Columns as wide as their widest cell.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![
        header
            .iter()
            .map(|&cell| cell.to_owned())
            .collect::<Vec<_>>(),
    ];
    lines.extend(rows);
    let widths: Vec<usize> = (0..header.len())
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
    use crate::domain::key_admin::KeyEventKind;
    use crate::domain::key_ring::BadKey;
    use crate::lifecycle::Stage;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn keys() -> Vec<KeyStatus> {
        let secs = Duration::from_secs;
        let current = KeyStatus {
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
            ..current
        };
        let broken = KeyStatus {
            kid: Kid::from_row(2),
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
        KID              STATE     CREATED      SIGNS FROM  STOPS SIGNING  UNPUBLISHED  DELETED       OPENED BY
        2                expired   -            -           -              0s ago       in 7days 48m  NONE: it was tampered with: it is not the key that its kid names
        1                retiring  -            -           -              in 1m        in 7days 48m  older (2)
        909699718269300  signing   11m 40s ago  1m 40s ago  in 17m 20s     in 48m 20s   in 7days 48m  first
        "#);
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
        let event =
            json!({ "at": Moment::from(NOW), "kid": "1", "event": "revoked", "reason": "a leak" });
        let document = document(&json!({ "events": [event] }));
        assert_eq!(history(&events[1..], true), document);
    }

    #[test]
    fn each_command_says_what_it_did() {
        let (one, two) = (Kid::from_row(1), Kid::from_row(2));
        let done = Reencrypted {
            changed: 3,
            unchanged: 1,
            unreadable: 0,
        };
        assert_snapshot!(rotated(one, NOW, false), @r#"Key 1 is published and signs from 2027-01-15T08:00:00Z."#);
        assert_snapshot!(emergency_rotated(one, &[two], false), @r#"
        Key 1 signs. Revoked: 2.
        Verifiers accept tokens of revoked keys until they fetch the key set again: restart them, or empty their caches.
        "#);
        assert_snapshot!(revoked(one, false), @r#"
        Key 1 is revoked.
        Verifiers accept its tokens until they fetch the key set again: restart them, or empty their caches.
        "#);
        assert_snapshot!(reencrypted(done, false), @r#"3 keys re-encrypted, 1 were under the first entry of NOT_MY_KEY already."#);
        for (printed, value) in [
            (
                rotated(one, NOW, true),
                json!({ "kid": "1", "signs_from": Moment::from(NOW) }),
            ),
            (
                emergency_rotated(one, &[two], true),
                json!({ "kid": "1", "revoked": ["2"] }),
            ),
            (revoked(one, true), json!({ "revoked": "1" })),
            (
                reencrypted(done, true),
                json!({ "reencrypted": 3, "unchanged": 1, "unreadable": 0 }),
            ),
        ] {
            assert_eq!(printed, document(&value));
        }
    }
}
