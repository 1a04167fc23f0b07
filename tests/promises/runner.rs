//! Runs a play on random cases, on a file or on PostgreSQL.

use std::fmt::Debug;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tokio::runtime::{self, Runtime};

use crate::engine::Engine;
use crate::key_source::SEED;
use crate::long::times;
use crate::observer::Checked;
use crate::postgres::Postgres;

/// Number of cases: few in each run, many with `LONG=1`.
pub type Cases = (usize, usize);

pub fn on_sqlite<T: Debug>(
    cases: Cases,
    drawn: impl Strategy<Value = T>,
    play: impl AsyncFn(Engine, T) -> Checked,
) {
    run(cases, &drawn, &runtime(), async |case| {
        play(Engine::sqlite(), case).await
    });
}

/// Left out where PostgreSQL is not installed.
pub fn on_postgres<T: Debug>(
    cases: Cases,
    drawn: impl Strategy<Value = T>,
    play: impl AsyncFn(Engine, T) -> Checked,
) {
    let runtime = runtime();
    let Some(postgres) = runtime.block_on(Postgres::create()) else {
        return;
    };
    run(cases, &drawn, &runtime, async |case| {
        postgres.clear();
        play(Engine::Postgres(Arc::clone(&postgres)), case).await
    });
}

fn run<T: Debug>(
    cases: Cases,
    drawn: &impl Strategy<Value = T>,
    runtime: &Runtime,
    play: impl AsyncFn(T) -> Checked,
) {
    let config = Config {
        cases: u32::try_from(times(cases.0, cases.1)).unwrap(),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(*SEED),
        ..Config::default()
    };
    let played = TestRunner::new(config).run(drawn, |case| {
        let kept = runtime.block_on(play(case));
        kept.map_err(TestCaseError::fail)
    });
    if let Err(e) = played {
        panic!("{e}");
    }
}

fn runtime() -> Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}
