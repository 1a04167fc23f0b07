//! What ends the wait between two ticks, long before the next one.

use tokio::time::timeout;

use super::*;
use crate::clock::SystemClock;

const HOUR: Duration = Duration::from_secs(3600);

/// Does the wait end within `limit`, when it began at `last` and the next tick is at `next`?
/// `missed`: changes that were not loaded.
async fn ends(limit: Duration, last: UnixTime, next: UnixTime, missed: i64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("keys.db")).unwrap();
    let watch = ChangeWatch {
        seen_change: store.blocking_change_counter().unwrap() - missed,
        store,
        clock: Arc::new(SystemClock::new()),
        heartbeat: Arc::default(),
    };
    timeout(limit, watch.until_changed(last, next))
        .await
        .is_ok()
}

#[tokio::test]
async fn a_clock_that_jumped_past_the_next_tick_or_back_and_a_change_end_the_wait() {
    let now = SystemClock::new().now();
    // As long as the machine may stand still; each takes one look.
    let patience = Duration::from_secs(20);
    assert!(ends(patience, now, now, 0).await);
    assert!(ends(patience, now + HOUR, now + 2 * HOUR, 0).await);
    assert!(ends(patience, now, now + HOUR, 1).await);
    assert!(!ends(3 * CHECK_EVERY, now, now + HOUR, 0).await);
}
