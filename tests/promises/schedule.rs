//! Schedules: the steps that may happen to one database and the processes on it, and
//! how proptest draws them.

use std::fmt;
use std::time::Duration;

use jwks_server::lifecycle::PolicyParts;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::key_source::GenerationFault;
use crate::postgres::REPLICAS;

/// A line for each step, less those that proptest has made empty.
impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n  rows of the earlier server: {:?}", self.rows)?;
        writeln!(f, "  policies of the processes: {:?}", self.processes)?;
        for (n, step) in self.steps.iter().enumerate() {
            if !matches!(step, Step::Pass(0)) {
                writeln!(f, "  step {n}: {step:?}")?;
            }
        }
        Ok(())
    }
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A case.
#[derive(Clone)]
pub struct Schedule {
    pub rows: Vec<LegacyRow>,
    /// Policies of the one to three processes, as numbers for [`policy`].
    pub processes: Vec<usize>,
    pub steps: Vec<Step>,
}

/// A key of the earlier server that is there at the start.
#[derive(Clone, Copy, Debug)]
pub struct LegacyRow {
    /// Its end, in seconds from the start.
    pub ends_in: i64,
}

/// Index of a process, modulo their number.
pub type Who = usize;
/// Index of a row, in order of making, modulo their number.
pub type RowNumber = usize;

#[derive(Clone, Debug)]
pub enum Step {
    /// Seconds go by.
    Pass(i64),
    /// Seconds go by until an edge in the life of a row and some more.
    PassUntil(Edge, RowNumber, i64),
    /// Somebody sets the clock.
    Jump(i64),
    Tick(Who),
    /// All processes tick at once.
    TickTogether,
    /// A tick, with something in the way if it makes a key.
    TickWith(GenerationFault, Who),
    /// A process is killed while it waits for the n-th time in a tick, and started again.
    Kill(Who, usize),
    /// A process is stopped and started again, maybe with another policy.
    Restart(Who, Option<usize>),
    RowFault(RowFault, RowNumber),
    /// Damaged rows come back from a copy.
    Repair,
    /// The database is removed while nothing runs.
    NewDatabase,
    /// An operator does something, and maybe the processes hear of it at once.
    Operate(Operation, By, bool),
    /// A replica loses its connections while it waits for the n-th time in a tick, and
    /// can make none.
    CutOff(Who, usize),
    /// It can connect again.
    Reconnect(Who),
    /// Operators ask each replica for a new key at once.
    RotateTogether,
    /// An operator has all keys replaced on one replica while all tick.
    EmergencyMeanwhile(Who),
}

/// An operation of the command `keys`.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Rotate,
    Emergency,
    Revoke(RowNumber),
    /// By another: under a new entry of `NOT_MY_KEY`, which no process has yet.
    Reencrypt,
}

/// The process that carries out an operation.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// From within a process.
    Process(Who),
    /// From a process of its own, which maybe is killed while it waits for the n-th time.
    Another(Option<usize>),
}

/// A moment in the life of a key, under the policy of the first process.
#[derive(Clone, Copy, Debug)]
pub enum Edge {
    SignsFrom,
    NextDue,
    EndOfSigning,
    Expiry,
    Deletion,
}

/// Damage to a row by another program.
#[derive(Clone, Copy, Debug)]
pub enum RowFault {
    /// Overwrites the sealed key.
    Garbage,
    /// Puts the key of another row there.
    KeyOf(RowNumber),
    Delete,
    /// Writes a number where the sealed key should be.
    NumberAsKey,
    /// Makes `exp` a number with a fraction.
    HalfSecond,
    /// Sets `exp` to some seconds from now.
    EndIn(i64),
    /// Takes its row of `key_times` away, so that it looks like an earlier server's.
    LoseTimes,
}

/// Number of policies.
const POLICIES: usize = 6;

/// L, T, P, S and R, in seconds.
pub fn policy(n: usize) -> PolicyParts {
    let [l, t, p, s, r] = match n % POLICIES {
        0 => [3600, 1800, 600, 60, 7 * 86_400], // the default
        1 => [3600, 1800, 600, 60, 0],
        2 => [80, 10, 5, 5, 60],
        3 => [14_400, 3600, 1800, 120, 86_400],
        4 => [2520, 1800, 600, 60, 3600], // the tightest
        _ => [3600, 300, 0, 0, 3600],
    };
    parts([l, t, p, s, r])
}

/// A policy from L, T, P, S and R, in seconds.
pub fn parts([l, t, p, s, r]: [u64; 5]) -> PolicyParts {
    PolicyParts {
        key_lifetime: Duration::from_secs(l),
        token_lifetime: Duration::from_secs(t),
        lead: Duration::from_secs(p),
        skew: Duration::from_secs(s),
        retention: Duration::from_secs(r),
    }
}

/// Schedules of at least `least` and at most `most` steps, for one or two processes on a
/// file.
pub fn any_schedule(least: usize, most: usize) -> impl Strategy<Value = Schedule> {
    let processes = prop_oneof![
        4 => (0..POLICIES).prop_map(|n| vec![n]),
        4 => (0..POLICIES).prop_map(|n| vec![n, n]),
        2 => vec(0..POLICIES, 2),
    ];
    schedule(processes, vec(step(2), least..=most))
}

/// The same for three replicas.
pub fn any_schedule_of_replicas(least: usize, most: usize) -> impl Strategy<Value = Schedule> {
    let processes = prop_oneof![
        3 => (0..POLICIES).prop_map(|n| vec![n; REPLICAS]),
        1 => vec(0..POLICIES, REPLICAS),
    ];
    let step = prop_oneof![
        40 => step(REPLICAS),
        4 => Just(Step::TickTogether),
        3 => (0..REPLICAS, 1..30_usize).prop_map(|(who, waits)| Step::CutOff(who, waits)),
        3 => (0..REPLICAS).prop_map(Step::Reconnect),
        1 => Just(Step::RotateTogether),
        2 => (0..REPLICAS).prop_map(Step::EmergencyMeanwhile),
    ];
    schedule(processes, vec(step, least..=most))
}

fn schedule(
    processes: impl Strategy<Value = Vec<usize>>,
    steps: impl Strategy<Value = Vec<Step>>,
) -> impl Strategy<Value = Schedule> {
    let legacy = prop_oneof![
        6 => Just(vec![]),
        4 => vec(legacy_row(), 1..4),
    ];
    (legacy, processes, steps).prop_map(|(rows, processes, steps)| Schedule {
        rows,
        processes,
        steps,
    })
}

fn legacy_row() -> impl Strategy<Value = LegacyRow> {
    let ends_in = prop_oneof![
        Just(-HOUR),
        Just(HOUR),
        -2 * DAY..0,
        0..2 * HOUR,
        Just(1_000 * DAY),
    ];
    ends_in.prop_map(|ends_in| LegacyRow { ends_in })
}

fn step(processes: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => pass(),
        14 => (0..processes).prop_map(Step::Tick),
        4 => Just(Step::TickTogether),
        3 => (fault(), 0..processes).prop_map(|(fault, who)| Step::TickWith(fault, who)),
        2 => (0..processes, 1..14_usize).prop_map(|(who, n)| Step::Kill(who, n)),
        2 => (0..processes, proptest::option::weighted(0.3, 0..POLICIES))
            .prop_map(|(who, policy)| Step::Restart(who, policy)),
        2 => jump().prop_map(Step::Jump),
        3 => (damage(), 0..8_usize).prop_map(|(damage, row)| Step::RowFault(damage, row)),
        1 => Just(Step::Repair),
        5 => operate(processes),
        1 => proptest::bool::weighted(0.2).prop_map(|yes| if yes { Step::NewDatabase } else { Step::Tick(0) }),
    ]
}

fn operate(processes: usize) -> impl Strategy<Value = Step> {
    let operation = prop_oneof![
        2 => Just(Operation::Rotate),
        2 => Just(Operation::Emergency),
        5 => (0..8_usize).prop_map(Operation::Revoke),
        2 => Just(Operation::Reencrypt),
    ];
    let by = prop_oneof![
        (0..processes).prop_map(By::Process),
        Just(By::Another(None)),
        (1..10_usize).prop_map(|waits| By::Another(Some(waits))),
    ];
    (operation, by, any::<bool>())
        .prop_map(|(operation, by, is_told)| Step::Operate(operation, by, is_told))
}

fn pass() -> impl Strategy<Value = Step> {
    use Edge::*;
    let edge = prop_oneof![
        4 => Just(NextDue),
        2 => Just(SignsFrom),
        2 => Just(EndOfSigning),
        2 => Just(Expiry),
        1 => Just(Deletion),
    ];
    prop_oneof![
        1 => (0..90_i64).prop_map(Step::Pass),
        2 => (0..2 * HOUR).prop_map(Step::Pass),
        1 => (0..2 * DAY).prop_map(Step::Pass),
        10 => (edge, 0..8_usize, -2..=2_i64)
            .prop_map(|(edge, row, more)| Step::PassUntil(edge, row, more)),
    ]
}

fn jump() -> impl Strategy<Value = i64> {
    prop_oneof![-DAY..=DAY, -2 * HOUR..=2 * HOUR, -60..=60_i64]
}

fn fault() -> impl Strategy<Value = GenerationFault> {
    prop_oneof![
        (0..90_u64).prop_map(GenerationFault::Slow),
        (0..8000_u64).prop_map(GenerationFault::Slow),
        Just(GenerationFault::Fails),
        Just(GenerationFault::Panics),
        Just(GenerationFault::StoreCloses),
    ]
}

fn damage() -> impl Strategy<Value = RowFault> {
    let end = prop_oneof![
        select(vec![
            -1, 0, 1, 30, 59, 60, 61, 660, 1200, 1790, 1810, 1860, 2460, 2461
        ]),
        -HOUR..2 * HOUR,
        Just(1_000 * DAY),
    ];
    prop_oneof![
        Just(RowFault::Garbage),
        (0..8_usize).prop_map(RowFault::KeyOf),
        Just(RowFault::Delete),
        Just(RowFault::NumberAsKey),
        Just(RowFault::HalfSecond),
        end.prop_map(RowFault::EndIn),
        Just(RowFault::LoseTimes),
    ]
}
