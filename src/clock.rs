//! Time: whole seconds for keys and tokens, a monotonic reading for quotas.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Whole seconds since 1970-01-01T00:00:00Z, as `NumericDate` of RFC 7519
/// without a fraction and as the column `keys.exp`.
///
/// Adding and subtracting a [`Duration`] drops its fraction and saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

impl UnixTime {
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    pub const fn as_secs(self) -> i64 {
        self.0
    }

    /// In RFC 3339, such as `2027-01-15T08:00:00Z`. Times outside the years 1970 to
    /// 9999 become the nearest one within.
    pub fn rfc3339(self) -> String {
        const LAST: u64 = 253_402_300_799;
        let secs = u64::try_from(self.0).unwrap_or(0).min(LAST);
        let time = UNIX_EPOCH + Duration::from_secs(secs);
        humantime::format_rfc3339_seconds(time).to_string()
    }

    /// Time from `self` to `later`; zero when `later` is earlier.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl Add<Duration> for UnixTime {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(rhs.as_secs()))
    }
}

impl Sub<Duration> for UnixTime {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(rhs.as_secs()))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time in JSON documents, for people (RFC 3339) and for programs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Moment {
    time: String,
    /// Seconds since 1970.
    epoch: i64,
}

impl Moment {
    pub fn at(&self) -> UnixTime {
        UnixTime(self.epoch)
    }
}

impl From<UnixTime> for Moment {
    fn from(at: UnixTime) -> Self {
        Self {
            time: at.rfc3339(),
            epoch: at.as_secs(),
        }
    }
}

/// Read by handlers and loops, once each; rules take the time as an argument.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time. It may jump either way at any time.
    fn now(&self) -> UnixTime;

    /// Time since the clock was created; never goes back.
    fn monotonic(&self) -> Duration;
}

#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        let secs = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => UnixTime(secs(since)),
            Err(before) => UnixTime(-secs(before.duration())),
        }
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Notices steps of the wall clock by the monotonic one.
#[derive(Debug, Default)]
pub struct StepWatch {
    state: Mutex<Option<Offsets>>,
}

/// Wall-clock time less monotonic time, in seconds.
#[derive(Debug)]
struct Offsets {
    /// That of the last reading.
    last: i64,
    /// Monotonic time of the first reading since the last step.
    since: Duration,
    /// The last one that was without a step for [`StepWatch::SETTLES_AFTER`], or the first.
    settled: i64,
}

/// The wall-clock time as far as it can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What has passed by it has passed even if the clock has just been set ahead
    /// wrongly.
    pub earliest: UnixTime,
    /// No step was noticed for [`StepWatch::SETTLES_AFTER`].
    pub is_settled: bool,
}

impl StepWatch {
    /// Time without a step after which the clock is taken for right.
    pub const SETTLES_AFTER: Duration = Duration::from_secs(300);
    /// Rounding of both clocks to seconds, and a slow reader between them.
    const TOLERANCE: u64 = 2;

    pub fn read(&self, clock: &dyn Clock) -> Reading {
        let (now, mono) = (clock.now(), clock.monotonic());
        let offset = (now - mono).as_secs();
        let mut state = self.state.lock();
        let state = state.get_or_insert(Offsets {
            last: offset,
            since: mono,
            settled: offset,
        });
        if offset.abs_diff(state.last) > Self::TOLERANCE {
            state.since = mono;
        }
        state.last = offset;
        let is_settled = mono.saturating_sub(state.since) >= Self::SETTLES_AFTER;
        if is_settled {
            state.settled = offset;
        }
        Reading {
            earliest: now.min(UnixTime(state.settled) + mono),
            is_settled,
        }
    }
}
