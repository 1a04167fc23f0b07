//! The service of a listener: the router, before it the GET of the key set, and after it
//! the header that every response has.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::HttpBody;
use axum::http::{self, HeaderName, HeaderValue, Method, header};
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
