//! The discovery documents, there when `ISSUER` is set: OpenID Connect Discovery
//! 1.0 and RFC 8414. They have only members that are true of this service: it has
//! no authorization endpoint.

use std::sync::Arc;

use axum::Router;
use serde::Serialize;

use super::jwks;
use super::public_document::static_document;
use super::state::SharedState;
use crate::domain::document::Document;
use crate::domain::issuer::Issuer;

#[derive(Serialize)]
struct Metadata<'a> {
    issuer: &'a str,
    jwks_uri: String,
    /// Required by both standards. Kubernetes, which has no authorization endpoint
    /// either, gives the same value.
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
    claims_supported: &'a [&'static str],
}

/// The paths for an issuer without a path.
pub(super) const PATHS: [&str; 2] = [
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
];

/// Paths per OpenID Connect Discovery 1.0 section 4 (after the issuer's own path)
/// and RFC 8414 section 3 (before it).
pub(super) fn paths(issuer: &Issuer) -> [String; 2] {
    let path = issuer.path();
    [format!("{path}{}", PATHS[0]), format!("{}{path}", PATHS[1])]
}

/// An issuer with a path gets the key set after that path too.
pub(super) fn routes(issuer: &Issuer, has_audience: bool) -> Router<SharedState> {
    let claims = ["iss", "sub", "iat", "exp", "jti", "aud"];
    let document = Arc::new(Document::new(&Metadata {
        issuer: issuer.as_str(),
        jwks_uri: issuer.join(jwks::PATH),
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256"],
        claims_supported: &claims[..if has_audience { 6 } else { 5 }],
    }));
    let mut routes = Router::new();
    for path in paths(issuer) {
        routes = routes.route(&path, static_document(&document));
    }
    let path = issuer.path();
    if path.is_empty() {
        return routes;
    }
    routes.route(&format!("{path}{}", jwks::PATH), jwks::method_router())
}
