//! The promises about keys, checked from the outside as a verifier would, over
//! the real store: random schedules of all that may go wrong and of what
//! operators do meanwhile, on a file and with three replicas on PostgreSQL; and
//! simulated years.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod adopted;
#[path = "../shared/cluster.rs"]
mod cluster;
mod database;
#[path = "../shared/empty_database.rs"]
mod empty_database;
mod engine;
mod key_source;
#[path = "../shared/left_out.rs"]
mod left_out;
#[path = "../shared/long.rs"]
mod long;
mod long_runs;
#[path = "../shared/manual_clock.rs"]
mod manual_clock;
mod observer;
mod operators;
mod postgres;
mod process;
mod regressions;
mod replicas;
mod runner;
mod schedule;
mod schedules;
mod sealing_keys;
#[path = "../shared/seed.rs"]
mod seed;
mod simulation;
mod sql;
mod withdrawn;
