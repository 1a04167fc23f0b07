//! Permits: bounds on connections, and on the requests whose bodies are awaited, in
//! all and for each client address.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::client::ClientKey;

/// Time for the header section of a request from its first byte, and for a new
/// connection to begin one.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which no request has begun for so long must end. It may
/// answer pings for ever, or not read its answers. Load balancers keep connections
/// for 60 s, and must be the ones that close them.
pub(super) const IDLE: Duration = Duration::from_secs(75);
/// Requests at once whose bodies may be awaited: each may take 16 KiB of memory for
/// its body, and as much again for what it came in.
const MAX_BODIES: usize = 1024;

/// Evicted connections may hold one in so many permits beyond the bound until they are
/// closed: a newcomer need not wait for them.
pub(super) const SLACK: usize = 32;

/// Number of permits that are held, in all and by client.
struct Counts {
    limit: usize,
    all: usize,
    by_client: HashMap<ClientKey, usize>,
}

#[derive(PartialEq, Eq)]
enum Capacity {
    Free,
    /// The client has its share, which is half of all.
    ShareFull,
    Full,
}

/// A client, or none for a trusted proxy, which has no share of its own.
type Client = Option<ClientKey>;

impl Counts {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            all: 0,
            by_client: HashMap::new(),
        }
    }

    fn capacity(&self, client: Client) -> Capacity {
        let held = client.and_then(|client| self.by_client.get(&client));
        if held.is_some_and(|&held| held >= self.limit.div_ceil(2)) {
            Capacity::ShareFull
        } else if self.all >= self.limit {
            Capacity::Full
        } else {
            Capacity::Free
        }
    }

    fn add(&mut self, client: Client) {
        self.all += 1;
        if let Some(client) = client {
            *self.by_client.entry(client).or_default() += 1;
        }
    }

    fn remove(&mut self, client: Client) {
        self.all -= 1;
        if let Some(client) = client
            && let Some(held) = self.by_client.get_mut(&client)
        {
            *held -= 1;
            if *held == 0 {
                self.by_client.remove(&client);
            }
        }
    }
}

/// Permits of connections. When none is free, the connection that has been idle for
/// longest is evicted for a newcomer; within a full share, the one of the same client.
pub(super) struct Permits {
    holders: Mutex<Holders>,
    released: Notify,
}

struct Holders {
    /// Without those of evicted connections.
    counts: Counts,
    connections: BTreeMap<u64, Arc<Activity>>,
    last: u64,
    /// Evicted connections that are not closed yet.
    leaving: usize,
}

/// Number of a connection that holds a permit.
pub(super) struct Permit(u64);

impl Permits {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            holders: Mutex::new(Holders {
                counts: Counts::new(limit),
                connections: BTreeMap::new(),
                last: 0,
                leaving: 0,
            }),
            released: Notify::new(),
        }
    }

    /// Waits while many evicted connections are still open, so that descriptors are
    /// bounded too.
    pub(super) async fn admit(&self, newcomer: &Arc<Activity>) -> Permit {
        loop {
            // From here on no release is missed.
            let released = pin!(self.released.notified());
            if let Some(permit) = self.holders().admit(newcomer) {
                return permit;
            }
            released.await;
        }
    }

    pub(super) fn release(&self, Permit(id): Permit) {
        let mut holders = self.holders();
        match holders.connections.remove(&id) {
            Some(activity) if activity.is_evicted() => holders.leaving -= 1,
            Some(activity) => holders.counts.remove(activity.client),
            None => {}
        }
        drop(holders);
        self.released.notify_waiters();
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holders {
    fn admit(&mut self, newcomer: &Arc<Activity>) -> Option<Permit> {
        if self.leaving > self.counts.limit / SLACK {
            return None;
        }
        let capacity = self.counts.capacity(newcomer.client);
        if capacity != Capacity::Free {
            self.evict_idlest(newcomer.client, &capacity)?;
        }
        self.last += 1;
        self.counts.add(newcomer.client);
        self.connections.insert(self.last, Arc::clone(newcomer));
        Some(Permit(self.last))
    }

    /// Tells the connection that has been idle for longest to end.
    fn evict_idlest(&mut self, client: Client, capacity: &Capacity) -> Option<()> {
        let own = *capacity == Capacity::ShareFull;
        let longest = self
            .connections
            .values()
            .filter(|one| !one.is_evicted() && (!own || one.client == client))
            .min_by_key(|one| one.rank())?;
        longest.is_evicted.store(true, Ordering::Relaxed);
        longest.stop.cancel();
        self.counts.remove(longest.client);
        self.leaving += 1;
        Some(())
    }
}

/// Bound on the requests whose bodies are awaited, over all connections.
pub(super) struct Bodies(Arc<Mutex<Counts>>);

pub(super) struct BodyPermit {
    counts: Arc<Mutex<Counts>>,
    client: Client,
}

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Counts::new(MAX_BODIES))))
    }
}

impl Bodies {
    pub(super) fn admit(&self, activity: &Activity) -> Option<BodyPermit> {
        let client = activity.client;
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.capacity(client) == Capacity::Free).then(|| {
            counts.add(client);
            BodyPermit {
                counts: Arc::clone(&self.0),
                client,
            }
        })
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(self.client);
    }
}

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
    client: Client,
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
    pub(super) fn new(client: Client, stop: CancellationToken) -> Self {
        Self {
            client,
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
        let (from, time) = match (header, self.has_begun()) {
            (0, true) => (self.since.load(Ordering::Relaxed), IDLE),
            (0, false) => (self.since.load(Ordering::Relaxed), HEADER_TIMEOUT),
            (header, _) => (header, HEADER_TIMEOUT),
        };
        *EPOCH + Duration::from_millis(from) + time
    }

    /// The least is evicted first: no request under way, then idle for longest.
    fn rank(&self) -> (bool, u64) {
        let is_busy = self.requests.load(Ordering::Relaxed) > 0;
        (is_busy, self.since.load(Ordering::Relaxed))
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::http::client::ClientAddr;

    fn from(n: u8) -> Arc<Activity> {
        let client = ClientAddr(IpAddr::from(Ipv4Addr::new(127, 0, 0, n))).key();
        Arc::new(Activity::new(Some(client), CancellationToken::new()))
    }

    fn idle_since(one: &Activity, since: u64) {
        one.since.store(since, Ordering::Relaxed);
    }

    #[tokio::test]
    async fn the_connection_that_was_idle_for_longest_is_evicted() {
        let permits = Permits::new(4);
        let held = [from(1), from(1), from(2), from(3)];
        let mut numbers = Vec::new();
        for (one, since) in held.iter().zip([9, 5, 3, 4]) {
            numbers.push(permits.admit(one).await);
            idle_since(one, since);
        }
        // The longest of all is at work.
        let _work = held[2].begin(false, false);
        idle_since(&held[2], 3);
        let evicted = || held.each_ref().map(|one| one.is_evicted());
        // A share is two of four: an own one is evicted, though another is idle for longer.
        let newcomer = from(1);
        permits.admit(&newcomer).await;
        assert_eq!(evicted(), [false, true, false, false]);
        // Until it is closed nobody else is let in.
        let newcomer = from(4);
        let mut admitted = pin!(permits.admit(&newcomer));
        tokio::select! {
            biased;
            _ = &mut admitted => panic!("the bound is exceeded"),
            () = tokio::task::yield_now() => {}
        }
        permits.release(numbers.swap_remove(1));
        admitted.await;
        assert_eq!(evicted(), [false, true, false, true]);
    }

    #[test]
    fn one_client_holds_half_of_the_bodies_at_most() {
        let bodies = Bodies::default();
        let hold =
            |client: &Activity| -> Vec<_> { std::iter::from_fn(|| bodies.admit(client)).collect() };
        let (one, other, third) = (from(1), from(2), from(3));
        let first = hold(&one);
        assert_eq!(first.len(), MAX_BODIES / 2);
        assert_eq!(hold(&other).len(), MAX_BODIES / 2);
        let second = hold(&other);
        assert!(hold(&third).is_empty());
        drop((first, second));
        assert_eq!(hold(&third).len(), MAX_BODIES / 2);
        assert!(bodies.0.lock().unwrap().by_client.is_empty());
    }
}
