//! `GET /`: a page about the issuer for browsers, and the list of routes as JSON for
//! all others. Says only what is public anyway. The page's words are in `pages/home.rs`.

use std::sync::LazyLock;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};

use super::accept::prefers_html;
use super::client_addr::Peer;
use super::error::NO_STORE;
use super::large_response::{LargeResponse, LargeResponseSlot};
use super::pages;
use super::public_document::{ANY_ORIGIN, with_cors};
use super::schedule::Schedule;
use super::state::{AppState, SharedState};
use super::{discovery, openapi};
use crate::domain::issuer;

const PATH: &str = "/";
const MAX_HOST: usize = 255;
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

pub(super) fn routes() -> Router<SharedState> {
    Router::new().route(PATH, with_cors(get(home)))
}

async fn home(
    State(state): State<SharedState>,
    Extension(peer): Extension<Peer>,
    slot: Option<Extension<LargeResponseSlot>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let common = [
        (header::VARY, HeaderValue::from_static("accept")),
        NO_STORE,
        ANY_ORIGIN,
    ];
    if !prefers_html(&headers) {
        return (common, Json(json!({ "routes": list(&state) }))).into_response();
    }
    let origin = origin(&state, peer, &uri, &headers);
    // Nothing of them is kept while it waits.
    drop((headers, uri));
    let large_response = match LargeResponse::acquire(slot).await {
        Ok(large_response) => large_response,
        Err(busy) => return ([ANY_ORIGIN], busy).into_response(),
    };
    let now = state.clock.now();
    let schedule = Schedule::new(&state.keys.snapshot(), &state.policy, now);
    let name = state.issuer.as_ref().map_or(&*origin, |it| it.as_str());
    let main = pages::home::main(&state, &schedule, &origin, name, now);
    let title = format!("{name} · JWT issuer");
    let page = pages::page(&title, pages::refresh(&schedule, now), main);
    large_response.send((common, page).into_response()).await
}

/// A line of the list of routes.
#[derive(Clone, Serialize)]
struct Listed {
    method: String,
    path: String,
    summary: String,
}

/// The routes of `openapi.json`.
static ROUTES: LazyLock<Vec<Listed>> = LazyLock::new(|| {
    let description: Value = serde_json::from_str(openapi::TEXT).unwrap_or_default();
    let paths = description["paths"].as_object().into_iter().flatten();
    let listed = paths.flat_map(|(path, operations)| {
        let operations = operations.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| Listed {
            method: method.to_uppercase(),
            path: path.clone(),
            summary: operation["summary"].as_str().unwrap_or_default().to_owned(),
        })
    });
    let is_listed = |route: &Listed| matches!(&*route.method, "GET" | "POST");
    listed.filter(is_listed).collect()
});

fn list(state: &AppState) -> Vec<Listed> {
    let issuers = state.issuer.as_ref().map(discovery::paths);
    let listed = ROUTES.iter().filter_map(|route| {
        let known = discovery::PATHS.iter().position(|it| *it == route.path);
        let path = match known {
            Some(n) => issuers.as_ref()?.get(n)?,
            None => &route.path,
        };
        Some(Listed {
            path: path.clone(),
            ..route.clone()
        })
    });
    listed.collect()
}

/// Scheme, host and port by which the client has reached this service; only what a
/// shell takes as it is.
fn origin(state: &AppState, peer: Peer, uri: &Uri, headers: &HeaderMap) -> String {
    let ours = state.issuer.as_ref().map(issuer::Issuer::origin);
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    // HTTP/2 has it in the request's target.
    let host = host.or_else(|| uri.authority().map(|it| it.as_str()));
    let is_host = |host: &&str| host.len() <= MAX_HOST && issuer::host(host).is_some();
    let Some(host) = host.filter(is_host).map(str::to_ascii_lowercase) else {
        return ours.unwrap_or("http://localhost:8080").to_owned();
    };
    let is_ours = |ours: &&str| {
        let authority = ours.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|it| it.eq_ignore_ascii_case(&host))
    };
    if let Some(ours) = ours.filter(is_ours) {
        return ours.to_owned();
    }
    let is_https = state.proxies.trusts(peer.0.to_canonical())
        && headers
            .get(X_FORWARDED_PROTO)
            .is_some_and(|it| it == "https");
    format!("{}://{host}", if is_https { "https" } else { "http" })
}
