//! `GET /healthz` and `GET /readyz`, for the program that watches over the
//! service: whether to start it anew, and whether to send it requests.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::path::PathItemBuilder;
use utoipa::openapi::{HttpMethod, PathItem};

use super::error::ApiError;
use super::openapi::{self, Answers, Text};
use super::state::SharedState;

const ALIVE: &str = "/healthz";
const READY: &str = "/readyz";
const METHODS: &str = "GET, HEAD";
const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// How the service fares, in a word.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    #[schema(pattern = "^(alive|ready)$")]
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

/// Both routes as the service describes them.
pub(super) fn describe() -> [(&'static str, PathItem); 2] {
    let good = |meaning| {
        Answers::default()
            .json::<Status>(&well(""), meaning, |it| it)
            .error_with(NO_STORE, ApiError::MethodNotAllowed(METHODS))
    };
    let [alive, ready] = [
        Text {
            id: "Health",
            summary: "Whether to start the service anew",
            description: "Is answered while the process answers at all.",
        },
        Text {
            id: "Readiness",
            summary: "Whether to send the service requests",
            description: "Whether the database takes writes, a key can sign and the rotation works; good for a second.",
        },
    ];
    [
        (ALIVE, item(alive, good("The process is alive."))),
        (
            READY,
            item(
                ready,
                good("All of it works.").error_with(NO_STORE, ApiError::busy("")),
            ),
        ),
    ]
}

fn item(text: Text<'_>, answers: Answers) -> PathItem {
    let [get, head] = ["get", "head"].map(|method| format!("{method}{}", text.id));
    let headless = openapi::operation(Text { id: &head, ..text });
    let whole = openapi::operation(Text { id: &get, ..text });
    PathItemBuilder::new()
        .operation(
            HttpMethod::Head,
            headless.responses(answers.without_bodies()),
        )
        .operation(HttpMethod::Get, whole.responses(answers))
        .build()
}
