//! The promises under random schedules.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tokio::runtime;

use crate::schedule::{Schedule, any_schedule};
use crate::world::play;

/// Cases of one test. There are two, so that they run at the same time.
const CASES: u32 = 1000;

#[test]
fn promises_hold_under_short_schedules() {
    run(any_schedule(10, 22));
}

#[test]
fn promises_hold_under_long_schedules() {
    run(any_schedule(16, 40));
}

/// The same schedules in each run, unless `PROPTEST_RNG_SEED` has a number for others.
fn run(schedules: impl Strategy<Value = Schedule>) {
    let default = Config::default();
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        rng_seed: match default.rng_seed {
            RngSeed::Random => RngSeed::Fixed(7517),
            given => given,
        },
        ..default
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
