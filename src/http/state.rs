//! State that all handlers share.

use std::sync::Arc;

use axum::http::HeaderValue;

use super::SlidingLog;
use super::client::TrustedProxies;
use crate::clock::{Clock, UnixTime};
use crate::domain::accounts::Accounts;
use crate::domain::issuer::Issuer;
use crate::domain::key_ring::KeyRing;
use crate::domain::readiness::Readiness;
use crate::domain::rotation::Heartbeat;
use crate::domain::sign_in::SignIn;
use crate::lifecycle::Policy;
use crate::metrics::Metrics;

/// One state for all requests, which only count its users.
pub type SharedState = Arc<AppState>;

/// What all handlers share.
pub struct AppState {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The keys.
    pub keys: Arc<KeyRing>,
    pub accounts: Accounts,
    pub sign_in: SignIn,
    /// The quota on `/auth`.
    pub quota: SlidingLog,
    /// Whose `X-Forwarded-For` counts.
    pub proxies: Arc<TrustedProxies>,
    /// The times that keys follow.
    pub policy: Policy,
    /// Whether all of this works.
    pub readiness: Readiness,
    /// How the rotation of keys fares.
    pub heartbeat: Arc<Heartbeat>,
    /// When the service was started.
    pub started_at: UnixTime,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who issues, if that is configured.
    pub issuer: Option<Issuer>,
    /// Whether tokens carry `aud`.
    pub has_audience: bool,
    /// `Cache-Control` of the key set and of what belongs to it.
    pub document_caching: HeaderValue,
}
