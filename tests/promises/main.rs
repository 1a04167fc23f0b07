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
mod operators;
mod process;
mod schedule;
mod schedules;
mod secrets;
mod source;
mod world;
mod year;
