//! What every request goes through, outside of all routes: an id, the client's
//! address, and one line in the log when it is answered. What is not logged is
//! not formatted.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use pin_project_lite::pin_project;
use tracing::Instrument as _;
use tracing::instrument::Instrumented;

use super::client::{ClientAddr, Peer};
use super::state::{AppState, SharedState};
use crate::metrics::Route;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 64;

/// One line in the log for an answered request.
macro_rules! line {
    ($level:ident, $method:expr, $uri:expr, $status:expr, $took:expr, $client:expr, $id:expr) => {
        tracing::$level!(
            method = %$method,
            path = $uri.path(),
            status = $status.as_u16(),
            ms = millis($took),
            client = %$client.0,
            request_id = $id.to_str().unwrap_or_default(),
            "answered"
        )
    };
}

/// A request's id and the moment it came.
pub(super) struct Arrival {
    id: HeaderValue,
    began: Instant,
}

impl Arrival {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self {
            id: request_id(request.headers()),
            began: Instant::now(),
        }
    }

    /// Counts and marks the answer of a key set that was fetched with success.
    /// These are the bulk of all requests, and a line for each would cost more
    /// than the answer: they are debug.
    pub(super) fn key_set_answered<A, B>(
        self,
        state: &AppState,
        peer: Peer,
        request: &Request<B>,
        response: &mut Response<A>,
    ) {
        let took = self.began.elapsed();
        let (method, status) = (request.method(), response.status());
        let http = &state.metrics.http;
        http.answered(Route::KeySet, method, status, took);
        let client = || state.proxies.client(peer, request.headers());
        line!(
            debug,
            method,
            request.uri(),
            status,
            took,
            client(),
            self.id
        );
        mark(response.headers_mut(), self.id);
    }
}

/// Sends the request, with its client's address in its extensions, to `inner`,
/// and sees to its answer. Its span names it in all that is logged meanwhile.
pub(super) fn observed<B, F>(
    state: &SharedState,
    peer: Peer,
    mut request: Request<B>,
    inner: impl FnOnce(Request<B>) -> F,
) -> Observed<Instrumented<F>>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    let arrival = Arrival::of(&request);
    let client = state.proxies.client(peer, request.headers());
    request.extensions_mut().insert(client);
    let seen = Seen {
        method: request.method().clone(),
        uri: request.uri().clone(),
        route: Route::of(request.uri().path()),
        state: state.clone(),
        client,
        is_told: false,
        arrival,
    };
    let id = seen.arrival.id.to_str().unwrap_or_default();
    let span = tracing::info_span!("request", id);
    Observed {
        inner: inner(request).instrument(span),
        seen: Some(seen),
    }
}

fn mark(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert(REQUEST_ID, id);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// What the log line needs of a request.
struct Seen {
    method: Method,
    uri: Uri,
    route: Route,
    state: SharedState,
    client: ClientAddr,
    arrival: Arrival,
    /// Whether the line is written.
    is_told: bool,
}

pin_project! {
    /// The answer, on its way to its headers and its line.
    pub struct Observed<F> {
        #[pin]
        inner: F,
        seen: Option<Seen>,
    }
}

impl<F> Future for Observed<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        if let Some(mut seen) = this.seen.take() {
            seen.answered(response.status());
            mark(response.headers_mut(), seen.arrival.id.clone());
            // axum gives every answer one (RFC 9110 section 8.6).
            if let StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED = response.status() {
                response.headers_mut().remove(header::CONTENT_LENGTH);
            }
        }
        Poll::Ready(Ok(response))
    }
}

impl Seen {
    /// What is asked for all the time is debug when it went well, as in
    /// [`Arrival::key_set_answered`].
    fn answered(&mut self, status: StatusCode) {
        self.is_told = true;
        let took = self.arrival.began.elapsed();
        let http = &self.state.metrics.http;
        http.answered(self.route, &self.method, status, took);
        let well = status.is_success() || status == StatusCode::NOT_MODIFIED;
        let id = &self.arrival.id;
        if well && self.route.is_polled() {
            line!(debug, self.method, self.uri, status, took, self.client, id);
        } else {
            line!(info, self.method, self.uri, status, took, self.client, id);
        }
    }
}

impl Drop for Seen {
    /// Without an answer: the client went away before there was one.
    fn drop(&mut self) {
        if !self.is_told {
            self.state.metrics.http.abandoned(self.route);
            tracing::info!(
                method = %self.method,
                path = self.uri.path(),
                ms = millis(self.arrival.began.elapsed()),
                client = %self.client.0,
                request_id = self.arrival.id.to_str().unwrap_or_default(),
                "client went away"
            );
        }
    }
}

/// Milliseconds, to the microsecond.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// The id that the client sent, if it is harmless, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let harmless = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    };
    match headers.get(REQUEST_ID).filter(harmless) {
        Some(id) => id.clone(),
        None => {
            let mut text = uuid::Uuid::encode_buffer();
            let id = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text);
            HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("none"))
        }
    }
}
