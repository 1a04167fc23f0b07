//! State that all handlers share.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;

use super::Quota;
use super::client_addr::TrustedProxies;
use super::refusals::Refusals;
use crate::clock::Clock;
use crate::domain::accounts::Accounts;
use crate::domain::issuer::Issuer;
use crate::domain::key_ring::KeyRing;
use crate::domain::readiness::Readiness;
use crate::domain::rotation::Heartbeat;
use crate::domain::sign_in::SignIn;
use crate::domain::tokens::Audience;
use crate::lifecycle::Policy;
use crate::metrics::Metrics;

/// Shared by all handlers; cloning bumps a reference count.
pub type SharedState = Arc<AppState>;

pub struct AppState {
    pub clock: Arc<dyn Clock>,
    pub keys: Arc<KeyRing>,
    pub accounts: Accounts,
    pub sign_in: SignIn,
    /// Quota of `POST /auth`.
    pub auth_quota: Quota,
    /// Quota of `POST /register`.
    pub register_quota: Quota,
    pub proxies: Arc<TrustedProxies>,
    /// `HOST` is a loopback address and no proxy is trusted: only programs of this
    /// machine are clients.
    pub is_local: bool,
    pub refusals: Refusals,
    pub policy: Policy,
    pub readiness: Readiness,
    pub heartbeat: Arc<Heartbeat>,
    pub metrics: Metrics,
    pub issuer: Option<Issuer>,
    /// `aud` of tokens.
    pub audience: Option<Audience>,
    pub jwks_max_age: Duration,
    /// `Cache-Control` of the key set and the other public documents.
    pub document_caching: HeaderValue,
}
