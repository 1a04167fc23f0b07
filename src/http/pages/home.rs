//! What the page about the issuer says.

use maud::{Markup, html};

use super::{clock_time, duration, timeline, verifiers};
use crate::clock::UnixTime;
use crate::http::schedule::{self, Schedule};
use crate::http::state::AppState;
use crate::http::{discovery, jwks, openapi};
use crate::lifecycle::Stage;

pub(in crate::http) fn main(
    state: &AppState,
    schedule: &Schedule,
    origin: &str,
    name: &str,
    now: UnixTime,
) -> Markup {
    html! {
        header {
            p.eyebrow { "JWT issuer" }
            h1 {
                // Breaks a long one after its slashes.
                @for part in name.split_once("://").map_or(name, |(_, rest)| rest).split_inclusive('/') {
                    (part) wbr;
                }
            }
            p.lead { (status(schedule, now)) }
            nav aria-label="Documents" {
                a href=(jwks::PATH) { "Key set" }
                a href=(schedule::PATH) { "Timetable" }
                a href=(openapi::PATH) { "OpenAPI" }
                @if let Some(issuer) = &state.issuer {
                    @for path in discovery::paths(issuer).iter().take(1) {
                        a href=(path) { "Discovery" }
                    }
                }
            }
        }
        main {
            (timeline::section(schedule, &state.policy, now))
            (try_it(origin))
            (verifiers::section(state, schedule, origin))
        }
        footer {
            p {
                "All times are UTC. "
                @if let Some(at) = super::next_event(schedule, now) {
                    "This page loads itself again at " (clock_time(at, now))
                    ", when the next thing happens to a key."
                }
            }
        }
    }
}

/// The state of the keys in words.
fn status(schedule: &Schedule, now: UnixTime) -> Markup {
    let next = schedule.next_rotation.at();
    let notice = duration(schedule.contract.min_notice_seconds);
    html! {
        @match schedule.keys.iter().find(|key| key.state == Stage::Signing) {
            Some(key) => {
                "Key " code { (key.kid) } " signs now"
                @if let Some(stops) = &key.stops_signing {
                    ", until " (clock_time(stops.at(), now))
                }
                "."
            }
            None => "No key can sign at the moment.",
        }
        @if next > now {
            " The next one is made at " (clock_time(next, now))
            " and is in the key set for " (notice) " before it signs."
        } @else {
            " The next one is being made."
        }
    }
}

fn try_it(origin: &str) -> Markup {
    let register = format!(
        "curl -s {origin}/register -H 'Content-Type: application/json' \\\n  -d '{{\"username\":\"alice\",\"email\":\"alice@example.com\"}}'"
    );
    let sign_in =
        format!("PASSWORD=…   # from the answer\ncurl -s -X POST -u alice:$PASSWORD {origin}/auth");
    let key_set = format!("curl -s {origin}{}", jwks::PATH);
    let expired = format!("curl -s -X POST -u alice:$PASSWORD '{origin}/auth?expired'");
    html! {
        section aria-labelledby="try" {
            h2 #try { "Try it" }
            ol.steps {
                @for (what, line) in [
                    ("Register; the password is shown once", register),
                    ("Sign in for a token", sign_in),
                    ("Fetch the keys that verify it", key_set),
                    ("Get a token that every verifier must refuse", expired),
                ] {
                    li { p { (what) } (super::code(&line)) }
                }
            }
        }
    }
}
