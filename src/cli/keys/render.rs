//! What the `keys` commands print: tables for people, JSON for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{Moment, UnixTime};
use crate::domain::operations::KeyStatus;
use crate::store::{KeyEvent, Kid, Resealed};

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
        "Key {kid} signs. Revoked, and every live token with them: {}.\nVerifiers accept new tokens once they fetch the key set again.\n",
        gone.join(", ")
    )
}

pub(super) fn revoked(kid: Kid, as_json: bool) -> String {
    if as_json {
        return document(&json!({ "revoked": kid.to_string() }));
    }
    format!("Key {kid} is revoked, and every live token with it.\n")
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
