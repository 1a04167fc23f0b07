//! `GET /.well-known/jwks.json`: the key set (RFC 7517), finished beforehand:
//! a request costs one atomic load and a few headers.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::error::ApiError;
use crate::app::AppState;
use crate::domain::keys::PublishedSet;

/// The path, which verifiers know by heart.
pub(super) const PATH: &str = "/.well-known/jwks.json";
const METHODS: &str = "GET, HEAD, OPTIONS";

/// A key set is for everyone, also for scripts on other pages.
const ANY_ORIGIN: (HeaderName, HeaderValue) = (
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    HeaderValue::from_static("*"),
);

pub(super) fn routes() -> Router<AppState> {
    Router::new().route(
        PATH,
        get(key_set)
            .options(preflight)
            .fallback(|| async { ([ANY_ORIGIN], ApiError::MethodNotAllowed(METHODS)) }),
    )
}

async fn key_set(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let now = state.clock.now();
    if let Some(set) = state.keys.snapshot().published(now) {
        return answer(set, &headers, &state.key_set_caching);
    }
    // The first key is still being made, or none has come for long.
    let awaited = state.keys.wait_for(&*state.clock, |snapshot, now| {
        snapshot.published(now).cloned()
    });
    match awaited.await {
        Some((set, _)) => answer(&set, &headers, &state.key_set_caching),
        None => (
            [ANY_ORIGIN],
            ApiError::busy("no key is published at the moment"),
        )
            .into_response(),
    }
}

async fn preflight() -> impl axum::response::IntoResponse {
    (
        StatusCode::NO_CONTENT,
        [
            ANY_ORIGIN,
            (header::ALLOW, HeaderValue::from_static(METHODS)),
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(METHODS),
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("*"),
            ),
            (
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from_static("86400"),
            ),
        ],
    )
}

fn answer(set: &PublishedSet, request: &HeaderMap, caching: &HeaderValue) -> Response {
    let unchanged = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|value| names(value, &set.etag));
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(set.body.clone()));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_maybe_shared(set.etag.clone()) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::CACHE_CONTROL, caching.clone());
    headers.insert(ANY_ORIGIN.0, ANY_ORIGIN.1);
    response
}

/// Whether `If-None-Match` names the tag: weak comparison, as RFC 9110 section
/// 13.1.2 asks, and `*` names every one. Our tags have no commas in them.
fn names(value: &HeaderValue, etag: &[u8]) -> bool {
    value.as_bytes().split(|&b| b == b',').any(|tag| {
        let tag = tag.trim_ascii();
        tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag
    })
}

/// The value of `Cache-Control` on the key set.
pub fn caching(max_age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("public, max-age={}", max_age.as_secs()))
        .unwrap_or(HeaderValue::from_static("no-cache"))
}
