//! Adopted keys under random steps, with two processes on one file or three replicas on
//! PostgreSQL: each is published exactly while it should be, and none signs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jwks_server::clock::{Clock as _, UnixTime};
use jwks_server::crypto::curves::CurveKey;
use jwks_server::domain::adopted_keys::{MAX_ADOPTED, parse};
use jwks_server::domain::key_admin::{MAX_PUBLISHED, RevokeError};
use jwks_server::domain::key_adoption::AdoptError;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::manual_clock::ManualClock;
use crate::observer::{Checked, promise};
use crate::process::Process;
use crate::runner::{Cases, on_postgres, on_sqlite};
use crate::schedule::policy;

const CASES: Cases = (60, 2000);
const CASES_OF_REPLICAS: Cases = (6, 250);
/// Keys of the other issuer.
const STOCK: usize = 12;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Jump(i64),
    Tick(usize),
    Adopt(usize, BTreeSet<usize>, i64),
    Revoke(usize, usize),
    /// Keys of our own, which take up room in the set.
    Rotate(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let some = proptest::collection::btree_set(0..STOCK, 1..4);
    prop_oneof![
        4 => (0..1800_u64).prop_map(Step::Pass),
        1 => (-3600..3600_i64).prop_map(Step::Jump),
        6 => (0..6_usize).prop_map(Step::Tick),
        5 => (0..6_usize, some, -60..7200_i64).prop_map(|(who, keys, life)| Step::Adopt(who, keys, life)),
        2 => (0..6_usize, 0..STOCK).prop_map(|(who, key)| Step::Revoke(who, key)),
        1 => (0..6_usize).prop_map(Step::Rotate),
    ]
}

#[test]
fn an_adopted_key_is_published_exactly_until_its_end_and_never_signs() {
    let stock = stock();
    on_sqlite(CASES, steps(), async |engine, steps| {
        play(&stock, engine, &steps).await
    });
}

#[test]
fn replicas_publish_an_adopted_key_exactly_until_its_end() {
    let stock = stock();
    on_postgres(CASES_OF_REPLICAS, steps(), async |engine, steps| {
        play(&stock, engine, &steps).await
    });
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 5..40)
}

fn stock() -> Vec<Value> {
    let stock = (0..STOCK).map(|_| CurveKey::generate("EdDSA").unwrap().unwrap().jwk());
    stock.collect()
}

/// End of each adopted key, and whether it was revoked.
type Adopted = BTreeMap<String, (UnixTime, bool)>;

struct Run<'a> {
    stock: &'a [Value],
    clock: Arc<ManualClock>,
    processes: Vec<Process>,
    adopted: Adopted,
    /// As each process has loaded them.
    seen: Vec<Adopted>,
}

async fn play(stock: &[Value], engine: Engine, steps: &[Step]) -> Checked {
    let clock = engine.clock();
    let keys = Arc::default();
    let count = engine.processes();
    let mut processes = Vec::new();
    for who in 0..count {
        let store = engine.open(who).await;
        processes.push(Process::over(store, who, policy(0), vec![0], &clock, &keys));
    }
    let mut run = Run {
        stock,
        processes,
        clock: Arc::clone(&clock),
        adopted: Adopted::new(),
        seen: vec![Adopted::new(); count],
    };
    for who in 0..count {
        run.play(&Step::Tick(who)).await?;
    }
    for (n, step) in steps.iter().enumerate() {
        let played = run.play(step).await;
        played.map_err(|e| format!("step {n} of {steps:?}: {e}"))?;
    }
    for (who, process) in run.processes.into_iter().enumerate() {
        engine.close(who, process.store).await;
    }
    Ok(())
}

impl Run<'_> {
    async fn play(&mut self, step: &Step) -> Checked {
        let count = self.processes.len();
        match step {
            Step::Pass(secs) => self.clock.advance(Duration::from_secs(*secs)),
            Step::Jump(secs) => {
                let to = self.clock.now().as_secs() + secs;
                self.clock.step_to(UnixTime::from_secs(to));
            }
            Step::Tick(who) => {
                let ticked = self.processes[who % count].tick().await;
                ticked.map_err(|e| e.to_string())?;
                self.seen[who % count] = self.adopted.clone();
            }
            Step::Adopt(who, keys, life) => self.adopt(who % count, keys, *life).await?,
            Step::Revoke(who, key) => self.revoke(who % count, *key).await?,
            // Refused when there are too many.
            Step::Rotate(who) => drop(self.processes[who % count].operations().rotate().await),
        }
        self.check()
    }

    fn kid(&self, key: usize) -> String {
        self.stock[key]["kid"].as_str().unwrap().to_owned()
    }

    fn published(&self, adopted: &Adopted) -> BTreeSet<String> {
        let now = self.clock.now();
        let is_published =
            |(_, (until, revoked)): &(&String, &(UnixTime, bool))| !revoked && now < *until;
        let published = adopted.iter().filter(is_published);
        published.map(|(kid, _)| kid.clone()).collect()
    }

    async fn adopt(&mut self, who: usize, keys: &BTreeSet<usize>, life: i64) -> Checked {
        let now = self.clock.now();
        let until = UnixTime::from_secs(now.as_secs() + life);
        let jwks: Vec<_> = keys.iter().map(|key| self.stock[*key].clone()).collect();
        let set = json!({ "keys": jwks }).to_string();
        let kids: Vec<_> = keys.iter().map(|key| self.kid(*key)).collect();
        let operations = self.processes[who].operations();
        let rows = operations.store.all_keys().await.unwrap().rows;
        let own = rows
            .iter()
            .filter(|row| row.times.is_published_at(now))
            .count();
        let mut after = self.published(&self.adopted);
        after.extend(kids.iter().cloned());
        let is_revoked = |kid| self.adopted.get(kid).is_some_and(|(_, revoked)| *revoked);
        let may = life > 0
            && !kids.iter().any(is_revoked)
            && after.len() <= MAX_ADOPTED
            && own + after.len() <= MAX_PUBLISHED;
        let done = operations
            .adopt(parse(set.as_bytes()).unwrap(), until, "moving".into())
            .await;
        match (done, may) {
            (Ok(()), true) => {
                let entries = kids.into_iter().map(|kid| (kid, (until, false)));
                self.adopted.extend(entries);
                Ok(())
            }
            (Err(AdoptError::Store(e)), _) => Err(e.to_string()),
            (Err(_), false) => Ok(()),
            (done, may) => Err(format!("adopting {kids:?}: {done:?}, expected {may}")),
        }
    }

    async fn revoke(&mut self, who: usize, key: usize) -> Checked {
        let (kid, now) = (self.kid(key), self.clock.now());
        let is_published = self.published(&self.adopted).contains(&kid);
        let operations = self.processes[who].operations();
        match operations.revoke(kid.clone(), "leaked".into()).await {
            Ok(()) if is_published => {
                self.adopted.insert(kid, (now, true));
                Ok(())
            }
            Err(RevokeError::NotPublished(_) | RevokeError::Unknown(_)) if !is_published => Ok(()),
            other => Err(format!("revoking {kid}: {other:?}")),
        }
    }

    fn check(&self) -> Checked {
        let now = self.clock.now();
        for (process, seen) in self.processes.iter().zip(&self.seen) {
            let snapshot = process.ring.snapshot();
            let Some(set) = snapshot.published(now) else {
                continue;
            };
            let set: Value = serde_json::from_slice(&set.body).unwrap();
            let listed = set["keys"].as_array().unwrap().iter();
            let of_others = listed.filter(|jwk| jwk["kty"] == "OKP").cloned();
            let of_others: Vec<_> = of_others.collect();
            let kids = of_others
                .iter()
                .map(|jwk| jwk["kid"].as_str().unwrap().to_owned());
            let kids: BTreeSet<_> = kids.collect();
            let expected = self.published(seen);
            promise!(kids == expected, "{kids:?} are published, not {expected:?}");
            promise!(
                of_others.iter().all(|jwk| self.stock.contains(jwk)),
                "{of_others:?} are not as their issuer has them"
            );
            let signer = process.signer(now).map(|kid| kid.to_string());
            let signs = signer.is_some_and(|kid| self.adopted.contains_key(&kid));
            promise!(!signs, "an adopted key signs");
        }
        Ok(())
    }
}
