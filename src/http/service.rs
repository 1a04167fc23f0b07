//! The service of a listener: the router; before it the headers that a request with a body
//! keeps, and the GET of the key set; after it the header that every response has.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::HttpBody;
use axum::http::{self, HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tower::Service as _;

use super::client_addr::Peer;
use super::error::ApiError;
use super::state::SharedState;
use super::{access_log, jwks, router};

/// Header of every response, whatever the listener and the route. `server/stream.rs`
/// writes it into those that hyper makes by itself; `Date`, which all have too, is added in
/// `server/request.rs`.
pub(super) const NO_SNIFF: (HeaderName, HeaderValue) = (
    header::X_CONTENT_TYPE_OPTIONS,
    HeaderValue::from_static("nosniff"),
);

/// Allowlist of request headers: a request that has a body loses all others before its
/// body is awaited, see [`keep_allowed_headers`]. A handler that reads a header which is
/// not here finds it on a GET, and never on a POST: whoever writes a POST route adds the
/// headers that it reads, and those that its extractors and layers read.
const HEADER_ALLOWLIST: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::FORWARDED,
    header::HOST,
    header::ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-request-id"),
];

/// Answers the requests of any connection; clones share it.
#[derive(Clone)]
pub struct Service {
    router: Router,
    key_set: Option<Arc<KeySetShortcut>>,
}

/// The key set is fetched more often than all else together. A GET of it is
/// answered here, which takes a quarter less CPU time than through the router and its
/// middleware. The answer and its log line are made by the functions that the route
/// uses too.
struct KeySetShortcut {
    state: SharedState,
    /// `/.well-known/jwks.json`, and the same below the path of `ISSUER`.
    paths: Vec<String>,
}

/// The service for clients.
pub fn service(state: &SharedState) -> Service {
    let mut paths = vec![jwks::PATH.to_owned()];
    if let Some(issuer) = &state.issuer {
        paths.push(format!("{}{}", issuer.path(), jwks::PATH));
    }
    let state = state.clone();
    Service {
        router: router(&state),
        key_set: Some(Arc::new(KeySetShortcut { state, paths })),
    }
}

impl From<Router> for Service {
    fn from(router: Router) -> Self {
        Self {
            router,
            key_set: None,
        }
    }
}

impl Service {
    /// Answers a request that gets to no route.
    pub(super) fn refuse<B>(
        &self,
        peer: Peer,
        request: &http::Request<B>,
        error: ApiError,
    ) -> Response {
        let refused = error.into_response();
        no_sniff(match &self.key_set {
            Some(known) => access_log::refused(&known.state, peer, request, refused),
            None => refused,
        })
    }

    pub fn call<B>(
        &self,
        peer: Peer,
        mut request: http::Request<B>,
    ) -> impl Future<Output = Result<Response, Infallible>> + Send + use<B>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        if !request.body().is_end_stream() {
            keep_allowed_headers(&mut request);
        }
        let key_set = self.key_set.as_ref();
        let ready = key_set.and_then(|key_set| key_set.answer(peer, &request));
        let routed = ready.is_none().then(|| {
            request.extensions_mut().insert(peer);
            self.router.clone().call(request)
        });
        async move {
            let response = match (ready, routed) {
                (Some(response), _) => response,
                (None, Some(routed)) => routed.await?,
                (None, None) => ApiError::Internal.into_response(),
            };
            Ok(no_sniff(response))
        }
    }
}

fn no_sniff(mut response: Response) -> Response {
    let (name, value) = NO_SNIFF;
    response.headers_mut().insert(name, value);
    response
}

/// Replaces the header section by a copy of the headers in [`HEADER_ALLOWLIST`], and the
/// target by a copy too: any part of an HTTP/1.1 header section keeps all of its bytes in
/// memory, for as long as the body takes to come.
fn keep_allowed_headers<B>(request: &mut http::Request<B>) {
    let mut allowed = HeaderMap::new();
    for name in HEADER_ALLOWLIST {
        for value in request.headers().get_all(&name) {
            if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                allowed.append(name.clone(), copy);
            }
        }
    }
    *request.headers_mut() = allowed;
    if let Ok(copy) = request.uri().to_string().parse::<Uri>() {
        *request.uri_mut() = copy;
    }
}

impl KeySetShortcut {
    /// None for other requests, and when no key is published, for which the route waits, or the set is out of date.
    fn answer<B>(&self, peer: Peer, request: &http::Request<B>) -> Option<Response> {
        let path = request.uri().path();
        if request.method() != Method::GET || !self.paths.iter().any(|known| known == path) {
            return None;
        }
        access_log::answer_and_log(&self.state, path, peer, request, || {
            jwks::published(&self.state, request.headers())
        })
    }
}
