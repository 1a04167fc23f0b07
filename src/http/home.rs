//! `GET /`: a page about the issuer for browsers, and the list of routes as JSON for
//! all others. Says only what is public anyway.

use std::sync::LazyLock;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use maud::{Markup, html};
use mime::Mime;
use serde::Serialize;
use serde_json::{Value, json};

use super::client_addr::Peer;
use super::large_response::{LargeResponse, LargeResponseSlot};
use super::pages::{self, clock_time, duration, timeline, verifiers};
use super::public_document::{ANY_ORIGIN, with_cors};
use super::schedule::Schedule;
use super::state::{AppState, SharedState};
use super::{discovery, jwks, openapi, schedule};
use crate::clock::UnixTime;
use crate::domain::issuer;
use crate::lifecycle::Stage;

const PATH: &str = "/";
const MAX_HOST: usize = 255;
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

pub(super) fn routes() -> Router<SharedState> {
    Router::new().route(PATH, with_cors(get(home)))
}

async fn home(
    State(state): State<SharedState>,
    Extension(peer): Extension<Peer>,
    slot: Option<Extension<LargeResponseSlot>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let common = [
        (header::VARY, HeaderValue::from_static("accept")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ANY_ORIGIN,
    ];
    if !prefers_html(&headers) {
        return (common, Json(json!({ "routes": list(&state) }))).into_response();
    }
    let origin = origin(&state, peer, &uri, &headers);
    // Nothing of them is kept while it waits.
    drop((headers, uri));
    let large_response = match LargeResponse::acquire(slot).await {
        Ok(large_response) => large_response,
        Err(busy) => return ([ANY_ORIGIN], busy).into_response(),
    };
    let now = state.clock.now();
    let schedule = Schedule::new(&state.keys.snapshot(), &state.policy, now);
    let name = state.issuer.as_ref().map_or(&*origin, |it| it.as_str());
    let main = content(&state, &schedule, &origin, name, now);
    let title = format!("{name} · JWT issuer");
    let page = pages::page(&title, pages::refresh(&schedule, now), main);
    large_response.send((common, page).into_response()).await
}

/// A line of the list of routes.
#[derive(Clone, Serialize)]
struct Listed {
    method: String,
    path: String,
    summary: String,
}

/// The routes of `openapi.json`.
static ROUTES: LazyLock<Vec<Listed>> = LazyLock::new(|| {
    let description: Value = serde_json::from_str(openapi::TEXT).unwrap_or_default();
    let paths = description["paths"].as_object().into_iter().flatten();
    let listed = paths.flat_map(|(path, operations)| {
        let operations = operations.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| Listed {
            method: method.to_uppercase(),
            path: path.clone(),
            summary: operation["summary"].as_str().unwrap_or_default().to_owned(),
        })
    });
    let is_listed = |route: &Listed| matches!(&*route.method, "GET" | "POST");
    listed.filter(is_listed).collect()
});

fn list(state: &AppState) -> Vec<Listed> {
    let issuers = state.issuer.as_ref().map(discovery::paths);
    let listed = ROUTES.iter().filter_map(|route| {
        let known = discovery::PATHS.iter().position(|it| *it == route.path);
        let path = match known {
            Some(n) => issuers.as_ref()?.get(n)?,
            None => &route.path,
        };
        Some(Listed {
            path: path.clone(),
            ..route.clone()
        })
    });
    listed.collect()
}

/// Content negotiation (RFC 9110 section 12.5.1). JSON unless `Accept` ranks HTML above
/// it: by the quality, and with equal ones by how exactly the type is named, as some
/// browsers of text send `text/html, */*`.
fn prefers_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let ranges: Vec<_> = values.flat_map(|value| value.split(',')).collect();
    let ranges: Vec<_> = ranges
        .iter()
        .filter_map(|range| media_range(range))
        .collect();
    rank(&ranges, &mime::TEXT_HTML) > rank(&ranges, &mime::APPLICATION_JSON)
}

/// A media range and its quality.
fn media_range(text: &str) -> Option<(Mime, f32)> {
    let range: Mime = text.trim().parse().ok()?;
    let quality = match range.get_param("q") {
        Some(q) => q.as_str().parse().ok()?,
        None => 1.0,
    };
    (0.0..=1.0).contains(&quality).then_some((range, quality))
}

/// Quality of a media type by the most exact range that matches it, and how exact that is.
fn rank(ranges: &[(Mime, f32)], kind: &Mime) -> (f32, u8) {
    let exactness = |range: &Mime| match (range.type_(), range.subtype()) {
        (mime::STAR, mime::STAR) => Some(1),
        (top, mime::STAR) if top == kind.type_() => Some(2),
        (top, sub) if (top, sub) == (kind.type_(), kind.subtype()) => Some(3),
        _ => None,
    };
    let matching = ranges
        .iter()
        .filter_map(|(range, quality)| Some((exactness(range)?, *quality)));
    let best = matching.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    match best {
        Some((exactness, quality)) if quality > 0.0 => (quality, exactness),
        _ => (0.0, 0),
    }
}

/// Scheme, host and port by which the client has reached this service; only what a
/// shell takes as it is.
fn origin(state: &AppState, peer: Peer, uri: &Uri, headers: &HeaderMap) -> String {
    let ours = state.issuer.as_ref().map(issuer::Issuer::origin);
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    // HTTP/2 has it in the request's target.
    let host = host.or_else(|| uri.authority().map(|it| it.as_str()));
    let is_host = |host: &&str| host.len() <= MAX_HOST && issuer::host(host).is_some();
    let Some(host) = host.filter(is_host).map(str::to_ascii_lowercase) else {
        return ours.unwrap_or("http://localhost:8080").to_owned();
    };
    let is_ours = |ours: &&str| {
        let authority = ours.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|it| it.eq_ignore_ascii_case(&host))
    };
    if let Some(ours) = ours.filter(is_ours) {
        return ours.to_owned();
    }
    let is_https = state.proxies.trusts(peer.0.to_canonical())
        && headers
            .get(X_FORWARDED_PROTO)
            .is_some_and(|it| it == "https");
    format!("{}://{host}", if is_https { "https" } else { "http" })
}

fn content(
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
                @if let Some(at) = pages::next_event(schedule, now) {
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
                    li { p { (what) } (pages::code(&line)) }
                }
            }
        }
    }
}
