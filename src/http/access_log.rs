//! Middleware around every route: a request id, the client's address, one line in
//! the log and the request metrics. Parts of a line that a client chooses are cut.

use std::time::{Duration, Instant};

use axum::extract::{Extension, MatchedPath, Request, State};
use axum::http::{self, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::client_addr::{ClientAddr, Peer};
use super::refusals::NO_STATUS;
use super::state::{AppState, SharedState};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 64;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Bytes of a `traceparent` of version 00.
const TRACEPARENT_LEN: usize = 55;
/// Longest path and method in the log, characters.
const MAX_SHOWN: usize = 200;
/// Label of requests that match no route, and of methods that are not listed below.
const OTHER: &str = "other";

/// Wraps the handling of a request. The [`Caller`] goes into the request's extensions.
pub(super) async fn access_log(
    State(state): State<SharedState>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = state.proxies.client(peer, request.headers());
    let id = request_id(request.headers());
    let caller = Caller {
        client,
        id: id.clone(),
    };
    request.extensions_mut().insert(caller);
    let mut entry = LoggedRequest {
        began: Instant::now(),
        trace: trace_parent(request.headers()),
        id,
        method: request.method().clone(),
        path: cut(request.uri().path()).to_owned(),
        route: request.extensions().get().cloned(),
        client,
        state,
        is_answered: false,
    };
    let mut response = next.run(request).await;
    entry.answered(response.status());
    // It has its line, so nothing reads the id again.
    let id = std::mem::replace(&mut entry.id, HeaderValue::from_static("none"));
    add_ids(response.headers_mut(), id, entry.trace.take());
    response
}

/// The same for a GET of the key set that is answered before the router, without a
/// copy of the request. Its log line is at level debug, and only there the client's
/// address is needed.
pub(super) fn answer_and_log<B>(
    state: &AppState,
    route: &str,
    peer: Peer,
    request: &http::Request<B>,
    answer: impl FnOnce() -> Option<Response>,
) -> Option<Response> {
    let began = Instant::now();
    Some(log_answer(state, route, peer, request, answer()?, began))
}

/// The same for a request that is refused before the router.
pub(super) fn refused<B>(
    state: &AppState,
    peer: Peer,
    request: &http::Request<B>,
    refused: Response,
) -> Response {
    log_answer(state, OTHER, peer, request, refused, Instant::now())
}

fn log_answer<B>(
    state: &AppState,
    route: &str,
    peer: Peer,
    request: &http::Request<B>,
    mut response: Response,
    began: Instant,
) -> Response {
    let (took, status) = (began.elapsed(), response.status().as_u16());
    let requests = &state.metrics.requests;
    requests.answered(route, method(request.method()), status, took);
    let is_logged = tracing::enabled!(tracing::Level::DEBUG);
    // Neither is needed for a public document, which most answers are.
    if is_logged || !is_public(response.headers()) {
        let id = request_id(request.headers());
        let trace = trace_parent(request.headers());
        tracing::debug!(
            method = %cut(request.method().as_str()),
            path = cut(request.uri().path()),
            status,
            ms = millis(took),
            client = %state.proxies.client(peer, request.headers()).0,
            request_id = id.to_str().unwrap_or_default(),
            traceparent = trace.as_ref().and_then(shown),
            "answered"
        );
        add_ids(response.headers_mut(), id, trace);
    }
    response
}

/// A document that caches may keep has no id and no trace: they would give one
/// client's to others.
fn add_ids(headers: &mut HeaderMap, id: HeaderValue, trace: Option<HeaderValue>) {
    if !is_public(headers) {
        headers.insert(REQUEST_ID, id);
        if let Some(trace) = trace {
            headers.insert(TRACEPARENT, trace);
        }
    }
}

fn is_public(headers: &HeaderMap) -> bool {
    let caching = headers.get(header::CACHE_CONTROL);
    caching.is_some_and(|value| value.as_bytes().starts_with(b"public"))
}

/// Who sends a request, and its id, among the extensions of the request.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) client: ClientAddr,
    pub(super) id: HeaderValue,
}

/// Parts of a request that the log and the metrics need.
struct LoggedRequest {
    began: Instant,
    id: HeaderValue,
    trace: Option<HeaderValue>,
    method: Method,
    path: String,
    route: Option<MatchedPath>,
    client: ClientAddr,
    state: SharedState,
    is_answered: bool,
}

/// Writes a line with the fields that all lines of this file have.
macro_rules! line {
    ($level:ident, $entry:expr, $took:expr, $message:literal $(, $field:ident = $value:expr)*) => {
        tracing::$level!(
            method = %cut($entry.method.as_str()),
            path = $entry.path,
            $($field = $value,)*
            ms = millis($took),
            client = %$entry.client.0,
            request_id = $entry.id.to_str().unwrap_or_default(),
            traceparent = $entry.trace.as_ref().and_then(shown),
            $message
        )
    };
}

impl LoggedRequest {
    fn route(&self) -> &str {
        self.route.as_ref().map_or(OTHER, MatchedPath::as_str)
    }

    fn answered(&mut self, status: StatusCode) {
        self.is_answered = true;
        let took = self.began.elapsed();
        let requests = &self.state.metrics.requests;
        requests.answered(self.route(), method(&self.method), status.as_u16(), took);
        let is_good = status.is_success() || status == StatusCode::NOT_MODIFIED;
        let status = status.as_u16();
        // Programs fetch the public documents and probe all the time.
        if is_good && self.method.is_safe() {
            line!(debug, self, took, "answered", status = status);
            return;
        }
        let refusals = &self.state.refusals;
        // A quota bounds the tokens and accounts that are given.
        let note = if is_good {
            Some(0)
        } else {
            refusals.note(self.client, status, self.state.clock.monotonic())
        };
        if let Some(more) = note {
            let more = (more > 0).then_some(more);
            line!(info, self, took, "answered", status = status, more = more);
        }
    }
}

impl Drop for LoggedRequest {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.state.metrics.requests.abandoned(self.route());
        let now = self.state.clock.monotonic();
        if let Some(more) = self.state.refusals.note(self.client, NO_STATUS, now) {
            line!(
                info,
                self,
                self.began.elapsed(),
                "not answered: the connection ended first",
                more = (more > 0).then_some(more)
            );
        }
    }
}

/// Metric label of a method; a client may send any text as one.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or(OTHER)
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_SHOWN);
    end.map_or(text, |(at, _)| &text[..at])
}

/// Milliseconds, to the microsecond.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// The client's `X-Request-Id`, if it is short and of letters, digits and `-_.`, or
/// a new one.
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

/// The client's `traceparent` (W3C Trace Context) in version 00, if there is one and it is
/// valid: version, trace, parent and flags in small hexadecimal digits, neither of the ids
/// all zeros. Of a higher version the same parts are taken, and more may follow behind a
/// `-`, as its section on versioning asks for. 55 bytes, whatever was sent.
fn trace_parent(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (known, more) = value.as_bytes().split_at_checked(TRACEPARENT_LEN)?;
    let mut parts = known.split(|&b| b == b'-');
    let mut part = |length: usize| {
        let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let part = parts.next()?;
        (part.len() == length && part.iter().all(is_digit)).then_some(part)
    };
    let (version, trace, parent, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let is_zero = |id: &[u8]| id.iter().all(|&b| b == b'0');
    let fits = match version {
        b"00" => more.is_empty(),
        b"ff" => false,
        _ => more.first().is_none_or(|&b| b == b'-'),
    };
    if !fits || is_zero(trace) || is_zero(parent) {
        return None;
    }
    HeaderValue::from_bytes(&[b"00", &known[2..]].concat()).ok()
}

fn shown(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}
