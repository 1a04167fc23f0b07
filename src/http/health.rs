//! `GET /healthz` (liveness: restart the process?) and `GET /readyz` (readiness:
//! send it requests?).

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use serde_json::{Value, json};

use super::error::{ApiError, NO_STORE};
use super::state::SharedState;

pub(super) const ALIVE: &str = "/healthz";
pub(super) const READY: &str = "/readyz";
const METHODS: &str = "GET, HEAD";
/// Said to everybody, so it names no address.
const UNTRUSTED_PROXY: &str =
    "X-Forwarded-For or Forwarded of a peer that is not in TRUSTED_PROXIES was ignored";

pub(super) fn routes() -> Router<SharedState> {
    Router::new()
        .route(ALIVE, get_only(get(healthz)))
        .route(READY, get_only(get(readyz)))
}

/// Adds the 405 of a route that answers GET alone and that nobody may cache.
pub(super) fn get_only(get: MethodRouter<SharedState>) -> MethodRouter<SharedState> {
    get.fallback(|| async { ([NO_STORE], ApiError::MethodNotAllowed(METHODS)) })
}

/// Liveness: answering at all is the check.
async fn healthz() -> Response {
    ok(json!({ "status": "alive" }))
}

async fn readyz(State(state): State<SharedState>) -> Response {
    let faults = state.readiness.faults().await;
    if !faults.is_empty() {
        return ([NO_STORE], ApiError::busy(faults.join("; "))).into_response();
    }
    match state.proxies.has_warned() {
        true => ok(json!({ "status": "ready", "warning": UNTRUSTED_PROXY })),
        false => ok(json!({ "status": "ready" })),
    }
}

fn ok(body: Value) -> Response {
    ([NO_STORE], Json(body)).into_response()
}
