//! Requests by route, method and status, and how long they took.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::seconds;

/// The label `route`.
type Route = [(&'static str, String); 1];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    route: String,
    method: &'static str,
    code: u16,
}

/// Metrics of requests. `route` is the router's own path, or a fixed word.
#[derive(Debug)]
pub struct RequestMetrics {
    answers: Family<Answer, Counter>,
    took: Family<Route, Histogram>,
    abandoned: Family<Route, Counter>,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self {
            answers: Family::default(),
            took: Family::new_with_constructor(seconds),
            abandoned: Family::default(),
        }
    }
}

impl RequestMetrics {
    /// Counts an answer and the time from the request's header section to its own.
    pub fn answered(&self, route: &str, method: &'static str, code: u16, took: Duration) {
        let label = [("route", route.to_owned())];
        self.took.get_or_create(&label).observe(took.as_secs_f64());
        let [(_, route)] = label;
        let answer = Answer {
            route,
            method,
            code,
        };
        self.answers.get_or_create(&answer).inc();
    }

    /// Counts a request whose connection ended before it was answered.
    pub fn abandoned(&self, route: &str) {
        let label = [("route", route.to_owned())];
        self.abandoned.get_or_create(&label).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "jwks_http_requests",
            "Requests that were answered",
            self.answers.clone(),
        );
        registry.register(
            "jwks_http_request_duration_seconds",
            "Time from the header section of a request to that of its answer",
            self.took.clone(),
        );
        registry.register(
            "jwks_http_requests_abandoned",
            "Requests not answered, as the connection ended first",
            self.abandoned.clone(),
        );
    }
}
