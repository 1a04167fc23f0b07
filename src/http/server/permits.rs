//! Permits: bounds on connections, and on the requests whose bodies are awaited. When
//! none is free, one of the client that holds most is taken away for a newcomer, so that
//! one address cannot shut others out; among many clients that hold few, any one. A crowd
//! of connections without a request takes them from itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::activity::millis;
use crate::client_key::ClientKey;

/// Evicted holders may be one in so many permits beyond the bound until they are gone:
/// a newcomer need not wait for them.
pub(super) const SLACK: usize = 32;

/// Age in milliseconds from which a connection without a request is evicted before idle ones.
const SILENT: u64 = 100;

/// A connection or a request that holds a permit.
pub(super) trait Holder {
    fn usage(&self) -> Usage;
    fn evict(self);
}

/// Use of what a permit is for, in the order of eviction; of equals the one whose time
/// (milliseconds since any moment that is the same for all) is the earliest, then the oldest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Usage {
    /// No request has begun since this time.
    Unused(u64),
    Idle(u64),
    Busy(u64),
}

/// A body, whose receiver learns that it is evicted.
impl Holder for oneshot::Sender<()> {
    fn usage(&self) -> Usage {
        Usage::Busy(0)
    }

    fn evict(self) {}
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
                if holders.leaving <= holders.limit / SLACK {
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
        if self.count == self.limit
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

    /// The least holder of the client that holds most, or of all when no client holds
    /// more than one in [`SLACK`]. Connections of proxies count as of a client each.
    /// When more than half are unused these come first, however young: a crowd that
    /// connects and sends nothing cannot take the other half.
    fn first_to_go(&self) -> Option<(Option<ClientKey>, u64)> {
        let many = self.limit / SLACK;
        let holders = self.by_client.values().flat_map(BTreeMap::values);
        let unused = holders.filter(|it| matches!(it.usage(), Usage::Unused(_)));
        let silent = match unused.count() > self.limit / 2 {
            true => 0,
            false => SILENT,
        };
        let now = millis();
        let least = self.by_client.iter().filter_map(|(client, held)| {
            let weight = client.map_or(1, |_| held.len()).max(many);
            let usages = held.iter().map(|(id, holder)| match holder.usage() {
                Usage::Unused(since) if now.saturating_sub(since) < silent => {
                    (Usage::Idle(since), *id)
                }
                usage => (usage, *id),
            });
            Some((Reverse(weight), usages.min()?, *client))
        });
        let (_, (_, id), client) = least.min_by_key(|&(weight, usage, _)| (weight, usage))?;
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
