//! Permits: bounds on connections, and on the requests whose bodies are awaited. When
//! none is free, one of the client that holds most is taken away for a newcomer, so that
//! one address cannot shut others out; among many clients that hold few, any one. When
//! more than half of the connections have had no request yet, one of those.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client_key::ClientKey;

/// Evicted holders may be one in so many permits beyond the bound until they are gone:
/// a newcomer need not wait for them.
pub(super) const LEAVING: usize = 32;
/// A client may hold one in so many permits before it gives way to those that hold fewer.
const FAIR_SHARE: usize = 32;

/// Age from which a connection without a request is evicted before idle ones.
const SILENT: Duration = Duration::from_millis(100);

/// A connection or a request that holds a permit.
pub(super) trait Holder {
    fn usage(&self) -> Usage;
    fn evict(self);
}

/// Use of what a permit is for, in the order of eviction; of equals the one whose time is
/// the earliest, then the oldest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Usage {
    /// No request has begun since this time.
    Unused(Instant),
    Idle(Instant),
    Busy(Instant),
}

impl Usage {
    fn is_unused(self) -> bool {
        matches!(self, Self::Unused(_))
    }

    /// Who is unused for a moment only may have a request on its way.
    fn or_idle_while_young(self, now: Instant) -> Self {
        match self {
            Self::Unused(since) if now < since + SILENT => Self::Idle(since),
            usage => usage,
        }
    }
}

pub(super) struct Permits<T>(Arc<PermitState<T>>);

struct PermitState<T> {
    holders: Mutex<Holders<T>>,
    released: Notify,
}

struct Holders<T> {
    limit: usize,
    /// Without those that are evicted, as the next two.
    count: usize,
    /// None is a trusted proxy, whose connections may carry any number of clients.
    by_client: HashMap<Option<ClientKey>, BTreeMap<u64, T>>,
    last: u64,
    /// Evicted holders that are not gone yet.
    leaving: usize,
}

/// Released when it is dropped.
pub(super) struct Permit<T> {
    shared: Arc<PermitState<T>>,
    client: Option<ClientKey>,
    id: u64,
}

impl<T: Holder> Permits<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(PermitState {
            holders: Mutex::new(Holders {
                limit,
                count: 0,
                by_client: HashMap::new(),
                last: 0,
                leaving: 0,
            }),
            released: Notify::new(),
        }))
    }

    /// Waits while many evicted holders are still there, so that they are bounded too.
    pub(super) async fn acquire(&self, client: Option<ClientKey>, newcomer: T) -> Permit<T> {
        loop {
            // From here on no release is missed.
            let released = pin!(self.0.released.notified());
            {
                let mut holders = self.0.holders.lock();
                if holders.leaving <= holders.limit / LEAVING {
                    let id = holders.insert(client, newcomer);
                    let shared = Arc::clone(&self.0);
                    return Permit { shared, client, id };
                }
            }
            released.await;
        }
    }
}

impl<T: Holder> Holders<T> {
    fn insert(&mut self, client: Option<ClientKey>, newcomer: T) -> u64 {
        if self.count >= self.limit
            && let Some((client, id)) = self.first_to_go()
            && let Some(evicted) = self.remove(client, id)
        {
            self.leaving += 1;
            evicted.evict();
        }
        self.count += 1;
        self.last += 1;
        let held = self.by_client.entry(client).or_default();
        held.insert(self.last, newcomer);
        self.last
    }

    /// The first in the order of [`Usage`] of the client that holds most, or of all when no
    /// client holds more than its fair share. Connections of proxies count as of a client
    /// each. When more than half are unused only these are looked at, however young they
    /// are: a crowd that connects and sends nothing cannot take the other half.
    fn first_to_go(&self) -> Option<(Option<ClientKey>, u64)> {
        let holders = self.by_client.values().flat_map(BTreeMap::values);
        let unused = holders.filter(|it| it.usage().is_unused()).count();
        let is_crowd = unused > self.limit / 2;
        // Requests begin meanwhile: the crowd may be gone.
        let of_crowd = is_crowd.then(|| self.first_of(Usage::is_unused)).flatten();
        of_crowd.or_else(|| self.first_of(|_| true))
    }

    fn first_of(&self, is_looked_at: fn(Usage) -> bool) -> Option<(Option<ClientKey>, u64)> {
        let fair_share = self.limit / FAIR_SHARE;
        let now = Instant::now();
        let candidates = self.by_client.iter().filter_map(|(&client, held)| {
            let usages = held.iter().map(|(&id, holder)| (holder.usage(), id));
            let looked_at = usages.filter(|(usage, _)| is_looked_at(*usage));
            let share = client.map_or(1, |_| looked_at.clone().count());
            let (usage, id) = looked_at
                .map(|(usage, id)| (usage.or_idle_while_young(now), id))
                .min()?;
            let share = share.max(fair_share);
            Some((Reverse(share), usage, id, client))
        });
        let (_, _, id, client) =
            candidates.min_by_key(|&(share, usage, id, _)| (share, usage, id))?;
        Some((client, id))
    }
}

impl<T> Holders<T> {
    /// None when it has been evicted.
    fn remove(&mut self, client: Option<ClientKey>, id: u64) -> Option<T> {
        let held = self.by_client.get_mut(&client)?;
        let holder = held.remove(&id)?;
        if held.is_empty() {
            self.by_client.remove(&client);
        }
        self.count -= 1;
        Some(holder)
    }
}

impl<T> Drop for Permit<T> {
    fn drop(&mut self) {
        let mut holders = self.shared.holders.lock();
        let holder = holders.remove(self.client, self.id);
        if holder.is_none() {
            holders.leaving -= 1;
        }
        drop(holders);
        self.shared.released.notify_waiters();
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/permits.rs"]
mod tests;
