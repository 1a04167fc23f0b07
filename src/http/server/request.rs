//! A request before and after its route: what is refused whatever the route, how much
//! of it is kept while its body comes, and how the connection goes on.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::header::{self, HeaderName};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;

use super::Server;
use super::activity::Activity;
use super::date::date;
use super::permits::Permit;
use crate::http::client_addr::Peer;
use crate::http::error::ApiError;
use crate::http::service::Service;
use crate::http::unshared::UnsharedSlot;

/// Bytes of the target and the header fields of a request, see [`size`]. For HTTP/2,
/// hyper has the same bound as RFC 9113 section 6.5.2 counts, with 32 more a field.
pub(super) const MAX_HEADER_SECTION: usize = 16 * 1024;
/// Header fields of a request. hyper has the same bound for HTTP/1.1.
const MAX_FIELDS: usize = 100;
/// Bounds on reading what is left of a body when its request is answered.
const MAX_DISCARDED: usize = 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
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

/// State that the requests of a connection share.
pub(super) struct ConnectionState {
    pub(super) server: Arc<Server>,
    pub(super) service: Service,
    pub(super) peer: Peer,
    pub(super) activity: Arc<Activity>,
    /// For HTTP/2. A trusted proxy has none: it may have the requests of many clients on one
    /// connection, and is taken to read what it asks for.
    pub(super) unshared: Option<UnsharedSlot>,
}

pub(super) async fn respond(
    shared: Arc<ConnectionState>,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let ConnectionState {
        server,
        service,
        activity,
        ..
    } = &*shared;
    let peer = shared.peer;
    let is_http2 = request.version() == Version::HTTP_2;
    let has_body = !request.body().is_end_stream();
    let _under_way = activity.begin(is_http2, has_body);
    if let (true, Some(slot)) = (is_http2, &shared.unshared) {
        request.extensions_mut().insert(slot.clone());
    }
    let (mut response, is_usable) = if let Some(error) = refusal(&request) {
        (service.refuse(peer, &request, error), false)
    } else if !has_body {
        (service.call(peer, request).await?, true)
    } else {
        let (sender, evicted) = oneshot::channel();
        let client = server.proxies.client(peer, request.headers()).key();
        let permit = server.bodies.acquire(Some(client), sender).await;
        with_body(service, peer, request, (permit, evicted)).await?
    };
    if let StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED = response.status() {
        // axum says 0; a 204 must have none, and a 304 only that of the 200 (RFC 9110
        // section 8.6).
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let headers = response.headers_mut();
    headers.insert(header::DATE, date(server.clock.now()));
    if !is_usable && !is_http2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        activity.lingers.store(true, Ordering::Relaxed);
    }
    Ok(response)
}

/// Refusals by RFC 9112 sections 3.2 and 6.1, and of too many fields.
fn refusal<B>(request: &Request<B>) -> Option<ApiError> {
    let headers = request.headers();
    if headers.len() > MAX_FIELDS || size(request) > MAX_HEADER_SECTION {
        return Some(ApiError::HeaderSectionTooLarge);
    }
    if request.version() == Version::HTTP_2 {
        return None;
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let is_good = match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => request.version() == Version::HTTP_10,
        (Some(_), Some(_)) => false,
    };
    if !is_good {
        return Some(ApiError::BadRequest(
            "a request has exactly one Host header field, with a host and perhaps a port".into(),
        ));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => None,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => None,
        _ => Some(ApiError::UnknownTransferCoding),
    }
}

/// Bytes of target and fields. hyper refuses by itself only what its buffer cannot take.
fn size<B>(request: &Request<B>) -> usize {
    let target = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    let fields = request.headers().iter();
    fields.fold(target, |size, (name, value)| {
        size + name.as_str().len() + value.len() + ": \r\n".len()
    })
}

/// A host and perhaps a port; empty for targets without an authority.
fn is_host(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else {
        return host.is_empty();
    };
    let port = &host[authority.host().len()..];
    matches!(port, [] | b":") || (port[0] == b':' && authority.port_u16().is_some())
}

/// Calls the service, and reads what it left of the body. Also returns whether the
/// connection can take another request.
async fn with_body(
    service: &Service,
    peer: Peer,
    request: Request<Incoming>,
    permit: BodyPermit,
) -> Result<(Response, bool), Infallible> {
    let waits = request.headers().contains_key(header::EXPECT);
    let (return_to, returned) = oneshot::channel();
    let request = keep_allowed_headers(request).map(|body| ReturnedBody {
        inner: Some(body),
        permit: Some(permit),
        is_begun: false,
        return_to: Some(return_to),
    });
    let is_http2 = request.version() == Version::HTTP_2;
    let response = service.call(peer, request).await?;
    let is_usable = match returned.await {
        // HTTP/2 resets the stream instead.
        Ok(_) if is_http2 => true,
        // To read on would send 100 Continue (RFC 9110 section 10.1.1).
        Ok((_, is_begun)) if waits && !is_begun => false,
        Ok((body, _)) => discard(body).await,
        // It was read to its end, or broke off.
        Err(_) => true,
    };
    Ok((response, is_usable))
}

/// Replaces the header section by a copy of the headers in [`HEADER_ALLOWLIST`], and the
/// target by a copy too: any part of an HTTP/1.1 header section keeps all of its bytes in
/// memory, for as long as the body takes to come.
fn keep_allowed_headers(mut request: Request<Incoming>) -> Request<Incoming> {
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
    request
}

/// Reads and drops the rest, within bounds; true when that was all. Many clients send
/// the whole body before they read the response. No permit is held meanwhile: nothing
/// is kept of what is dropped.
async fn discard(mut body: Incoming) -> bool {
    let rest = async {
        let mut left = MAX_DISCARDED;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return true };
            let size = frame.data_ref().map_or(0, Bytes::len);
            let Some(less) = left.checked_sub(size) else {
                return false;
            };
            left = less;
        }
        true
    };
    tokio::time::timeout(DISCARD_TIMEOUT, rest)
        .await
        .unwrap_or(false)
}

/// With the end of its sender when the permit is taken away.
type BodyPermit = (Permit<oneshot::Sender<()>>, oneshot::Receiver<()>);

/// Error of a body whose permit is taken away for another's.
#[derive(Debug, thiserror::Error)]
#[error("too many requests are being received at the moment")]
pub(in crate::http) struct Evicted;

/// A body that comes back when the service drops it unread.
struct ReturnedBody {
    /// None once it has ended.
    inner: Option<Incoming>,
    /// None also once it is evicted.
    permit: Option<BodyPermit>,
    is_begun: bool,
    return_to: Option<oneshot::Sender<(Incoming, bool)>>,
}

impl Body for ReturnedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        self.is_begun = true;
        let Some(body) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(frame) = frame {
            if !matches!(frame, Some(Ok(_))) {
                self.inner = None;
                self.permit = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if let Some((_, evicted)) = &mut self.permit {
            let _ = ready!(Pin::new(evicted).poll(cx));
            self.permit = None;
        }
        Poll::Ready(Some(Err(Evicted.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for ReturnedBody {
    fn drop(&mut self) {
        self.permit = None;
        if let (Some(body), Some(return_to)) = (self.inner.take(), self.return_to.take())
            && !body.is_end_stream()
        {
            let _ = return_to.send((body, self.is_begun));
        }
    }
}
