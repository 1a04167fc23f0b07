//! Refuses what a browser sends for a page of another origin. Scripts can neither leave
//! out nor forge the headers that name it; other programs do not send them.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Uri, header};

use super::error::ApiError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `Sec-Fetch-Site` (Fetch Metadata) decides. Without it, as from old browsers or over
/// plain http, the host of `Origin` must be that of `Host`, whose port a proxy may
/// have dropped.
pub(super) fn refuse_other_origins(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let is_same = match (headers.get(SEC_FETCH_SITE), headers.get(header::ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, None) => true,
        (None, Some(origin)) => {
            let origin = parse(origin);
            let host = headers.get(header::HOST).and_then(parse);
            // HTTP/2 has it in the request's target.
            let host = host.or_else(|| request.uri().host().map(str::to_ascii_lowercase));
            origin.is_some() && origin == host
        }
    };
    is_same.then_some(()).ok_or(ApiError::OtherOrigin)
}

/// The host of an origin, or of a host and port.
fn parse(value: &HeaderValue) -> Option<String> {
    let uri: Uri = value.to_str().ok()?.parse().ok()?;
    uri.host().map(str::to_ascii_lowercase)
}
