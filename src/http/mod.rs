//! Speaks HTTP: routes, bodies, headers, statuses. Holds no rule, no SQL and no
//! cipher; calls the domain.

mod access_log;
mod auth;
mod body;
pub mod client;
mod conditional_get;
mod discovery;
mod error;
mod health;
mod jwks;
pub mod listen;
mod metrics;
mod openapi;
mod rate_limit;
mod register;
mod schedule;
pub mod server;
mod service;
pub mod state;

pub use conditional_get::caching;
pub use metrics::metrics_service;
pub use rate_limit::SlidingLog;
pub use service::{Service, service};
