//! Speaks HTTP: routes, bodies, headers, statuses. Holds no rule, no SQL and no
//! cipher; calls the domain.

mod accept;
mod access_log;
mod auth;
mod body;
pub mod client_addr;
mod discovery;
mod error;
mod health;
mod home;
mod jwks;
mod large_response;
pub mod listen;
mod metrics_page;
mod openapi;
mod operators;
mod origin;
mod pages;
mod public_document;
mod quota;
mod rate_limit;
mod refusals;
mod register;
mod schedule;
pub mod server;
mod service;
pub mod state;

use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::middleware;
use axum::response::Response;
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use error::ApiError;
pub use operators::metrics_service;
pub use public_document::caching;
pub use quota::Quota;
pub use rate_limit::SlidingLog;
pub use refusals::Refusals;
pub use service::{Service, service};
use state::SharedState;

/// Time for a request as a whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

fn router(state: &SharedState) -> Router {
    let discovery = state.issuer.as_ref().map_or_else(Router::new, |issuer| {
        discovery::routes(issuer, state.audience.is_some())
    });
    let log = middleware::from_fn_with_state(state.clone(), access_log::access_log);
    Router::new()
        .merge(home::routes())
        .merge(register::routes(state))
        .merge(auth::routes(state))
        .merge(jwks::routes())
        .merge(schedule::routes())
        .merge(openapi::routes())
        .merge(discovery)
        .merge(health::routes())
        .fallback(|| async { ApiError::NotFound })
        .layer(log)
        .with_state(state.clone())
}

/// The answer, within the time for a request and with its id in a span around all
/// that is logged meanwhile. No layer, which refusals would pay for too. Not `async`,
/// since the future of such a function holds `answer` twice, 3 KiB for a sign-in.
fn within_time(
    id: &HeaderValue,
    answer: impl Future<Output = Result<Response, ApiError>>,
) -> impl Future<Output = Result<Response, ApiError>> {
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let timed = tokio::time::timeout(REQUEST_TIMEOUT, answer);
    let too_long = |_| Err(ApiError::busy("the request took too long"));
    let answer = timed.instrument(span);
    answer.map(move |answer| answer.unwrap_or_else(too_long))
}
