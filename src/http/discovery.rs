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

use super::document::{answer, with_cors};
use super::jwks;
use crate::app::SharedState;
use crate::domain::issuer::Issuer;
use crate::domain::keys::Document;

#[derive(Serialize)]
struct Metadata<'a> {
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
    let path = issuer.path();
    let routes = Router::new()
        .route(
            &format!("{path}/.well-known/openid-configuration"),
            metadata(),
        )
        .route(
            &format!("/.well-known/oauth-authorization-server{path}"),
            metadata(),
        );
    if path.is_empty() {
        routes
    } else {
        routes.route(&format!("{path}{}", jwks::PATH), jwks::method_router())
    }
}
