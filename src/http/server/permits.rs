//! Permits: bounds on connections, and on the requests whose bodies are awaited. When
//! none is free, one of the client that holds most is taken away for a newcomer, so that
//! one address cannot shut others out; among many clients that hold few, any one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::client::ClientKey;

/// Evicted holders may be one in so many permits beyond the bound until they are gone:
/// a newcomer need not wait for them.
pub(super) const SLACK: usize = 32;

/// A connection or a request that holds a permit.
pub(super) trait Holder {
    /// The least is evicted first; of equals the oldest.
    fn rank(&self) -> (u8, u64);
    fn evict(self);
}

/// A body, whose receiver learns that it is evicted.
impl Holder for oneshot::Sender<()> {
    fn rank(&self) -> (u8, u64) {
        (0, 0)
    }

    fn evict(self) {}
}

pub(super) struct Permits<T>(Arc<Shared<T>>);

struct Shared<T> {
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
    shared: Arc<Shared<T>>,
    client: Option<ClientKey>,
    id: u64,
}

impl<T: Holder> Permits<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
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
    fn first_to_go(&self) -> Option<(Option<ClientKey>, u64)> {
        let many = self.limit / SLACK;
        let least = self.by_client.iter().filter_map(|(client, held)| {
            let weight = client.map_or(1, |_| held.len()).max(many);
            let ranks = held.iter().map(|(id, holder)| (holder.rank(), *id));
            Some((Reverse(weight), ranks.min()?, *client))
        });
        let (_, (_, id), client) = least.min_by_key(|&(weight, rank, _)| (weight, rank))?;
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
mod tests {
    use super::*;

    impl Holder for u64 {
        fn rank(&self) -> (u8, u64) {
            (0, *self)
        }

        fn evict(self) {}
    }

    /// Their ranks.
    fn held(permits: &Permits<u64>) -> Vec<u64> {
        let holders = permits.0.holders.lock();
        let mut held: Vec<u64> = holders
            .by_client
            .values()
            .flat_map(BTreeMap::values)
            .copied()
            .collect();
        held.sort_unstable();
        held
    }

    #[tokio::test]
    async fn the_longest_idle_of_the_client_that_holds_most_gives_way() {
        let client = |n: u8| Some(ClientKey::of([127, 0, 0, n].into()));
        let permits = Permits::new(6);
        let clients = [None, None, client(1), client(2), client(2), client(3)];
        let mut all = Vec::new();
        for (client, rank) in clients.into_iter().zip([10, 11, 12, 21, 20, 13]) {
            all.push(permits.acquire(client, rank).await);
        }
        all.push(permits.acquire(client(4), 14).await);
        assert_eq!(held(&permits), [10, 11, 12, 13, 14, 21]);
        // Until that one is gone nobody else is let in.
        let mut acquired = pin!(permits.acquire(client(5), 15));
        tokio::select! {
            biased;
            _ = &mut acquired => panic!("the bound is exceeded"),
            () = tokio::task::yield_now() => {}
        }
        drop(all.remove(4));
        // Nobody holds more than one, as a proxy's do not count together.
        all.push(acquired.await);
        assert_eq!(held(&permits), [11, 12, 13, 14, 15, 21]);
        drop(all);
        assert!(held(&permits).is_empty());
        assert_eq!(permits.0.holders.lock().leaving, 0);
    }
}
