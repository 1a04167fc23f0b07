//! `GET /metrics`, on a listener of its own: what was counted, and what can be
//! looked up, as text for Prometheus.

use std::convert::Infallible;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::State;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::future::RouteFuture;
use axum::routing::get;
use bytes::Bytes;
use hyper::service::Service;

use super::client::Peer;
use super::error::ApiError;
use super::state::{AppState, SharedState};
use crate::clock::UnixTime;
use crate::lifecycle::KeyTimes;
use crate::lifecycle::{self, Policy, Stage};
use crate::metrics::{Gauges, KeysInState, page};

const METHODS: &str = "GET, HEAD";

/// All that the listener for metrics answers; clones share it. What it answers
/// is neither counted nor logged.
#[derive(Clone)]
pub struct MetricsService(Router);

impl<B> Service<(Peer, Request<B>)> for MetricsService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, (_, request): (Peer, Request<B>)) -> RouteFuture<Infallible> {
        tower::Service::call(&mut self.0.clone(), request)
    }
}

/// The service for that listener.
pub fn metrics_service(state: SharedState) -> MetricsService {
    let not_allowed = || async { ApiError::MethodNotAllowed(METHODS) };
    let routes = Router::new()
        .route("/metrics", get(metrics).fallback(not_allowed))
        .fallback(|| async { ApiError::OnlyMetrics })
        .with_state(state);
    MetricsService(routes)
}

async fn metrics(State(state): State<SharedState>) -> Response {
    let (content_type, text) = page(&state.metrics, gauges(&state));
    (
        [
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ),
        ],
        text,
    )
        .into_response()
}

fn gauges(state: &AppState) -> Gauges {
    let now = state.clock.now();
    let snapshot = state.keys.snapshot();
    let times = snapshot.times();
    let (sign_ins, sign_ups) = state.accounts.queued();
    Gauges {
        version: env!("CARGO_PKG_VERSION"),
        started_at: state.started_at.as_secs(),
        hashing_queues: [("sign_in", sign_ins), ("sign_up", sign_ups)],
        quota_clients: state.quota.clients(),
        quota_refusals: state.quota.refusals(),
        keys: Stage::ALL
            .map(|stage| in_state(stage, times, &state.policy, now))
            .into(),
        next_key_in: lifecycle::next_due(times, &state.policy, now).map(|due| seconds(now, due)),
        rotation_failures: state.heartbeat.failures(),
        rotation_fails: state.heartbeat.is_failing(),
    }
}

fn in_state(stage: Stage, all: &[KeyTimes], policy: &Policy, now: UnixTime) -> KeysInState {
    let there = || {
        all.iter()
            .filter(move |key| lifecycle::stage(key, all, policy, now) == stage)
    };
    KeysInState {
        state: stage.name(),
        number: there().count(),
        next_change_in: there()
            .filter_map(|key| leaves(stage, key, all, policy))
            .min()
            .map(|at| seconds(now, at)),
    }
}

/// When a key leaves its state; that of an expired one ends with its row.
fn leaves(stage: Stage, key: &KeyTimes, all: &[KeyTimes], policy: &Policy) -> Option<UnixTime> {
    match stage {
        Stage::Announced => key.signs_from,
        Stage::Signing => Some(lifecycle::stops_signing(key, all, policy)),
        Stage::Retiring => Some(key.published_until()),
        // The last one stays for as long as it is the last.
        Stage::Expired | Stage::Revoked => None,
    }
}

fn seconds(now: UnixTime, then: UnixTime) -> i64 {
    then.as_secs().saturating_sub(now.as_secs())
}
