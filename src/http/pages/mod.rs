//! What the pages for browsers share: the frame, the style and the policy that allows
//! it, and how times are shown. No script, and nothing from elsewhere.

pub(super) mod home;
pub(super) mod timeline;
pub(super) mod verifiers;

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::schedule::Schedule;
use crate::clock::UnixTime;

const STYLE: &str = include_str!("style.css");
/// The hash is that of [`STYLE`]; `tests/api/home.rs` says the right one.
const POLICY: &str = "default-src 'none'; style-src 'sha256-rLXrkdbLKGpG7CvJ9aAlPzhYLOb10UjY5x5hru2D6Xo='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const REFRESH: HeaderName = HeaderName::from_static("refresh");
/// Wait for a key that is overdue.
const SOON: u64 = 5;
const MAX_REFRESH: u64 = 24 * 60 * 60;

/// The page, which the browser loads again after `refresh` seconds. The header field does that,
/// as checkers of accessibility take the same in the document for an advertisement.
pub(super) fn page(title: &str, refresh: u64, body: Markup) -> Response {
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    (
        [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
        ],
        [(REFRESH, HeaderValue::from(refresh))],
        html.into_string(),
    )
        .into_response()
}

/// Time at which the next thing happens to a key; none while one is overdue.
pub(super) fn next_event(schedule: &Schedule, now: UnixTime) -> Option<UnixTime> {
    let keys = schedule.keys.iter().flat_map(|key| {
        let times = [&key.signs_from, &key.stops_signing];
        times.into_iter().flatten().chain([&key.unpublished_at])
    });
    let next = &schedule.next_rotation;
    let is_due = next.at() <= now;
    let times = keys.chain([next]).map(|moment| moment.at());
    times.filter(|&at| now < at && !is_due).min()
}

/// Seconds until the page is out of date.
pub(super) fn refresh(schedule: &Schedule, now: UnixTime) -> u64 {
    next_event(schedule, now).map_or(SOON, |at| (now.until(at).as_secs() + 1).min(MAX_REFRESH))
}

/// A time of today, or one with its date.
pub(super) fn clock_time(at: UnixTime, now: UnixTime) -> Markup {
    let (full, today) = (at.rfc3339(), now.rfc3339());
    let (date, time) = (&full[..10], &full[11..19]);
    html! {
        time datetime=(full) {
            @if date != &today[..10] { (date) " " }
            (time)
        }
    }
}

pub(super) fn duration(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

pub(super) fn code(text: &str) -> Markup {
    html! { pre { code { (text) } } }
}

/// An entry of a `dl`.
pub(super) fn fact(name: &str, value: Markup) -> Markup {
    let is_wide = matches!(name, "Key set" | "Issuer");
    html! { div.wide[is_wide] { dt { (name) } dd { (value) } } }
}
