//! Refuses what a browser sends for a page of another origin. Scripts can neither leave
//! out nor forge the headers that name it; other programs do not send them.

use axum::extract::{Request, State};
use axum::http::{self, HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::error::ApiError;
use super::state::{AppState, SharedState};
use crate::domain::issuer::{Issuer, is_loopback};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `Sec-Fetch-Site` (Fetch Metadata) decides. Without it, as from old browsers or over
/// plain http, the host of `Origin` must be that of `Host`, whose port a proxy may
/// have dropped. A service that only this machine reaches has no other names than this
/// machine's: DNS may resolve a page's own name to a loopback address after it was
/// loaded (DNS rebinding).
pub(super) fn refuse_other_origins<B>(
    state: &AppState,
    request: &http::Request<B>,
) -> Result<(), ApiError> {
    let headers = request.headers();
    let is_same = match (headers.get(SEC_FETCH_SITE), headers.get(header::ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, None) => true,
        (None, Some(origin)) => {
            let origin = parse(origin);
            origin == host(request)
                && origin.is_some_and(|name| !state.is_local || is_local_name(state, &name))
        }
    };
    is_same.then_some(()).ok_or(ApiError::OtherOrigin)
}

/// Middleware of a listener that only this machine reaches: refuses other names than
/// this machine's. A page's GET for its own origin has no `Origin`, and may be led here
/// by DNS rebinding.
pub(super) async fn local_names_only(
    State(state): State<SharedState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if host(&request).is_none_or(|name| is_local_name(&state, &name)) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::OtherOrigin)
}

fn is_local_name(state: &AppState, name: &str) -> bool {
    let issuer = state.issuer.as_ref().and_then(Issuer::host);
    is_loopback(name)
        || name.ends_with(".localhost")
        || issuer.is_some_and(|issuer| issuer.eq_ignore_ascii_case(name))
}

fn host<B>(request: &http::Request<B>) -> Option<String> {
    let host = request.headers().get(header::HOST).and_then(parse);
    // HTTP/2 has it in the request's target.
    host.or_else(|| request.uri().host().map(str::to_ascii_lowercase))
}

/// The host of an origin, or of a host and port.
fn parse(value: &HeaderValue) -> Option<String> {
    let uri: Uri = value.to_str().ok()?.parse().ok()?;
    uri.host().map(str::to_ascii_lowercase)
}
