//! The real router over a real SQLite file, in one process, with a clock that
//! moves by hand.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod access_log;
mod account_admin;
mod accounts;
mod audit_output;
mod auth;
mod client;
mod config;
mod database;
#[path = "../shared/empty_database.rs"]
mod empty_database;
mod errors;
mod fernet;
mod hashing;
mod health;
mod home;
mod issuer;
mod jwks;
mod jwt;
mod keys_output;
mod layers;
#[path = "../shared/left_out.rs"]
mod left_out;
mod lifecycle;
mod log;
mod log_queue;
#[path = "../shared/long.rs"]
mod long;
#[path = "../shared/manual_clock.rs"]
mod manual_clock;
mod methods;
mod metrics;
mod names;
mod openapi;
mod operations;
mod parts;
mod rate_limit;
mod register;
mod replaced;
mod rotation;
mod rsa;
mod same_work;
mod schedule;
mod sliding_log;
mod store;
mod support;
mod systemd;
mod time_limit;
mod trial;
mod users_output;
mod verification;
mod walk;
mod withdrawn;
