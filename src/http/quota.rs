//! The quotas of `POST /auth` and `POST /register`. The layer puts one on its route, and
//! refuses there what a browser sends for a page of another origin, before it counts: such
//! a page could use up its visitor's quota. With several replicas the handler then asks for
//! the same call once more: [`Quota::admit_everywhere`].
//!
//! [`Quota::admit`] decides, as the key extractor of `tower_governor`'s layer; the layer
//! turns its refusal into the 429. The layer's own token bucket could not keep the promise
//! of `rate_limit.rs` (of 10 a second with a burst of 10 it lets in an eleventh at once
//! after ten spaced by 100 ms); it gets one key and a rate that no traffic reaches. The
//! crate stays since it is a requirement of the project.
//!
//! An extractor usually only reads the request. This one has a side effect: it
//! writes each call into the log, or refuses it. That is right as long as the layer
//! asks it once for each request, before the handler, and stops at its error; the
//! tests of `tests/api` that count the calls which are let in would show otherwise.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use governor::middleware::NoOpMiddleware;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use super::access_log::Caller;
use super::client_addr::ClientAddr;
use super::error::{ApiError, whole_seconds};
use super::origin;
use super::rate_limit::SlidingLog;
use super::state::SharedState;
use crate::domain::shared_quota::{Admission, SharedQuota};

/// A quota: at most so many calls of a client a second, by [`ClientAddr::key`]. Clones
/// share the log.
#[derive(Clone)]
pub struct Quota {
    /// Name of the quota in the database, which counts the calls of all replicas by it.
    pub name: &'static str,
    pub log: SlidingLog,
    pub shared: SharedQuota,
}

impl Quota {
    /// Lets a call in by this replica's log, or returns the time until one would be.
    pub fn admit(&self, client: ClientAddr) -> Result<(), Duration> {
        self.log.admit(client.key())
    }

    /// Asks all replicas for a call that [`admit`](Self::admit) has let in, and takes it
    /// out of the log when they refuse it: refused calls do not prolong the wait.
    pub(super) async fn admit_everywhere(&self, client: ClientAddr) -> Result<(), ApiError> {
        let (key, rate) = (client.key(), self.log.rate());
        match self.shared.admit(self.name, key, rate).await? {
            Admission::Admitted => Ok(()),
            Admission::Wait(wait) => {
                self.log.refuse_latest(key);
                Err(ApiError::TooManyRequests(wait))
            }
        }
    }
}

/// Asks the quota from inside `tower_governor`'s layer. Cloned for each request.
#[derive(Clone)]
pub(super) struct QuotaExtractor(Arc<(Quota, SharedState)>);

/// The layer for a route. Requests must have a [`Caller`] among their extensions.
pub(super) fn layer(
    quota: &Quota,
    state: &SharedState,
) -> GovernorLayer<QuotaExtractor, NoOpMiddleware, Body> {
    let extractor = QuotaExtractor(Arc::new((quota.clone(), state.clone())));
    let config = GovernorConfigBuilder::const_default()
        .key_extractor(extractor)
        .per_nanosecond(1)
        .burst_size(u32::MAX)
        .finish();
    match config {
        Some(config) => GovernorLayer::new(config).error_handler(refuse),
        // Only a period or a burst of zero gives no configuration.
        None => unreachable!("period and burst are not zero"),
    }
}

impl KeyExtractor for QuotaExtractor {
    /// One key for all: the bucket is not what decides.
    type Key = ();

    fn extract<T>(&self, request: &Request<T>) -> Result<(), GovernorError> {
        let (quota, state) = &*self.0;
        if origin::refuse_other_origins(state, request).is_err() {
            return Err(GovernorError::Other {
                code: StatusCode::FORBIDDEN,
                msg: None,
                headers: None,
            });
        }
        let Some(caller) = request.extensions().get::<Caller>() else {
            return Err(GovernorError::UnableToExtractKey);
        };
        quota
            .admit(caller.client)
            .map_err(|wait| GovernorError::TooManyRequests {
                wait_time: whole_seconds(wait),
                headers: None,
            })
    }
}

fn refuse(error: GovernorError) -> Response {
    match error {
        GovernorError::TooManyRequests { wait_time, .. } => {
            ApiError::TooManyRequests(Duration::from_secs(wait_time))
        }
        GovernorError::Other { .. } => ApiError::OtherOrigin,
        other => {
            tracing::error!("the quota found no client address: {other}");
            ApiError::Internal
        }
    }
    .into_response()
}
