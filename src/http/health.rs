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
use crate::app::SharedState;

const METHODS: &str = "GET, HEAD";
const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

pub(super) fn routes() -> Router<SharedState> {
    Router::new()
        .route("/healthz", only(get(healthz)))
        .route("/readyz", only(get(readyz)))
}

fn only(get: MethodRouter<SharedState>) -> MethodRouter<SharedState> {
    get.fallback(|| async { ([NO_STORE], ApiError::MethodNotAllowed(METHODS)) })
}

/// Whoever reads this answer has an answer.
async fn healthz() -> Response {
    ([NO_STORE], Json(Status { status: "alive" })).into_response()
}

async fn readyz(State(state): State<SharedState>) -> Response {
    let faults = state.readiness.faults().await;
    if faults.is_empty() {
        ([NO_STORE], Json(Status { status: "ready" })).into_response()
    } else {
        ([NO_STORE], ApiError::busy(faults.join("; "))).into_response()
    }
}
