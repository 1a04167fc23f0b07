//! `GET /metrics` of the metrics listener, for Prometheus.

use std::sync::atomic::Ordering;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use strum::VariantArray as _;

use super::error::{ApiError, NO_STORE};
use super::large_response::{LargeResponse, LargeResponseSlot};
use super::state::{AppState, SharedState};
use crate::clock::UnixTime;
use crate::lifecycle::{self, KeyTimes, Policy, Stage};

pub(super) async fn metrics(
    State(state): State<SharedState>,
    slot: Option<Extension<LargeResponseSlot>>,
) -> Result<Response, ApiError> {
    let large_response = LargeResponse::acquire(slot).await?;
    read_current(&state);
    let (content_type, text) = state.metrics.page();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        NO_STORE,
    ];
    Ok(large_response.send((headers, text).into_response()).await)
}

/// Copies the values that other parts of the service keep into the metrics.
pub(super) fn read_current(state: &AppState) {
    let current = &state.metrics.current;
    let refusals = current.quota_refusals.inner();
    let quotas = [&state.auth_quota.log, &state.register_quota.log];
    let refused = quotas.iter().map(|quota| quota.refusals()).sum();
    refusals.store(refused, Ordering::Relaxed);
    let clients = quotas.iter().map(|quota| quota.clients()).sum();
    current.quota_clients.set(number(clients));
    let (sign_ins, sign_ups) = state.accounts.hasher.queued();
    for (queue, waiting) in [("sign_in", sign_ins), ("sign_up", sign_ups)] {
        let length = current.hashing_queue.get_or_create(&[("queue", queue)]);
        length.set(number(waiting));
    }
    set_key_gauges(state);
    let (wal, is_low) = state.readiness.room();
    current
        .wal_bytes
        .set(i64::try_from(wal).unwrap_or(i64::MAX));
    current.disk_low.set(is_low.into());
    let failures = current.rotation_failures.inner();
    failures.store(state.heartbeat.failures(), Ordering::Relaxed);
    current
        .rotation_failing
        .set(state.heartbeat.is_failing().into());
}

fn set_key_gauges(state: &AppState) {
    let current = &state.metrics.current;
    let now = state.clock.now();
    let snapshot = state.keys.snapshot();
    let all = snapshot.times();
    for &stage in Stage::VARIANTS {
        let label = [("state", stage.name())];
        let keys = || {
            all.iter()
                .filter(move |key| lifecycle::stage(key, all, &state.policy, now) == stage)
        };
        let adopted = || {
            snapshot
                .adopted()
                .iter()
                .map(|key| key.times())
                .filter(move |times| lifecycle::adopted_stage(times, now) == stage)
        };
        current
            .keys
            .get_or_create(&label)
            .set(number(keys().count() + adopted().count()));
        let left = keys().filter_map(|key| leaves(stage, key, all, &state.policy));
        let adopted = adopted().filter(|_| stage == Stage::Adopted);
        match left.chain(adopted.map(|times| times.until)).min() {
            Some(at) => {
                let next = current.keys_next_change.get_or_create(&label);
                next.set(seconds(now, at));
            }
            None => {
                current.keys_next_change.remove(&label);
            }
        }
    }
    // Without any key to count on, one is due now.
    let due = lifecycle::next_due(all, &state.policy, now).unwrap_or(now);
    current.next_key.set(seconds(now, due));
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// End of a key's stage; `None` for the last stages, which end with the row.
fn leaves(stage: Stage, key: &KeyTimes, all: &[KeyTimes], policy: &Policy) -> Option<UnixTime> {
    match stage {
        Stage::Announced => key.signs_from,
        Stage::Signing => Some(lifecycle::stops_signing(key, all, policy)),
        Stage::Retiring => Some(key.published_until()),
        // The most recently expired key stays until another one has expired.
        Stage::Adopted | Stage::Expired | Stage::Revoked => None,
    }
}

fn seconds(now: UnixTime, then: UnixTime) -> i64 {
    then.as_secs().saturating_sub(now.as_secs())
}
