//! The metrics listener, and its `GET /`: what the metrics say, for people. Nothing
//! secret, but more than the public needs to know.

use std::sync::Arc;

use axum::extract::State;
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};
use strum::VariantArray as _;

use super::error::{ApiError, NO_STORE};
use super::large_response::{LargeResponse, LargeResponseSlot};
use super::metrics_page::{metrics, read_current};
use super::origin::local_names_only;
use super::pages::{self, clock_time, duration, timeline};
use super::schedule::Schedule;
use super::service::Service;
use super::state::{AppState, SharedState};
use crate::clock::UnixTime;
use crate::metrics::SignInOutcome;

/// Seconds after which the page is loaded again.
const REFRESH: u64 = 10;

const METHODS: &str = "GET, HEAD";

/// The routes of the metrics listener. Their requests are neither logged nor counted.
/// `is_local`: only this machine reaches it.
pub fn metrics_service(state: SharedState, is_local: bool) -> Service {
    let not_allowed = || async { ApiError::MethodNotAllowed(METHODS) };
    let mut routes = Router::new()
        .route("/", get(operators).fallback(not_allowed))
        .route("/metrics", get(metrics).fallback(not_allowed))
        .fallback(|| async { ApiError::OnlyMetrics });
    if is_local {
        let layer = middleware::from_fn_with_state(Arc::clone(&state), local_names_only);
        routes = routes.layer(layer);
    }
    routes.with_state(state).into()
}

async fn operators(
    State(state): State<SharedState>,
    slot: Option<Extension<LargeResponseSlot>>,
) -> Result<Response, ApiError> {
    let large_response = LargeResponse::acquire(slot).await?;
    read_current(&state);
    let faults = state.readiness.faults().await;
    let participants = state.readiness.participants().await;
    let now = state.clock.now();
    let schedule = Schedule::new(&state.keys.snapshot(), &state.policy, now);
    let body = html! {
        header {
            p.eyebrow { "jwks-server " (env!("CARGO_PKG_VERSION")) }
            h1 class=(if faults.is_empty() { "good" } else { "bad" }) {
                (if faults.is_empty() { "Ready" } else { "Not ready" })
            }
            p.lead {
                @if faults.is_empty() { "The database takes writes, a key can sign, and the rotation runs." }
                (faults.join("; "))
            }
            nav aria-label="Documents" { a href="/metrics" { "Metrics for Prometheus" } }
        }
        main {
            section aria-labelledby="figures" { h2 #figures { "Now" } (figures(&state, participants, &schedule, now)) }
            section aria-labelledby="sign-ins" { h2 #sign-ins { "Sign-ins since the start" } (sign_ins(&state)) }
            (timeline::section(&schedule, &state.policy, now))
        }
        footer {
            p { "All times are UTC, as of " (clock_time(now, now)) ". This page loads itself again every " (duration(REFRESH)) "." }
        }
    };
    let title = match &*faults {
        [] => "Ready · jwks-server",
        _ => "Not ready · jwks-server",
    };
    let page = ([NO_STORE], pages::page(title, REFRESH, body)).into_response();
    Ok(large_response.send(page).await)
}

fn figures(
    state: &AppState,
    (participants, number): (&str, Option<usize>),
    schedule: &Schedule,
    now: UnixTime,
) -> Markup {
    let current = &state.metrics.current;
    let (sign_ins, sign_ups) = state.accounts.hasher.queued();
    let (committed, failed) = state.accounts.store.commits().counts();
    let (wal, is_low) = state.readiness.room();
    let uptime = state.clock.monotonic().as_secs();
    let next = schedule.next_rotation.at();
    html! {
        dl {
            (pages::fact("Up for", html! { (duration(uptime)) }))
            (pages::fact("Process", html! { (std::process::id()) }))
            (pages::fact(participants, html! {
                @match number { Some(number) => (number), None => "not known" }
            }))
            (pages::fact("Passwords waiting", html! { (sign_ins) " to sign in, " (sign_ups) " to register" }))
            (pages::fact("Refused for too many calls", html! { (current.quota_refusals.get()) }))
            (pages::fact("Client addresses remembered", html! { (current.quota_clients.get()) }))
            (pages::fact("Commits", html! { (committed) ", and " (failed) " failed" }))
            // The files of PostgreSQL are its administrator's.
            @if !state.accounts.store.is_shared_by_replicas() {
                (pages::fact("Write-ahead log", html! { (wal / 1024) " KiB" }))
                (pages::fact("Disk", html! { (if is_low { "too full for new accounts" } else { "has room" }) }))
            }
            (pages::fact("Rotation", html! {
                (current.rotation_failures.get()) " failures"
                @if state.heartbeat.is_failing() { ", the latest tick among them" }
            }))
            (pages::fact("Next key", html! {
                (clock_time(next, now))
                @if next > now { ", in " (duration(now.until(next).as_secs())) } @else { ", overdue" }
            }))
        }
    }
}

fn sign_ins(state: &AppState) -> Markup {
    let counts = SignInOutcome::VARIANTS
        .iter()
        .map(|&outcome| (words(outcome), state.metrics.sign_ins.count(outcome)));
    let counts: Vec<_> = counts.collect();
    let most = counts
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(0)
        .max(1);
    html! {
        table.counts {
            caption.unseen { "Sign-ins by outcome" }
            thead.unseen { tr { th scope="col" { "Outcome" } th scope="col" { "Count" } } }
            tbody {
                @for (words, count) in counts {
                    tr {
                        th scope="row" { (words) }
                        td {
                            (count)
                            svg width="100%" height="6" aria-hidden="true" {
                                rect.signing width={ (count.saturating_mul(100) / most) "%" } height="6" rx="3" {}
                            }
                        }
                    }
                }
            }
        }
    }
}

fn words(outcome: SignInOutcome) -> &'static str {
    match outcome {
        SignInOutcome::Token => "token given",
        SignInOutcome::ExpiredToken => "expired token given, as asked for",
        SignInOutcome::BadCredentials => "unknown name or wrong password",
        SignInOutcome::Malformed => "malformed",
        SignInOutcome::Overloaded => "too many passwords waiting",
        SignInOutcome::Unavailable => "no database, key or memory",
        SignInOutcome::Failed => "fault of the service",
        SignInOutcome::Abandoned => "connection ended first",
    }
}
