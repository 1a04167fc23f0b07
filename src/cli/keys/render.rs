//! Output of the `keys` commands: tables for people, JSON for programs.

use serde_json::{Value, json};

use crate::cli::terminal::{columns, document, plain, table};
use crate::clock::{Moment, UnixTime};
use crate::domain::database::BadRow;
use crate::domain::key_admin::{KeyEvent, KeyStatus, Reencrypted};
use crate::lifecycle::Kid;

/// `bad`: rows that could not be read.
pub fn list(keys: &[KeyStatus], bad: &[BadRow], now: UnixTime, as_json: bool) -> String {
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
        "LEAVES",
        "DELETED",
        "OPENED BY",
    ];
    let when = |at: Option<UnixTime>| at.map_or("-".to_owned(), |at| relative(at, now));
    let rows = keys.iter().map(|key| {
        vec![
            plain(&key.kid),
            key.stage.name().to_owned(),
            when(key.created_at),
            // A key that was revoked while it was announced never signs.
            when(
                key.signs_from
                    .filter(|&at| at <= now || key.stage.will_sign()),
            ),
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
    table(&header, rows.chain(bad), columns())
}

pub fn rotated(kid: Kid, signs_from: UnixTime, as_json: bool) -> String {
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

pub fn emergency_rotated(kid: Kid, old: &[String], as_json: bool) -> String {
    if as_json {
        return document(&json!({ "kid": kid.to_string(), "revoked": old }));
    }
    format!(
        "Key {kid} signs. Revoked: {}.\nVerifiers accept tokens of revoked keys until they fetch the key set again: restart them, or empty their caches.\n",
        plain(&old.join(", "))
    )
}

pub fn adopted(kids: &[String], until: UnixTime, as_json: bool) -> String {
    if as_json {
        return document(&json!({ "adopted": kids, "until": Moment::from(until) }));
    }
    let kids: String = kids
        .iter()
        .map(|kid| format!("  {}\n", plain(kid)))
        .collect();
    format!(
        "Published until {}, from the next load of a running server on, within a second:\n{kids}",
        until.rfc3339()
    )
}

pub fn revoked(kid: &str, as_json: bool) -> String {
    if as_json {
        return document(&json!({ "revoked": kid }));
    }
    let kid = plain(kid);
    format!(
        "Key {kid} is revoked.\nVerifiers accept its tokens until they fetch the key set again: restart them, or empty their caches.\n"
    )
}

pub fn reencrypted(done: Reencrypted, as_json: bool) -> String {
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

pub fn history(events: &[KeyEvent], as_json: bool) -> String {
    if as_json {
        let events: Vec<_> = events
            .iter()
            .map(|event| {
                json!({
                    "at": Moment::from(event.at),
                    "kid": event.kid,
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
            plain(&event.kid),
            event.kind.name().to_owned(),
            event.reason.as_deref().map(plain).unwrap_or_default(),
        ]
    });
    table(&["AT", "KID", "EVENT", "REASON"], rows, columns())
}

fn status_json(key: &KeyStatus) -> Value {
    json!({
        "kid": key.kid,
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

/// `in 12m`, `2h ago`: rounded to the smallest unit of which there are fewer than 100, so
/// that a row takes one line of 80 columns.
fn relative(at: UnixTime, now: UnixTime) -> String {
    let seconds = now.until(at).max(at.until(now)).as_secs();
    let count = |unit: u64| seconds.saturating_add(unit / 2) / unit;
    let mut units = [(1, 's'), (60, 'm'), (3600, 'h')].into_iter();
    let (unit, name) = units
        .find(|&(unit, _)| count(unit) < 100)
        .unwrap_or((86_400, 'd'));
    match now < at {
        true => format!("in {}{name}", count(unit)),
        false => format!("{}{name} ago", count(unit)),
    }
}
