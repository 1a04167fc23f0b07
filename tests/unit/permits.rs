//! Who gives a permit up.

use super::*;

/// Even ones are unused.
impl Holder for u64 {
    fn usage(&self) -> Usage {
        match self.is_multiple_of(2) {
            true => Usage::Unused(*self),
            false => Usage::Idle(*self),
        }
    }

    fn evict(self) {}
}

/// Their times.
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

#[tokio::test]
async fn of_a_crowd_of_unused_ones_one_gives_way() {
    for (held_before, held_after) in [
        ([1, 20, 22, 24], [1, 22, 24, 26]),
        // Half of the permits are no crowd.
        ([1, 3, 20, 22], [3, 20, 22, 26]),
    ] {
        let permits = Permits::new(4);
        let mut all = Vec::new();
        for (n, rank) in (1..).zip(held_before.into_iter().chain([26])) {
            let client = Some(ClientKey::of([127, 0, 0, n].into()));
            all.push(permits.acquire(client, rank).await);
        }
        assert_eq!(held(&permits), held_after);
    }
}
