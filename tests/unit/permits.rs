//! Who gives a permit up.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::server::activity::Activity;

/// Its number orders it, in milliseconds after the start; even ones are unused, and those
/// from 1,000 on busy.
struct Connection(Instant, u64);

impl Holder for Connection {
    fn usage(&self) -> Usage {
        let since = self.0 + Duration::from_millis(self.1);
        match self.1 {
            1000.. => Usage::Busy(since),
            number if number.is_multiple_of(2) => Usage::Unused(since),
            _ => Usage::Idle(since),
        }
    }

    fn evict(self) {}
}

fn held(permits: &Permits<Connection>) -> Vec<u64> {
    let holders = permits.0.holders.lock();
    let held = holders.by_client.values().flat_map(BTreeMap::values);
    let mut numbers: Vec<u64> = held.map(|connection| connection.1).collect();
    numbers.sort_unstable();
    numbers
}

fn client(n: u8) -> Option<ClientKey> {
    Some(ClientKey::of([127, 0, 0, n].into()))
}

/// Takes a permit for each of the connections in turn, as no more are let in while evicted
/// ones are still there.
async fn acquire(start: Instant, limit: usize, connections: &[(u8, u64)]) -> Vec<u64> {
    let permits = Permits::new(limit);
    let mut all = Vec::new();
    for &(n, number) in connections {
        all.push(permits.acquire(client(n), Connection(start, number)).await);
    }
    held(&permits)
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_of_the_client_that_holds_most_gives_way() {
    let start = Instant::now();
    let permits = Permits::new(6);
    let clients = [None, None, client(1), client(2), client(2), client(3)];
    let mut all = Vec::new();
    for (client, number) in clients.into_iter().zip([11, 13, 15, 31, 29, 17]) {
        all.push(permits.acquire(client, Connection(start, number)).await);
    }
    all.push(permits.acquire(client(4), Connection(start, 19)).await);
    assert_eq!(held(&permits), [11, 13, 15, 17, 19, 31]);
    // Until that one is gone nobody else is let in.
    let mut acquired = pin!(permits.acquire(client(5), Connection(start, 21)));
    tokio::select! {
        biased;
        _ = &mut acquired => panic!("the bound is exceeded"),
        () = tokio::task::yield_now() => {}
    }
    drop(all.remove(4));
    // Nobody holds more than one, as a proxy's do not count together.
    all.push(acquired.await);
    assert_eq!(held(&permits), [13, 15, 17, 19, 21, 31]);
    drop(all);
    assert!(held(&permits).is_empty());
    assert_eq!(permits.0.holders.lock().leaving, 0);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_unused_ones_gives_way_itself() {
    let start = Instant::now();
    // Half of the permits are no crowd.
    let half = [(1, 1), (2, 3), (3, 20), (4, 22), (5, 24)];
    assert_eq!(acquire(start, 4, &half).await, [3, 20, 22, 24]);
    let crowd = [(1, 1), (2, 20), (3, 22), (4, 24), (5, 26)];
    assert_eq!(acquire(start, 4, &crowd).await, [1, 22, 24, 26]);
    // Whoever uses many is spared too; of the crowd the client with most gives way.
    let many = [(1, 1), (1, 3), (1, 5), (1, 30)];
    let beside = [(2, 20), (3, 24), (3, 22), (4, 26), (5, 28)];
    let all = [many.as_slice(), &beside].concat();
    assert_eq!(acquire(start, 8, &all).await, [1, 3, 5, 20, 24, 26, 28, 30]);
}

#[tokio::test(start_paused = true)]
async fn nobody_gives_way_for_a_fair_share() {
    let limit = 2 * FAIR_SHARE;
    let numbers = (1..).step_by(2).take(limit - 2);
    let mut all: Vec<_> = (2..).zip(numbers).collect();
    all.extend([(1, 201), (1, 203), (1, 205)]);
    let left = acquire(Instant::now(), limit, &all).await;
    assert_eq!((left.len(), left[0]), (limit, 3));
    all.push((1, 207));
    let left = acquire(Instant::now(), limit, &all).await;
    assert!(left.contains(&3) && !left.contains(&201), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn of_few_unused_ones_a_silent_one_gives_way_first() {
    let start = Instant::now();
    tokio::time::advance(SILENT + Duration::from_millis(20)).await;
    let silent = [(1, 1), (2, 3), (3, 5), (4, 20), (5, 22)];
    assert_eq!(acquire(start, 4, &silent).await, [1, 3, 5, 22]);
    let young = [(1, 1), (2, 3), (3, 5), (4, 22), (5, 24)];
    assert_eq!(acquire(start, 4, &young).await, [3, 5, 22, 24]);
}

#[tokio::test(start_paused = true)]
async fn busy_ones_give_way_last() {
    let start = Instant::now();
    let busy = [(1, 1001), (2, 1003), (3, 205), (4, 1007)];
    assert_eq!(acquire(start, 3, &busy).await, [1001, 1003, 1007]);
    // Nobody else is there.
    let all_busy = [(1, 1003), (2, 1001), (3, 1005), (4, 1007)];
    assert_eq!(acquire(start, 3, &all_busy).await, [1003, 1005, 1007]);
}

#[tokio::test(start_paused = true)]
async fn of_connections_of_a_proxy_in_a_crowd_one_is_as_good_as_another() {
    let start = Instant::now();
    let permits = Permits::new(4);
    let mut all = Vec::new();
    for (client, number) in [
        (None, 1),
        (None, 24),
        (None, 22),
        (client(1), 20),
        (client(2), 26),
    ] {
        all.push(permits.acquire(client, Connection(start, number)).await);
    }
    assert_eq!(held(&permits), [1, 22, 24, 26]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_unused_then_busy_then_idle() {
    let activity = Arc::new(Activity::new(CancellationToken::new()));
    assert!(matches!(activity.usage(), Usage::Unused(_)));
    let first = activity.begin(true, false);
    let second = activity.begin(true, false);
    drop(first);
    assert!(matches!(activity.usage(), Usage::Busy(_)));
    drop(second);
    assert!(matches!(activity.usage(), Usage::Idle(_)));
}
