//! `GET /openapi.json`: the service described as OpenAPI 3.1, made when it is
//! first asked for. What is sent has its schema from the types that are sent; statuses and
//! headers are read off answers that the code gives, so they cannot differ.

mod answers;
mod public;
mod requests;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::routing::get;
use utoipa::ToSchema;
use utoipa::openapi::info::InfoBuilder;
use utoipa::openapi::path::PathsBuilder;
use utoipa::openapi::schema::Components;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApiBuilder, Paths};

use super::error::ErrorBody;
use super::{auth, discovery, health, jwks, register, schedule};
use crate::domain::issuer::Issuer;
use crate::domain::key_ring::{Document, JwkSet};
use crate::http::conditional_get::{answer, with_cors};
use crate::http::state::SharedState;

pub(super) use answers::Answers;
pub(super) use public::{PublicDocument, Text};
pub(super) use requests::{body, failures, fields, operation, text};

const PATH: &str = "/openapi.json";
/// Of what clients see, not of this program, whose version is nobody's business.
const VERSION: &str = "1.0.0";
const ABOUT: &str = "Issues JWTs (RS256) whose keys rotate by themselves. \
    Every error of a route is JSON with one member, `error`; a path that is not here is 404. \
    What is no HTTP request, or has a head over 64 KiB or over 100 fields, is answered \
    400 or 431 without a body; in HTTP/2 it may be reset instead.";
/// The name of HTTP Basic among the security schemes.
pub(super) const BASIC: &str = "basic";

pub(super) fn routes() -> Router<SharedState> {
    let made = Arc::new(OnceLock::new());
    let description = async move |State(state): State<SharedState>, headers: HeaderMap| {
        let caching = &state.document_caching;
        // Takes a millisecond, once: too short for another thread, too long for a start.
        let document = made.get_or_init(|| document(state.issuer.as_ref(), caching));
        answer(document, &headers, caching).map(Body::new)
    };
    Router::new().route(PATH, with_cors(get(description)))
}

/// The description of a service with this issuer, whose documents are sent with
/// this `Cache-Control`.
fn document(issuer: Option<&Issuer>, caching: &HeaderValue) -> Document {
    Document::new(
        &OpenApiBuilder::new()
            .info(
                InfoBuilder::new()
                    .title("jwks-server")
                    .version(VERSION)
                    .description(Some(ABOUT)),
            )
            .paths(paths(issuer, caching))
            .components(Some(components(issuer.is_some())))
            .build(),
    )
}

/// Every route: what answers and is not here is a fault.
fn paths(issuer: Option<&Issuer>, caching: &HeaderValue) -> Paths {
    let mut paths = PathsBuilder::new()
        .path(register::PATH, register::describe())
        .path(auth::PATH, auth::describe())
        .path(jwks::PATH, jwks::describe().item(caching))
        .path(schedule::PATH, schedule::describe().item(caching))
        .path(PATH, describe().item(caching));
    for (path, item) in health::describe() {
        paths = paths.path(path, item);
    }
    for (path, document) in issuer.map(discovery::describe).unwrap_or_default() {
        paths = paths.path(path, document.item(caching));
    }
    paths.build()
}

/// The description as it describes itself.
fn describe() -> PublicDocument {
    PublicDocument::of::<OpenApi>(Text {
        id: "Description",
        summary: "This document",
        description: "The service described as OpenAPI 3.1.",
    })
}

/// An OpenAPI 3.1 document.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct OpenApi {
    #[schema(pattern = r"^3\.1\.[0-9]+$")]
    openapi: String,
    info: serde_json::Map<String, serde_json::Value>,
    paths: serde_json::Map<String, serde_json::Value>,
    components: serde_json::Map<String, serde_json::Value>,
}

fn components(has_issuer: bool) -> Components {
    let mut components = Components::new();
    add::<ErrorBody<'_>>(&mut components);
    add::<register::Registered<'_>>(&mut components);
    add::<auth::Issued>(&mut components);
    add::<JwkSet<'_>>(&mut components);
    add::<schedule::Schedule>(&mut components);
    add::<OpenApi>(&mut components);
    add::<health::Status>(&mut components);
    if has_issuer {
        add::<discovery::Metadata<'_>>(&mut components);
    }
    for (name, fields) in [register::fields(), auth::fields()] {
        components.schemas.insert(name.to_owned(), fields.into());
    }
    components.headers = answers::headers();
    components.parameters = requests::parameters();
    components.responses = answers::unknown_path();
    let basic = HttpBuilder::new()
        .scheme(HttpAuthScheme::Basic)
        .description(Some("RFC 7617, in UTF-8. A body beats it."));
    components.add_security_scheme(BASIC, SecurityScheme::Http(basic.build()));
    components
}

fn add<T: ToSchema>(components: &mut Components) {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    components.schemas.extend(schemas);
}
