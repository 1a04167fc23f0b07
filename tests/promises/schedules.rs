//! The promises under random schedules.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tokio::runtime::{self, Runtime};

use crate::engine::Engine;
use crate::key_source::SEED;
use crate::long::times;
use crate::postgres::Postgres;
use crate::schedule::{Schedule, any_schedule, any_schedule_of_replicas};
use crate::simulation::play_on;

/// Cases of one test, few and many. There are two tests, so that they run at the
/// same time; each run draws other cases.
const CASES: (usize, usize) = (24, 4000);
/// The same of three replicas on PostgreSQL.
const CASES_OF_REPLICAS: (usize, usize) = (6, 1000);

#[test]
fn promises_hold_under_short_schedules() {
    run(CASES, any_schedule(10, 22), Engine::sqlite);
}

#[test]
fn promises_hold_under_long_schedules() {
    run(CASES, any_schedule(16, 40), Engine::sqlite);
}

#[test]
fn promises_hold_over_three_replicas_under_short_schedules() {
    run_replicas(any_schedule_of_replicas(10, 22));
}

#[test]
fn promises_hold_over_three_replicas_under_long_schedules() {
    run_replicas(any_schedule_of_replicas(16, 40));
}

fn run_replicas(schedules: impl Strategy<Value = Schedule>) {
    if let Some(postgres) = runtime().block_on(Postgres::create()) {
        let engine = || Engine::postgres(&postgres);
        run(CASES_OF_REPLICAS, schedules, engine);
    }
}

fn run(
    cases: (usize, usize),
    schedules: impl Strategy<Value = Schedule>,
    engine: impl Fn() -> Engine,
) {
    let config = Config {
        cases: u32::try_from(times(cases.0, cases.1)).unwrap(),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(*SEED),
        ..Config::default()
    };
    let runtime = runtime();
    let played = TestRunner::new(config).run(&schedules, |schedule| {
        let played = runtime.block_on(play_on(engine(), &schedule));
        played.map_err(TestCaseError::fail)
    });
    if let Err(e) = played {
        panic!("{e}");
    }
}

fn runtime() -> Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}
