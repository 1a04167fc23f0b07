#![allow(dead_code, reason = "not every program needs all of it")]

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jwks_server::clock::{Clock, UnixTime};

/// A clock that only moves by hand.
pub struct ManualClock {
    reading: Mutex<(UnixTime, Duration)>,
    follower: Box<dyn Fn(UnixTime) + Send + Sync>,
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

impl ManualClock {
    pub fn new(now: UnixTime) -> Self {
        Self::followed_by(now, |_| ())
    }

    /// Has `follower` set another clock before each new time can be read here.
    pub fn followed_by(now: UnixTime, follower: impl Fn(UnixTime) + Send + Sync + 'static) -> Self {
        follower(now);
        Self {
            reading: Mutex::new((now, Duration::ZERO)),
            follower: Box::new(follower),
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
        let next = f(*reading);
        (self.follower)(next.0);
        *reading = next;
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
