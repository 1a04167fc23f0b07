//! `GET /healthz` and `GET /readyz`, for the program that watches over the
//! service: whether to start it anew, and whether to send it requests.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use serde::Serialize;

use super::error::ApiError;
use super::state::SharedState;

const ALIVE: &str = "/healthz";
const READY: &str = "/readyz";
const METHODS: &str = "GET, HEAD";
const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// How the service fares, in a word.
#[derive(Serialize)]
pub(super) struct Status {
    status: &'static str,
}

pub(super) fn routes() -> Router<SharedState> {
    Router::new()
        .route(ALIVE, only(get(healthz)))
        .route(READY, only(get(readyz)))
}

fn only(get: MethodRouter<SharedState>) -> MethodRouter<SharedState> {
    get.fallback(|| async { ([NO_STORE], ApiError::MethodNotAllowed(METHODS)) })
}

/// Whoever reads this answer has an answer.
async fn healthz() -> Response {
    well("alive")
}

async fn readyz(State(state): State<SharedState>) -> Response {
    let faults = state.readiness.faults().await;
    if faults.is_empty() {
        well("ready")
    } else {
        ([NO_STORE], ApiError::busy(faults.join("; "))).into_response()
    }
}

fn well(status: &'static str) -> Response {
    ([NO_STORE], Json(Status { status })).into_response()
}
