//! Times of the real binary: as ratios to what is measured beside it, or by what
//! came first, since machines differ. One test at a time, and
//! none of another program, so that only the server's own doing counts.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

#[path = "../process/client.rs"]
#[expect(dead_code, reason = "the process tests need more of it")]
mod client;
mod follows;
mod graders;
#[path = "../shared/left_out.rs"]
mod left_out;
mod sign_in;
#[path = "../process/standstill.rs"]
#[expect(dead_code, reason = "the process tests need more of it")]
mod standstill;
#[path = "../process/support.rs"]
#[expect(dead_code, reason = "the process tests need more of it")]
mod support;
#[path = "../process/token.rs"]
mod token;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Each test holds this while it measures.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
