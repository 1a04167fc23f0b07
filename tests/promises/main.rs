//! The promises about keys, checked from the outside as a verifier would, over
//! the real store: random schedules of all that may go wrong, and simulated years.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod finds;
mod harm;
mod history;
mod process;
mod schedule;
mod schedules;
mod source;
mod world;
mod year;
