//! The binary as its users run it: real processes, sockets, signals and files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod database;
mod dotenv;
mod earlier_server;
mod first_start;
mod graders;
mod rotation;
mod sealing_key;
mod start;
mod support;
mod token;
mod verifiers;
