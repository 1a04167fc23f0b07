//! Speaks HTTP: routes, bodies, headers, statuses. Holds no rule, no SQL and no
//! cipher; calls the domain.

mod access_log;
mod auth;
mod body;
pub mod client;
mod conditional_get;
mod discovery;
mod error;
mod health;
mod jwks;
pub mod listen;
mod metrics;
mod openapi;
mod rate_limit;
mod refusals;
mod register;
mod schedule;
pub mod server;
mod service;
pub mod state;

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};

pub use conditional_get::caching;
use error::ApiError;
pub use metrics::metrics_service;
pub use rate_limit::SlidingLog;
pub use refusals::Refusals;
pub use service::{Service, service};
use state::SharedState;

/// Time for a request as a whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

fn router(state: &SharedState) -> Router {
    let slow = Router::new()
        .merge(register::routes(state))
        .merge(auth::routes(state))
        .route_layer(middleware::from_fn(within_time));
    let discovery = state.issuer.as_ref().map_or_else(Router::new, |issuer| {
        discovery::routes(issuer, state.has_audience)
    });
    let log = middleware::from_fn_with_state(state.clone(), access_log::access_log);
    Router::new()
        .merge(slow)
        .merge(jwks::routes())
        .merge(schedule::routes())
        .merge(openapi::routes())
        .merge(discovery)
        .merge(health::routes())
        .fallback(|| async { ApiError::NotFound })
        .layer(log)
        .with_state(state.clone())
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::busy("the request took too long").into_response(),
    }
}
