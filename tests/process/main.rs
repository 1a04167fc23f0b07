//! The binary as its users run it: real processes, sockets, signals and files.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod client;
mod connections;
mod database;
mod doctor;
mod dotenv;
mod earlier_server;
mod first_start;
mod graders;
mod health;
mod help;
mod http2;
mod kills;
mod limits;
mod load;
mod log;
mod metrics;
mod notify;
mod operations;
mod replaced;
mod rotation;
mod sealing_key;
mod secrets;
mod signals;
mod standstill;
mod start;
mod support;
mod token;
mod two_servers;
mod uploads;
mod verifiers;
mod verify;
