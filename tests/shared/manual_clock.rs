#![allow(dead_code, reason = "not every program moves the time both ways")]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jwks_server::clock::{Clock, UnixTime};

/// A clock that only moves by hand.
#[derive(Debug)]
pub struct ManualClock {
    reading: Mutex<(UnixTime, Duration)>,
}

impl ManualClock {
    pub fn new(now: UnixTime) -> Self {
        Self {
            reading: Mutex::new((now, Duration::ZERO)),
        }
    }

    /// Moves both readings. Fractions of a second count in the monotonic one only.
    pub fn advance(&self, by: Duration) {
        self.change(|(now, mono)| (now + by, mono + by));
    }

    /// Sets the wall-clock time, as an operator or a time server does.
    pub fn step_to(&self, now: UnixTime) {
        self.change(|(_, mono)| (now, mono));
    }

    fn change(&self, f: impl FnOnce((UnixTime, Duration)) -> (UnixTime, Duration)) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        *reading = f(*reading);
    }

    fn read(&self) -> (UnixTime, Duration) {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        self.read().0
    }

    fn monotonic(&self) -> Duration {
        self.read().1
    }
}
