//! The binary as its users run it: real processes, sockets, signals and files.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod adopt;
mod audit;
mod backup;
mod certificates;
mod check;
mod clear_keys;
mod client;
mod connections;
mod database;
mod doctor;
mod dotenv;
mod earlier_server;
mod files;
mod first_start;
mod health;
mod help;
mod http2;
mod key_commands;
mod kills;
#[path = "../shared/left_out.rs"]
mod left_out;
mod limits;
mod load;
mod log;
#[path = "../shared/long.rs"]
mod long;
mod metrics;
mod notify;
mod operations;
mod planted_keys;
mod replaced;
mod room;
mod rotation;
mod sandbox;
mod sealing_key;
mod secrets;
#[path = "../shared/seed.rs"]
mod seed;
mod signals;
mod standstill;
mod start;
mod support;
mod terminal;
mod token;
mod trial;
mod two_servers;
mod uploads;
mod user_commands;
mod verifiers;
mod verify;
