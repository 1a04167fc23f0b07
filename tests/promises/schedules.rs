//! The promises under random schedules.

use crate::engine::Engine;
use crate::observer::Checked;
use crate::runner::{Cases, on_postgres, on_sqlite};
use crate::schedule::{Schedule, any_schedule, any_schedule_of_replicas};
use crate::simulation::play_on;

/// Cases of one test. There are two tests for an engine, so that they run at the same
/// time; each run draws other cases.
const CASES: Cases = (24, 4000);
const CASES_OF_REPLICAS: Cases = (6, 1000);

#[test]
fn promises_hold_under_short_schedules() {
    on_sqlite(CASES, any_schedule(10, 22), play);
}

#[test]
fn promises_hold_under_long_schedules() {
    on_sqlite(CASES, any_schedule(16, 40), play);
}

#[test]
fn promises_hold_over_three_replicas_under_short_schedules() {
    on_postgres(CASES_OF_REPLICAS, any_schedule_of_replicas(10, 22), play);
}

#[test]
fn promises_hold_over_three_replicas_under_long_schedules() {
    on_postgres(CASES_OF_REPLICAS, any_schedule_of_replicas(16, 40), play);
}

async fn play(engine: Engine, schedule: Schedule) -> Checked {
    play_on(engine, &schedule).await
}
