//! `GET /.well-known/jwks.json`: the key set (RFC 7517), finished beforehand:
//! a request costs one atomic load and a few headers.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};

use super::conditional_get::{ANY_ORIGIN, answer, with_cors};
use super::error::ApiError;
use super::state::SharedState;

/// The path, which verifiers know by heart.
pub(super) const PATH: &str = "/.well-known/jwks.json";

pub(super) fn routes() -> Router<SharedState> {
    Router::new().route(PATH, method_router())
}

/// What the path answers, for issuers that have the key set at another one too.
pub(super) fn method_router() -> MethodRouter<SharedState> {
    with_cors(get(key_set))
}

async fn key_set(State(state): State<SharedState>, headers: HeaderMap) -> Response {
    let now = state.clock.now();
    if let Some(set) = state.keys.snapshot().published(now) {
        return answer(set, &headers, &state.document_caching).map(Body::new);
    }
    // The first key is still being made, or none has come for long.
    let awaited = state.keys.wait_for(&*state.clock, |snapshot, now| {
        snapshot.published(now).cloned()
    });
    match awaited.await {
        Some((set, _)) => answer(&set, &headers, &state.document_caching).map(Body::new),
        None => ([ANY_ORIGIN], missing()).into_response(),
    }
}

fn missing() -> ApiError {
    ApiError::busy("no key is published at the moment")
}
