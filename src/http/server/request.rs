//! A request before and after its route: what is refused whatever the route, and how the
//! connection goes on.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::header;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, StatusCode, Version};
use axum::response::Response;
use hyper::body::{Body as _, Incoming};

use super::Server;
use super::activity::Activity;
use super::awaited_body::{AwaitedBody, BodyPermit, ReturnedBody, discard};
use super::date::date;
use crate::http::client_addr::Peer;
use crate::http::error::ApiError;
use crate::http::large_response::LargeResponseSlot;
use crate::http::service::Service;

/// Bytes of the target and the header fields of a request, see [`size`]. For HTTP/2,
/// hyper has the same bound as RFC 9113 section 6.5.2 counts, with 32 more a field.
pub(super) const MAX_HEADER_SECTION: usize = 16 * 1024;
/// Header fields of a request. hyper has the same bound for HTTP/1.1.
const MAX_FIELDS: usize = 100;
/// State that the requests of a connection share.
pub(super) struct ConnectionState {
    pub(super) server: Arc<Server>,
    pub(super) service: Service,
    pub(super) peer: Peer,
    pub(super) activity: Arc<Activity>,
    /// For HTTP/2. A trusted proxy has none: it may have the requests of many clients on one
    /// connection, and is taken to read what it asks for.
    pub(super) large_response_slot: Option<LargeResponseSlot>,
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
    if let (true, Some(slot)) = (is_http2, &shared.large_response_slot) {
        request.extensions_mut().insert(slot.clone());
    }
    let (mut response, is_usable) = if let Some(error) = refusal(&request) {
        (service.refuse(peer, &request, error), false)
    } else if !has_body {
        (service.call(peer, request).await?, true)
    } else {
        let (body, evicted) = AwaitedBody::new();
        let client = server.proxies.client(peer, request.headers()).key();
        let permit = server.bodies.acquire(Some(client), body).await;
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
    let expects_continue = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let (body, returned) = ReturnedBody::new(body, permit);
    let request = Request::from_parts(head, body);
    let is_http2 = request.version() == Version::HTTP_2;
    let response = service.call(peer, request).await?;
    let is_usable = match returned.await {
        // HTTP/2 resets the stream instead.
        Ok(_) if is_http2 => true,
        // To read on would send 100 Continue (RFC 9110 section 10.1.1).
        Ok((_, is_begun)) if expects_continue && !is_begun => false,
        // It took too long already.
        Ok(_) if response.status() == StatusCode::REQUEST_TIMEOUT => false,
        Ok((body, _)) => discard(body).await,
        // It was read to its end, or broke off.
        Err(_) => true,
    };
    Ok((response, is_usable))
}
