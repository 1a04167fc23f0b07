//! The promises under random schedules.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tokio::runtime;

use crate::key_source::SEED;
use crate::long::times;
use crate::schedule::{Schedule, any_schedule};
use crate::simulation::play;

/// Cases of one test, few and many. There are two tests, so that they run at the
/// same time; each run draws other cases.
const CASES: (usize, usize) = (24, 4000);

#[test]
fn promises_hold_under_short_schedules() {
    run(any_schedule(10, 22));
}

#[test]
fn promises_hold_under_long_schedules() {
    run(any_schedule(16, 40));
}

fn run(schedules: impl Strategy<Value = Schedule>) {
    let config = Config {
        cases: u32::try_from(times(CASES.0, CASES.1)).unwrap(),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(*SEED),
        ..Config::default()
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let played = TestRunner::new(config).run(&schedules, |schedule| {
        runtime
            .block_on(play(&schedule))
            .map_err(TestCaseError::fail)
    });
    if let Err(e) = played {
        panic!("{e}");
    }
}
