//! Refuses what a browser sends for a page of another origin. Scripts can neither leave
//! out nor forge the headers that name it; other programs do not send them.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Uri, header};

use super::error::ApiError;
use super::state::AppState;
use crate::domain::issuer::{Issuer, is_loopback};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `Sec-Fetch-Site` (Fetch Metadata) decides. Without it, as from old browsers or over
/// plain http, the host of `Origin` must be that of `Host`, whose port a proxy may
/// have dropped. A service that only this machine reaches has no other names than this
/// machine's: DNS may resolve a page's own name to a loopback address after it was
/// loaded (DNS rebinding).
pub(super) fn refuse_other_origins(state: &AppState, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let is_same = match (headers.get(SEC_FETCH_SITE), headers.get(header::ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, None) => true,
        (None, Some(origin)) => {
            let origin = parse(origin);
            let host = headers.get(header::HOST).and_then(parse);
            // HTTP/2 has it in the request's target.
            let host = host.or_else(|| request.uri().host().map(str::to_ascii_lowercase));
            origin == host && origin.is_some_and(|name| is_name_of_ours(state, &name))
        }
    };
    is_same.then_some(()).ok_or(ApiError::OtherOrigin)
}

fn is_name_of_ours(state: &AppState, name: &str) -> bool {
    let issuer = state.issuer.as_ref().and_then(Issuer::host);
    !state.is_local
        || is_loopback(name)
        || name.ends_with(".localhost")
        || issuer.is_some_and(|issuer| issuer.eq_ignore_ascii_case(name))
}

/// The host of an origin, or of a host and port.
fn parse(value: &HeaderValue) -> Option<String> {
    let uri: Uri = value.to_str().ok()?.parse().ok()?;
    uri.host().map(str::to_ascii_lowercase)
}
