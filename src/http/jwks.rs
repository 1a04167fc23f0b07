//! `GET /.well-known/jwks.json`: the key set (RFC 7517). Body and entity tag are
//! finished beforehand; a request costs an atomic load, and a lock or two for `max-age`.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};

use super::error::ApiError;
use super::public_document::{ANY_ORIGIN, key_caching, respond, with_cors};
use super::state::{AppState, SharedState};
use crate::clock::UnixTime;
use crate::domain::document::Document;
use crate::domain::snapshot::Snapshot;

pub(super) const PATH: &str = "/.well-known/jwks.json";

pub(super) fn routes() -> Router<SharedState> {
    Router::new().route(PATH, method_router())
}

/// The same methods at a second path, for issuers with a path.
pub(super) fn method_router() -> MethodRouter<SharedState> {
    with_cors(get(key_set))
}

async fn key_set(State(state): State<SharedState>, request: Request) -> Response {
    if let Some(response) = published(&state, request.headers()) {
        return response;
    }
    let pick = |snapshot: &Snapshot, now| snapshot.published(now).cloned();
    await_and_respond(&state, request.headers(), pick).await
}

/// The answer from the keys in memory, if one is published.
pub(super) fn published(state: &AppState, headers: &HeaderMap) -> Option<Response> {
    let snapshot = state.keys.snapshot();
    let set = snapshot.published(state.clock.now())?;
    Some(respond(set, headers, &*key_caching(state)?))
}

/// The answer that waits for a document: the first key is still being made, none has come
/// for long, or this replica is cut off.
pub(super) async fn await_and_respond(
    state: &AppState,
    headers: &HeaderMap,
    pick: impl Fn(&Snapshot, UnixTime) -> Option<Document>,
) -> Response {
    let busy = |why| ([ANY_ORIGIN], ApiError::busy(why)).into_response();
    let Some((document, _)) = state.keys.wait_for(&*state.clock, pick).await else {
        // A key set without keys would make verifiers refuse every token.
        return busy("no key is published at the moment");
    };
    match key_caching(state) {
        Some(caching) => respond(&document, headers, &caching),
        // This replica is cut off: a key may have been revoked meanwhile.
        None => busy("the database has not answered for as long as the keys may be kept"),
    }
}
