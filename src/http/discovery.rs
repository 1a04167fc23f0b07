//! The discovery documents, there when `ISSUER` is set: OpenID Connect Discovery
//! 1.0 and RFC 8414. They have only members that are true of this service:
//! it has no authorization endpoint and so no response types.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use serde::Serialize;
use utoipa::ToSchema;

use super::conditional_get::{answer, with_cors};
use super::jwks;
use super::openapi::{PublicDocument, Text};
use super::state::SharedState;
use crate::domain::issuer::Issuer;
use crate::domain::key_ring::Document;

/// What is true of this issuer: OpenID Connect Discovery 1.0 and RFC 8414.
#[derive(Serialize, ToSchema)]
pub(super) struct Metadata<'a> {
    issuer: &'a str,
    jwks_uri: String,
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
    claims_supported: &'a [&'static str],
}

/// For an issuer with a path, each document is at the place that its standard
/// gives it, and the key set below the issuer too.
pub(super) fn routes(issuer: &Issuer, has_audience: bool) -> Router<SharedState> {
    let claims = ["iss", "sub", "iat", "exp", "jti", "aud"];
    let document = Arc::new(Document::new(&Metadata {
        issuer: issuer.as_str(),
        jwks_uri: issuer.join(jwks::PATH),
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256"],
        claims_supported: &claims[..if has_audience { 6 } else { 5 }],
    }));
    let metadata = || {
        let document = Arc::clone(&document);
        with_cors(get(
            async move |State(state): State<SharedState>, headers: HeaderMap| {
                answer(&document, &headers, &state.document_caching).map(Body::new)
            },
        ))
    };
    let places = Places::of(issuer);
    let routes = Router::new()
        .route(&places.openid, metadata())
        .route(&places.oauth, metadata());
    match places.key_set {
        Some(path) => routes.route(&path, jwks::method_router()),
        None => routes,
    }
}

/// Where an issuer's documents are.
struct Places {
    openid: String,
    oauth: String,
    /// The key set, when it is at a second place.
    key_set: Option<String>,
}

impl Places {
    fn of(issuer: &Issuer) -> Self {
        let path = issuer.path();
        Self {
            openid: format!("{path}/.well-known/openid-configuration"),
            oauth: format!("/.well-known/oauth-authorization-server{path}"),
            key_set: (!path.is_empty()).then(|| format!("{path}{}", jwks::PATH)),
        }
    }
}

/// The documents as the service describes them, by their paths.
pub(super) fn describe(issuer: &Issuer) -> Vec<(String, PublicDocument)> {
    let metadata = |id, summary| {
        PublicDocument::of::<Metadata<'_>>(Text {
            id,
            summary,
            description: "There when an issuer is configured.",
        })
    };
    let places = Places::of(issuer);
    let mut described = vec![
        (
            places.openid,
            metadata("OpenidConfiguration", "OpenID Connect Discovery 1.0"),
        ),
        (
            places.oauth,
            metadata(
                "AuthorizationServer",
                "Authorization server metadata (RFC 8414)",
            ),
        ),
    ];
    if let Some(path) = places.key_set {
        described.push((path, jwks::describe().named("IssuerKeySet")));
    }
    described
}
