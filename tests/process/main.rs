//! The binary as its users run it: real processes, sockets, signals and files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod earlier_server;
mod graders;
mod rotation;
mod start;
mod support;
mod token;
mod verifiers;
