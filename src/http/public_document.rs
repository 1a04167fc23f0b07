//! Public documents: `Cache-Control`, conditional GET (RFC 9110 section 13), and
//! CORS, so that scripts of any origin may read them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};

use super::error::ApiError;
use super::state::{AppState, SharedState};
use crate::domain::document::Document;
use crate::domain::readiness::CUT_OFF;

const METHODS: &str = "GET, HEAD, OPTIONS";
pub(super) const ANY_ORIGIN: (HeaderName, HeaderValue) = (
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    HeaderValue::from_static("*"),
);

/// Adds OPTIONS and the 405 of a public document to its GET.
pub(super) fn with_cors(get: MethodRouter<SharedState>) -> MethodRouter<SharedState> {
    get.options(|| async { preflight() })
        .fallback(|| async { ([ANY_ORIGIN], ApiError::MethodNotAllowed(METHODS)) })
}

/// A route to a document that does not change while the process runs.
pub(super) fn static_document(document: &Arc<Document>) -> MethodRouter<SharedState> {
    let document = Arc::clone(document);
    with_cors(get(
        async move |State(state): State<SharedState>, headers: HeaderMap| {
            respond(&document, &headers, &state.document_caching)
        },
    ))
}

/// Answer to a CORS preflight.
fn preflight() -> Response {
    (
        StatusCode::NO_CONTENT,
        [
            ANY_ORIGIN,
            (header::ALLOW, HeaderValue::from_static(METHODS)),
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(METHODS),
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("*"),
            ),
            (
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from_static("86400"),
            ),
        ],
    )
        .into_response()
}

/// Sends the document, or 304 when `If-None-Match` names its entity tag, or 412 when
/// `If-Match` does not.
pub(super) fn respond(document: &Document, request: &HeaderMap, caching: &HeaderValue) -> Response {
    let is_named_in = |name, weak| {
        let mut values = request.get_all(name).iter();
        values.any(|value| document.is_named_in(value.as_bytes(), weak))
    };
    if request.contains_key(header::IF_MATCH) && !is_named_in(header::IF_MATCH, "") {
        return ([ANY_ORIGIN], ApiError::NoMatch).into_response();
    }
    let is_known = is_named_in(header::IF_NONE_MATCH, "W/");
    let mut response = Response::default();
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_maybe_shared(document.etag.clone()) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::CACHE_CONTROL, caching.clone());
    headers.insert(ANY_ORIGIN.0, ANY_ORIGIN.1);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("ETag"),
    );
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    *response.body_mut() = Body::from(document.body.clone());
    response
}

/// `Cache-Control` of documents about keys. A replica that is cut off from the database,
/// or fails to load what has changed there, counts `max-age` down from the last moment at
/// which it knew them to be current, so that a key which was revoked meanwhile is kept no
/// longer than by verifiers that have just fetched it. None when that time is over.
pub(super) fn key_caching(state: &AppState) -> Option<Cow<'_, HeaderValue>> {
    let unconfirmed = state.readiness.unconfirmed_for();
    if unconfirmed < CUT_OFF {
        return Some(Cow::Borrowed(&state.document_caching));
    }
    let left = state.jwks_max_age.checked_sub(unconfirmed)?;
    Some(Cow::Owned(caching(left)))
}

/// Value of `Cache-Control`.
pub fn caching(max_age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("public, max-age={}", max_age.as_secs()))
        .unwrap_or(HeaderValue::from_static("no-cache"))
}
