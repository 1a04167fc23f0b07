//! Schedules that once broke a promise, as small as they get.

use std::sync::Arc;
use std::time::Duration;

use jwks_server::clock::Clock as _;

use crate::key_source::GenerationFault;
use crate::manual_clock::ManualClock;
use crate::process::Process;
use crate::schedule::{Edge, LegacyRow, RowFault, Schedule, Step, policy};
use crate::simulation::{START, play, temp_dir};

/// Plays `steps` with one process under the default policy, over keys of the
/// earlier server that end after `ends` seconds.
async fn assert_kept(ends: &[i64], steps: Vec<Step>) {
    let schedule = Schedule {
        rows: ends.iter().map(|&ends_in| LegacyRow { ends_in }).collect(),
        processes: vec![0],
        steps,
    };
    if let Err(e) = play(&schedule).await {
        panic!("{e}\n{schedule:?}");
    }
}

/// A process that has seen a row damaged must count on it again when it is
/// repaired: the next key is announced while the repaired one signs.
#[tokio::test]
async fn a_key_that_was_repaired_signs_until_its_successor_was_announced() {
    assert_kept(
        &[3600],
        vec![
            Step::Tick(0),
            Step::RowFault(RowFault::Garbage, 0),
            Step::Tick(0),
            Step::Repair,
            // The key that was made meanwhile; the first row signs alone again.
            Step::RowFault(RowFault::Delete, 2),
            Step::Tick(0),
            Step::PassUntil(Edge::NextDue, 0, 0),
            Step::Tick(0),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_row_whose_end_has_a_fraction_does_not_stop_the_rotation() {
    assert_kept(
        &[3600],
        vec![Step::RowFault(RowFault::HalfSecond, 0), Step::Tick(0)],
    )
    .await;
}

#[tokio::test]
async fn a_row_with_a_number_for_a_key_does_not_stop_the_rotation() {
    assert_kept(
        &[3600],
        vec![Step::RowFault(RowFault::NumberAsKey, 0), Step::Tick(0)],
    )
    .await;
}

/// As after an outage longer than the keys, with another `NOT_MY_KEY`.
#[tokio::test]
async fn a_tick_gets_past_any_number_of_expired_rows_that_do_not_open() {
    let rows = 40;
    let mut steps: Vec<_> = (0..rows)
        .map(|row| Step::RowFault(RowFault::Garbage, row))
        .collect();
    steps.push(Step::Tick(0));
    assert_kept(&vec![-600; rows], steps).await;
}

/// A damaged row makes a process load more expired keys than the last. Those
/// that it then deletes, it must not give out again after a step of the clock.
#[tokio::test]
async fn a_key_that_a_tick_deleted_does_not_come_back_with_the_clock() {
    let schedule = Schedule {
        rows: vec![LegacyRow { ends_in: 3600 }],
        // The first without retention.
        processes: vec![1],
        steps: vec![
            Step::PassUntil(Edge::NextDue, 0, 0),
            Step::Tick(0),
            Step::PassUntil(Edge::Expiry, 1, -1),
            Step::RowFault(RowFault::Garbage, 1),
            Step::Tick(0),
            Step::Jump(-7200),
        ],
    };
    if let Err(e) = play(&schedule).await {
        panic!("{e}\n{schedule:?}");
    }
}

/// Other programs look for a row that is over. When the clock is set back after
/// a revocation, the end of the revoked key is not over, yet it counts as the
/// last that has expired, and without retention no other is kept.
#[tokio::test]
async fn a_row_is_over_when_the_clock_goes_back_after_a_revocation() {
    let dir = temp_dir();
    let path = dir.path().join("keys.db");
    let clock = Arc::new(ManualClock::new(START));
    let (stock, policy) = (Arc::default(), policy(1));
    let mut process = Process::start(&path, 0, policy, vec![0], &clock, &stock);
    process.tick().await.unwrap();
    let replaced = process.operations().emergency_rotate("leaked".into()).await;
    replaced.unwrap();
    process.tick().await.unwrap();
    clock.step_to(START - Duration::from_secs(1));
    process.tick().await.unwrap();
    let now = clock.now().as_secs();
    let sql = rusqlite::Connection::open(&path).unwrap();
    let count = "SELECT count(*) FROM keys WHERE exp <= ?";
    let over: i64 = sql.query_row(count, [now], |row| row.get(0)).unwrap();
    assert!(over > 0, "no row is over");
}

/// While a tick made a key slowly, a row that it had moved back was over.
#[tokio::test]
async fn a_key_that_was_dated_ahead_may_be_deleted_in_the_tick_that_moves_it_back() {
    let schedule = Schedule {
        rows: vec![],
        processes: vec![2, 2, 2],
        steps: vec![
            Step::TickTogether,
            Step::Pass(186),
            Step::Tick(1),
            Step::Jump(-73332),
            Step::TickTogether,
            Step::PassUntil(Edge::Deletion, 0, -2),
            Step::Restart(2, None),
            Step::TickWith(GenerationFault::Slow(7818), 0),
        ],
    };
    if let Err(e) = play(&schedule).await {
        panic!("{e}\n{schedule:?}");
    }
}
