//! What a request meets first. The key set is answered on the spot, before
//! there is a route, a span or a copy of anything: it is fetched more often than
//! all else together. Every other request is observed and goes to the routes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{Method, Request, Response};
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http_body_util::{Either, Full};
use tower::Service as _;
use tracing::instrument::Instrumented;

use super::access_log::{self, Observed};
use super::client::Peer;
use super::state::SharedState;
use super::{conditional_get, jwks};

/// The body of an answer: a finished document, or what a route has made.
pub type Reply = Either<Full<Bytes>, Body>;

/// The whole service, for requests of any connection; clones share it.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    state: SharedState,
    routes: Router,
    /// Where the key set is: at its own path and, for an issuer with a path,
    /// below that too.
    key_set_paths: Vec<String>,
}

impl Front {
    pub(super) fn new(state: SharedState, routes: Router) -> Self {
        let below_issuer = state.issuer.as_ref().map(|issuer| issuer.path());
        let mut key_set_paths = vec![jwks::PATH.to_owned()];
        key_set_paths.extend(
            below_issuer
                .filter(|path| !path.is_empty())
                .map(|path| format!("{path}{}", jwks::PATH)),
        );
        Self(Arc::new(Inner {
            state,
            routes,
            key_set_paths,
        }))
    }
}

impl<B> hyper::service::Service<(Peer, Request<B>)> for Front
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, (peer, request): (Peer, Request<B>)) -> Answering {
        let is_key_set = self.0.is_key_set(&request);
        if is_key_set && let Some(response) = self.0.key_set(peer, &request) {
            return Answering::OnTheSpot(Some(response));
        }
        let mut routes = self.0.routes.clone();
        let answer =
            access_log::observed(&self.0.state, peer, request, |request| routes.call(request));
        Answering::Routed(Box::pin(answer))
    }
}

impl Inner {
    fn is_key_set<B>(&self, request: &Request<B>) -> bool {
        let path = request.uri().path();
        request.method() == Method::GET && self.key_set_paths.iter().any(|at| at == path)
    }

    /// None when no key is published: the route knows how to wait for one.
    fn key_set<B>(&self, peer: Peer, request: &Request<B>) -> Option<Response<Reply>> {
        let arrival = access_log::Arrival::of(request);
        let keys = self.state.keys.snapshot();
        let set = keys.published(self.state.clock.now())?;
        let mut response =
            conditional_get::answer(set, request.headers(), &self.state.document_caching);
        arrival.key_set_answered(&self.state, peer, request, &mut response);
        Some(response.map(Either::Left))
    }
}

/// An answer that is there already, or one that a route is making: boxed, since
/// this is moved about for each request.
pub enum Answering {
    /// Taken by the first poll.
    OnTheSpot(Option<Response<Reply>>),
    /// On its way.
    Routed(Pin<Box<Observed<Instrumented<RouteFuture<Infallible>>>>>),
}

impl Future for Answering {
    type Output = Result<Response<Reply>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            // Polled after it has ended, a future may do as it likes.
            Self::OnTheSpot(response) => response
                .take()
                .map_or(Poll::Pending, |it| Poll::Ready(Ok(it))),
            Self::Routed(answer) => {
                let Ok(response) = ready!(answer.as_mut().poll(cx));
                Poll::Ready(Ok(response.map(Either::Right)))
            }
        }
    }
}
