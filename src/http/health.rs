//! `GET /healthz` (liveness: restart the process?) and `GET /readyz` (readiness:
//! send it requests?).

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use serde_json::json;

use super::error::ApiError;
use super::state::SharedState;

pub(super) const ALIVE: &str = "/healthz";
pub(super) const READY: &str = "/readyz";
const METHODS: &str = "GET, HEAD";
const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

pub(super) fn routes() -> Router<SharedState> {
    Router::new()
        .route(ALIVE, get_only(get(healthz)))
        .route(READY, get_only(get(readyz)))
}

fn get_only(get: MethodRouter<SharedState>) -> MethodRouter<SharedState> {
    get.fallback(|| async { ([NO_STORE], ApiError::MethodNotAllowed(METHODS)) })
}

/// Liveness: answering at all is the check.
async fn healthz() -> Response {
    ok("alive")
}

async fn readyz(State(state): State<SharedState>) -> Response {
    let faults = state.readiness.faults().await;
    if faults.is_empty() {
        ok("ready")
    } else {
        ([NO_STORE], ApiError::busy(faults.join("; "))).into_response()
    }
}

fn ok(status: &'static str) -> Response {
    ([NO_STORE], Json(json!({ "status": status }))).into_response()
}
