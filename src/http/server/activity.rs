//! Activity of a connection, and when that has to end.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::permits::{Holder, Usage};

/// Time for the header section of a request from its first byte, and for a new
/// connection to begin one.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which no request has begun for so long must end. It may
/// answer pings for ever, or not read its answers. Load balancers keep connections
/// for 60 s, and must be the ones that close them.
pub(super) const IDLE: Duration = Duration::from_secs(75);

/// Times of a connection, for its time-outs and for the choice of the one to evict.
///
/// | state | it must end |
/// | --- | --- |
/// | no request has begun | `HEADER_TIMEOUT` after `since` |
/// | part of a header section has come: `header_since` is not 0 | `HEADER_TIMEOUT` after that |
/// | requests are under way, or it is idle | `IDLE` after `since` |
///
/// HTTP/1.1 may bring the next header section while a request is under way. So when
/// that ends, `last_bytes` are compared with the end of a header section.
/// Relaxed throughout: one task writes them, but for HTTP/2, where each request
/// has a task, and where a time that is a little late does no harm.
pub(super) struct Activity {
    /// Tells the connection to end.
    pub(super) stop: CancellationToken,
    is_evicted: AtomicBool,
    requests: AtomicU32,
    is_http2: AtomicBool,
    has_begun: AtomicBool,
    /// Time at which it was accepted, or a request last began or was answered.
    /// Milliseconds.
    since: AtomicU64,
    /// HTTP/1.1: time of the first byte of an unfinished header section; 0 without one.
    header_since: AtomicU64,
    /// The last four bytes read.
    last_bytes: AtomicU32,
    /// The client may still be sending what will not be used.
    pub(super) lingers: AtomicBool,
}

impl Activity {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            is_evicted: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            is_http2: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            since: AtomicU64::new(millis()),
            header_since: AtomicU64::new(0),
            last_bytes: AtomicU32::new(0),
            lingers: AtomicBool::new(false),
        }
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    /// True once a request has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Called for all bytes that come.
    pub(super) fn read(&self, bytes: &[u8]) {
        if bytes.is_empty() || self.is_http2.load(Ordering::Relaxed) {
            return;
        }
        let last_bytes = self.last_bytes.load(Ordering::Relaxed);
        let last = &bytes[bytes.len().saturating_sub(4)..];
        let last_bytes = last
            .iter()
            .fold(last_bytes, |all, &b| all << 8 | u32::from(b));
        self.last_bytes.store(last_bytes, Ordering::Relaxed);
        if self.requests.load(Ordering::Relaxed) == 0
            && self.header_since.load(Ordering::Relaxed) == 0
        {
            self.header_since.store(millis(), Ordering::Relaxed);
        }
    }

    /// A header section is whole. Its request ends when the guard is dropped.
    pub(super) fn begin(&self, is_http2: bool, has_body: bool) -> UnderWay<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.is_http2.store(is_http2, Ordering::Relaxed);
        self.has_begun.store(true, Ordering::Relaxed);
        self.header_since.store(0, Ordering::Relaxed);
        self.since.store(millis(), Ordering::Relaxed);
        UnderWay {
            activity: self,
            has_body,
        }
    }

    /// Time at which it has waited for too long.
    pub(super) fn deadline(&self) -> Instant {
        let header = self.header_since.load(Ordering::Relaxed);
        let (from, wait) = match (header, self.has_begun()) {
            (0, true) => (self.since.load(Ordering::Relaxed), IDLE),
            (0, false) => (self.since.load(Ordering::Relaxed), HEADER_TIMEOUT),
            (header, _) => (header, HEADER_TIMEOUT),
        };
        time(from) + wait
    }
}

impl Holder for Arc<Activity> {
    fn usage(&self) -> Usage {
        let since = time(self.since.load(Ordering::Relaxed));
        match self.requests.load(Ordering::Relaxed) {
            0 if self.has_begun() => Usage::Idle(since),
            0 => Usage::Unused(since),
            _ => Usage::Busy(since),
        }
    }

    fn evict(self) {
        self.is_evicted.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }
}

pub(super) struct UnderWay<'a> {
    activity: &'a Activity,
    has_body: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let activity = self.activity;
        let now = millis();
        activity.since.store(now, Ordering::Relaxed);
        activity.requests.fetch_sub(1, Ordering::Relaxed);
        // After a request without a body, what came last was the end of its header
        // section, or part of the next one's.
        let last_bytes = activity.last_bytes.load(Ordering::Relaxed).to_be_bytes();
        let is_whole = last_bytes.ends_with(b"\n\r\n") || last_bytes.ends_with(b"\n\n");
        if !self.has_body && !is_whole && !activity.is_http2.load(Ordering::Relaxed) {
            activity.header_since.store(now, Ordering::Relaxed);
        }
    }
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the first call, at least 1.
fn millis() -> u64 {
    u64::try_from(EPOCH.elapsed().as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

fn time(millis: u64) -> Instant {
    *EPOCH + Duration::from_millis(millis)
}
