//! The promises about keys, checked from the outside as a verifier would, over
//! the real store: random schedules of all that may go wrong and of what
//! operators do meanwhile, and simulated years.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod finds;
mod harm;
mod history;
#[path = "../shared/long.rs"]
mod long;
mod operators;
mod process;
mod schedule;
mod schedules;
mod secrets;
#[path = "../shared/seed.rs"]
mod seed;
mod source;
mod world;
mod year;
