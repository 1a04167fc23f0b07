//! `GET /.well-known/jwks-schedule.json`: the times of published keys, and the
//! guarantees that verifiers can plan with.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde::{Serialize, Serializer};

use super::jwks::await_and_respond;
use super::public_document::with_cors;
use super::state::SharedState;
use crate::clock::{Moment, UnixTime};
use crate::domain::adopted_keys::AdoptedKey;
use crate::domain::document::Document;
use crate::domain::snapshot::Snapshot;
use crate::lifecycle::{self, KeyTimes, Policy, Stage};

pub(super) const PATH: &str = "/.well-known/jwks-schedule.json";

#[derive(Serialize)]
pub(super) struct Schedule {
    pub(super) keys: Vec<ScheduledKey>,
    pub(super) next_rotation: Moment,
    pub(super) contract: Contract,
}

#[derive(Serialize)]
pub(super) struct ScheduledKey {
    pub(super) kid: String,
    #[serde(serialize_with = "by_name")]
    pub(super) state: Stage,
    /// Absent for keys of the earlier server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) published_from: Option<Moment>,
    /// Absent for keys of the earlier server, which may sign at once, and for those of
    /// another issuer, which never sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signs_from: Option<Moment>,
    /// Absent once it has stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stops_signing: Option<Moment>,
    pub(super) unpublished_at: Moment,
}

/// Guarantees for verifiers, in seconds. A revoked key breaks them.
#[derive(Serialize)]
pub(super) struct Contract {
    /// A key set that is not older than this holds the key of every valid token.
    pub(super) max_cache_seconds: u64,
    /// A new key is published at least this long before it signs.
    pub(super) min_notice_seconds: u64,
    pub(super) max_token_lifetime_seconds: u64,
    /// A verifier's clock may be wrong by this much: keys outlast their tokens by it.
    pub(super) clock_skew_seconds: u64,
}

fn by_name<S: Serializer>(stage: &Stage, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(stage.name())
}

pub(super) fn routes() -> Router<SharedState> {
    Router::new().route(PATH, with_cors(get(schedule)))
}

async fn schedule(State(state): State<SharedState>, headers: HeaderMap) -> Response {
    let pick = |snapshot: &Snapshot, now| {
        snapshot.published(now)?;
        Some(Document::new(&Schedule::new(snapshot, &state.policy, now)))
    };
    await_and_respond(&state, &headers, pick).await
}

impl Schedule {
    /// The times do not depend on the moment of the request, so that the bytes and the
    /// entity tag stay the same until something changes: an overdue rotation keeps the
    /// time at which it was due. With no key to count on the next is due now.
    pub(super) fn new(snapshot: &Snapshot, policy: &Policy, now: UnixTime) -> Self {
        let times = snapshot.times();
        let published = times.iter().filter(|key| key.is_published_at(now));
        let own = published.map(|key| scheduled(key, times, policy, now));
        let adopted = snapshot.adopted().iter();
        let adopted = adopted.filter(|key| key.times().is_published_at(now));
        Self {
            keys: own.chain(adopted.map(|key| adopted_key(key))).collect(),
            next_rotation: lifecycle::next_due(times, policy, now)
                .unwrap_or(now)
                .into(),
            contract: Contract {
                max_cache_seconds: policy.lead.as_secs(),
                min_notice_seconds: policy.lead.as_secs(),
                max_token_lifetime_seconds: policy.token_lifetime.as_secs(),
                clock_skew_seconds: policy.skew.as_secs(),
            },
        }
    }
}

fn scheduled(key: &KeyTimes, all: &[KeyTimes], policy: &Policy, now: UnixTime) -> ScheduledKey {
    let stage = lifecycle::stage(key, all, policy, now);
    ScheduledKey {
        kid: key.kid.to_string(),
        state: stage,
        published_from: key.created_at.map(Moment::from),
        signs_from: key.signs_from.map(Moment::from),
        stops_signing: stage
            .will_sign()
            .then(|| lifecycle::stops_signing(key, all, policy).into()),
        unpublished_at: key.published_until().into(),
    }
}

fn adopted_key(key: &AdoptedKey) -> ScheduledKey {
    ScheduledKey {
        kid: key.kid().to_owned(),
        state: Stage::Adopted,
        published_from: Some(key.times().adopted_at.into()),
        signs_from: None,
        stops_signing: None,
        unpublished_at: key.times().until.into(),
    }
}
