//! What the latest poll has found: is the replica cut off, and is its clock right?

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::{CUT_OFF, StoreError};

/// Object identifiers of the tables and functions; `None` for one that is not there.
pub(super) type Objects = Vec<Option<i64>>;

/// What the latest good poll has found.
#[derive(Default)]
pub(super) struct Health {
    pub(super) latest: Mutex<Option<Poll>>,
    /// As the first poll has found them.
    pub(super) objects: OnceLock<Objects>,
    /// They were found to be others, once.
    pub(super) replaced: AtomicBool,
    clock_tolerance: Duration,
}

#[derive(Clone, Copy)]
pub(super) struct Poll {
    pub(super) at: Instant,
    pub(super) version: i64,
    /// Seconds by which the replica's clock is ahead of the database's.
    pub(super) ahead: i64,
}

impl Health {
    pub(super) fn new(clock_tolerance: Duration) -> Self {
        Self {
            clock_tolerance,
            ..Self::default()
        }
    }

    /// Refuses while the replica is cut off or its clock is wrong.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let latest = *self.latest.lock();
        let Some(poll) = latest.filter(|poll| poll.at.elapsed() < CUT_OFF) else {
            return Err(StoreError::Unavailable(format!(
                "it has not answered for {CUT_OFF:?}"
            )));
        };
        if poll.ahead.unsigned_abs() > self.clock_tolerance.as_secs() {
            return Err(StoreError::Unavailable(format!(
                "the clock of this machine is {} s ahead of the database's",
                poll.ahead
            )));
        }
        Ok(())
    }
}
