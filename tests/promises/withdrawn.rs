//! Expired means expired: under random steps of the clock, of a year and less,
//! with one process on the file or two, and with up to three replicas on PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwks_server::clock::{Clock as _, UnixTime};
use jwks_server::crypto::password::{Costs, PasswordHasher};
use jwks_server::domain::accounts::Accounts;
use jwks_server::domain::names::Username;
use jwks_server::domain::sign_in::{Credentials, SignIn};
use jwks_server::domain::tokens::{TokenIssuer, TokenKind};
use proptest::prelude::*;

use crate::engine::Engine;
use crate::manual_clock::ManualClock;
use crate::observer::{Checked, promise};
use crate::postgres::REPLICAS;
use crate::process::Process;
use crate::runner::{Cases, on_postgres, on_sqlite};
use crate::schedule::policy;
use crate::simulation::START;

const HOUR: i64 = 3600;
/// The service takes a clock that is behind its keys for right after this time.
const BEHIND_FOR: Duration = Duration::from_secs(300);
const YEAR: i64 = 365 * 24 * HOUR;
const CASES: Cases = (20, 1000);
const CASES_OF_REPLICAS: Cases = (4, 250);

#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(u64),
    Jump(i64),
    Tick(usize),
    /// Somebody asks a process for an expired token.
    Expired(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let jump = prop_oneof![
        Just(YEAR),
        Just(-YEAR),
        -2 * HOUR..=2 * HOUR,
        -YEAR..=YEAR,
        -90..=90_i64,
    ];
    prop_oneof![
        3 => (0..7200_u64).prop_map(Step::Pass),
        3 => jump.prop_map(Step::Jump),
        6 => (0..6_usize).prop_map(Step::Tick),
        4 => (0..6_usize).prop_map(Step::Expired),
    ]
}

#[test]
fn a_kid_of_an_expired_token_stays_out_and_no_key_lasts_longer_than_a_life() {
    on_sqlite(CASES, schedules(2), play);
}

#[test]
fn a_kid_of_an_expired_token_stays_out_of_the_sets_of_all_replicas() {
    on_postgres(CASES_OF_REPLICAS, schedules(REPLICAS), play);
}

fn schedules(processes: usize) -> impl Strategy<Value = (usize, Vec<Step>)> {
    (1..=processes, proptest::collection::vec(step(), 5..30))
}

struct Run {
    clock: Arc<ManualClock>,
    processes: Vec<(Process, SignIn)>,
    /// Kids of expired tokens, and the processes that know of each.
    named: BTreeMap<i64, BTreeSet<usize>>,
    /// Monotonic time since which each process has ticked with keys dated ahead.
    behind_since: BTreeMap<usize, Duration>,
}

async fn play(engine: Engine, (count, steps): (usize, Vec<Step>)) -> Checked {
    let clock = engine.clock();
    let stock = Arc::default();
    let costs = Costs {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };
    let hasher = PasswordHasher::start(costs, 1).unwrap();
    let mut processes = Vec::new();
    for who in 0..count {
        let store = engine.open(who).await;
        let process = Process::over(store, who, policy(0), vec![0], &clock, &stock);
        let tokens = TokenIssuer::new(Arc::clone(&process.ring), process.policy, None, None);
        let sign_in = SignIn {
            store: process.store.clone(),
            hasher: hasher.clone(),
            tokens,
        };
        processes.push((process, sign_in));
    }
    let mut run = Run {
        processes,
        named: BTreeMap::new(),
        behind_since: BTreeMap::new(),
        clock: Arc::clone(&clock),
    };
    let accounts = Accounts {
        store: run.processes[0].0.store.clone(),
        hasher: hasher.clone(),
    };
    let name = Username::parse("alice").unwrap();
    let made = accounts
        .ensure(name, "secret".to_owned().into(), START)
        .await;
    made.unwrap();
    for who in 0..count {
        run.play(Step::Tick(who)).await?;
    }
    for (n, step) in steps.iter().enumerate() {
        let played = run.play(*step).await;
        played.map_err(|e| format!("step {n} of {steps:?}: {e}"))?;
    }
    for (who, (process, _)) in run.processes.into_iter().enumerate() {
        engine.close(who, process.store).await;
    }
    Ok(())
}

impl Run {
    async fn play(&mut self, step: Step) -> Checked {
        let count = self.processes.len();
        match step {
            Step::Pass(secs) => self.clock.advance(Duration::from_secs(secs)),
            Step::Jump(secs) => {
                let to = self.clock.now().as_secs() + secs;
                self.clock.step_to(UnixTime::from_secs(to));
            }
            Step::Tick(who) => self.tick(who % count).await?,
            Step::Expired(who) => self.ask(who % count).await?,
        }
        let now = self.clock.now();
        for (who, (process, _)) in self.processes.iter().enumerate() {
            let set = process.key_set(now);
            let is_known = |kid: &&i64| self.named.get(*kid).is_some_and(|by| by.contains(&who));
            let back = set.keys().find(is_known);
            promise!(back.is_none(), "{back:?} of an expired token is published");
        }
        Ok(())
    }

    async fn tick(&mut self, who: usize) -> Checked {
        let (process, _) = &mut self.processes[who];
        process.tick().await.map_err(|e| e.to_string())?;
        for by in self.named.values_mut() {
            by.insert(who);
        }
        let now = self.clock.now();
        let latest = now + process.parts.key_lifetime + process.parts.skew;
        let snapshot = process.ring.snapshot();
        let mut published = snapshot.times().iter().filter(|t| t.is_published_at(now));
        match published.find(|times| latest < times.expires_at) {
            None => {
                self.behind_since.remove(&who);
            }
            Some(times) => {
                let mono = self.clock.monotonic();
                let since = *self.behind_since.entry(who).or_insert(mono);
                promise!(
                    mono < since + BEHIND_FOR,
                    "{} is published until {}, at {now}",
                    times.kid,
                    times.expires_at
                );
            }
        }
        promise!(
            process.signer(now).is_some(),
            "promise 1: no key signs after a tick"
        );
        Ok(())
    }

    async fn ask(&mut self, who: usize) -> Checked {
        let (process, sign_in) = &self.processes[who];
        if process.expired_signer(self.clock.now()).is_none() {
            // It would wait for a tick.
            return Ok(());
        }
        let credentials = Credentials::new("alice".into(), "secret".to_owned().into());
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let asked = sign_in.token_for(
            credentials.unwrap(),
            TokenKind::Expired,
            client,
            &*self.clock,
        );
        let token = asked.await.map_err(|e| e.to_string())?;
        self.named.entry(kid(&token)).or_default().insert(who);
        Ok(())
    }
}

fn kid(token: &str) -> i64 {
    let header = token.split('.').next().unwrap();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().parse().unwrap()
}
