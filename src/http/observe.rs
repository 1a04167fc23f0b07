//! What every request goes through, outside of all routes: an id, the client's
//! address, and one line in the log when it is answered. Kept lean, since the
//! key set is fetched often: what is not logged is not formatted.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::Instrument as _;
use tracing::instrument::Instrumented;

use super::client::{ClientAddr, Peer, TrustedProxies};
use super::jwks;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 64;

/// Puts [`Observe`] around a service.
#[derive(Clone)]
pub(super) struct ObserveLayer {
    proxies: Arc<TrustedProxies>,
}

impl ObserveLayer {
    pub(super) fn new(proxies: Arc<TrustedProxies>) -> Self {
        Self { proxies }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            proxies: Arc::clone(&self.proxies),
        }
    }
}

/// The service around all routes. Requests must carry a [`Peer`].
#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    proxies: Arc<TrustedProxies>,
}

impl<S, B> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Observed<Instrumented<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let began = Instant::now();
        let id = request_id(&request);
        let client = request
            .extensions()
            .get::<Peer>()
            .map(|&peer| self.proxies.client(peer, request.headers()));
        if let Some(client) = client {
            request.extensions_mut().insert(client);
        }
        let seen = Seen {
            method: request.method().clone(),
            uri: request.uri().clone(),
            client,
            began,
            id: id.clone(),
            is_told: false,
        };
        let span = if seen.is_key_set() {
            tracing::Span::none()
        } else {
            tracing::info_span!("request", id = id.to_str().unwrap_or_default())
        };
        Observed {
            inner: self.inner.call(request).instrument(span),
            seen: Some(seen),
        }
    }
}

/// What the log line needs of a request.
struct Seen {
    method: Method,
    uri: Uri,
    client: Option<ClientAddr>,
    began: Instant,
    id: HeaderValue,
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
            let headers = response.headers_mut();
            headers.insert(REQUEST_ID, seen.id.clone());
            headers.insert(
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            );
        }
        Poll::Ready(Ok(response))
    }
}

impl Seen {
    fn is_key_set(&self) -> bool {
        self.uri.path().ends_with(jwks::PATH)
    }

    /// Fetches of the key set that went well are the bulk of all requests, and
    /// a line for each would cost more than the answer: they are debug.
    fn answered(&mut self, status: StatusCode) {
        self.is_told = true;
        let well = status.is_success() || status == StatusCode::NOT_MODIFIED;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    method = %self.method,
                    path = self.uri.path(),
                    status = status.as_u16(),
                    ms = millis(self.began.elapsed()),
                    client = self.client.map(|client| tracing::field::display(client.0)),
                    request_id = self.id.to_str().unwrap_or_default(),
                    "answered"
                )
            };
        }
        if well && self.is_key_set() {
            line!(debug);
        } else {
            line!(info);
        }
    }
}

impl Drop for Seen {
    /// Without an answer: the client went away before there was one.
    fn drop(&mut self) {
        if !self.is_told {
            tracing::info!(
                method = %self.method,
                path = self.uri.path(),
                ms = millis(self.began.elapsed()),
                client = self.client.map(|client| tracing::field::display(client.0)),
                request_id = self.id.to_str().unwrap_or_default(),
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
fn request_id<B>(request: &Request<B>) -> HeaderValue {
    let harmless = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    };
    match request.headers().get(REQUEST_ID).filter(harmless) {
        Some(id) => id.clone(),
        None => {
            let mut text = uuid::Uuid::encode_buffer();
            let id = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text);
            HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("none"))
        }
    }
}
