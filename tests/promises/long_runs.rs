//! Long runs of one process that has the database to itself, in test time, with
//! checks at each second around the edges of each key's life.
//!
//! The store, the rotation and the opened keys are the real ones. Two things
//! make it quick. A few keys are used again and again: without
//! retention a key's row is deleted hours before its turn comes again, and were
//! it still there, then the insertion would fail. And few of the tokens are
//! signed and verified; of the others there is only who signs and their times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jwks_server::clock::{Clock as _, UnixTime};
use jwks_server::lifecycle::PolicyParts;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tempfile::TempDir;

use crate::key_source::{KeyStock, SEED};
use crate::long::times;
use crate::manual_clock::ManualClock;
use crate::observer::{Checked, MARGIN, promise};
use crate::process::Process;
use crate::schedule::parts;
use crate::simulation::{START, temp_dir};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const STOCK: usize = 8;
/// Of so many keys, one signs a token in earnest.
const SAMPLE: usize = 10;

/// With `LONG=1` half a year, on each of two databases at the same time.
#[tokio::test]
async fn promises_hold_for_days_of_ticks_in_time() {
    run_in_time(START, times(5, 183) as u64 * DAY).await;
}

#[tokio::test]
async fn promises_hold_for_later_days_of_ticks_in_time() {
    let start = START + Duration::from_secs(183 * DAY);
    run_in_time(start, times(5, 182) as u64 * DAY).await;
}

async fn run_in_time(start: UnixTime, secs: u64) {
    let mut run = Run::new([3600, 1800, 600, 60, 0], start, Check::AtEdges);
    run.go(secs, || 0).await.unwrap();
    // A new key each time that one stops signing: L - T - S - P, less the margin.
    assert_eq!(run.made as u64, secs.div_ceil(19 * 60 - 2));
}

#[tokio::test]
async fn promises_hold_for_days_of_late_ticks() {
    let mut run = Run::new([3600, 1800, 600, 60, 0], START, Check::AtEdges);
    run.is_in_time = false;
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(*SEED),
        ..Config::default()
    });
    let late = prop_oneof![
        10 => 0..90_u64,
        5 => 0..HOUR / 2,
        1 => 0..3 * HOUR,
        1 => (1..=3_u64).prop_map(|quarters| quarters * HOUR / 4),
    ];
    let mut next = || late.new_tree(&mut runner).unwrap().current();
    run.go(times(5, 120) as u64 * DAY, &mut next).await.unwrap();
}

#[tokio::test]
async fn promises_hold_in_each_second_of_many_keys_of_eighty_seconds() {
    let mut run = Run::new([80, 10, 5, 5, 0], START, Check::EachSecond);
    let secs = times(4, 24) as u64 * HOUR;
    run.go(secs, || 0).await.unwrap();
    assert_eq!(run.made as u64, secs.div_ceil(60 - 2));
}

#[derive(Clone, Copy, PartialEq)]
enum Check {
    AtEdges,
    EachSecond,
}

/// A key as the observer of key sets sees it.
#[derive(Clone, Copy, Debug)]
struct PublishedKey {
    /// The first time that it was in the key set.
    since: UnixTime,
    exp: UnixTime,
}

impl PublishedKey {
    /// True when it has been published for the lead, as promise 4 asks.
    fn had_lead(&self, parts: &PolicyParts, now: UnixTime) -> bool {
        self.since + parts.lead <= now
    }
}

struct Run {
    process: Process,
    clock: Arc<ManualClock>,
    start: UnixTime,
    check: Check,
    is_in_time: bool,
    /// The keys that the observer has seen in a key set, which still matter.
    keys: BTreeMap<i64, PublishedKey>,
    /// The end of the last token of each key.
    tokens: BTreeMap<i64, UnixTime>,
    made: usize,
    _dir: TempDir,
}

impl Run {
    fn new(policy: [u64; 5], start: UnixTime, check: Check) -> Self {
        let dir = temp_dir();
        let path = dir.path().join("keys.db");
        let clock = Arc::new(ManualClock::new(start));
        let stock = Arc::new(KeyStock::repeating(STOCK));
        Self {
            process: Process::start(&path, 0, parts(policy), vec![0], &clock, &stock),
            clock,
            start,
            check,
            is_in_time: true,
            keys: BTreeMap::new(),
            tokens: BTreeMap::new(),
            made: 0,
            _dir: dir,
        }
    }

    /// Ticks for `secs`, each time `late` seconds after it is due.
    async fn go(&mut self, secs: u64, mut late: impl FnMut() -> u64) -> Checked {
        let end = self.start + Duration::from_secs(secs);
        while self.clock.now() < end {
            let due = self.process.tick().await.map_err(|e| e.to_string())?;
            let now = self.clock.now();
            self.note_new_keys(now);
            promise!(
                self.process.signer(now).is_some(),
                "promise 1: no key signs after a tick at {now}"
            );
            let next = due + Duration::from_secs(late());
            promise!(now < next, "a tick is due at {now} and again at {next}");
            for moment in self.moments(now, next) {
                self.advance_to(moment);
                self.check(moment)
                    .await
                    .map_err(|e| format!("at {moment}, after a tick at {now}: {e}"))?;
            }
            self.advance_to(next);
        }
        Ok(())
    }

    fn advance_to(&self, moment: UnixTime) {
        self.clock.advance(self.clock.now().until(moment));
    }

    /// Keys that are new in the key set were made just now; those that have ended with
    /// their tokens matter no more.
    fn note_new_keys(&mut self, now: UnixTime) {
        self.keys.retain(|_, key| now < key.exp);
        self.tokens.retain(|_, end| now < *end);
        let exp = now + self.process.parts.key_lifetime;
        for kid in self.process.key_set(now).keys() {
            self.keys.entry(*kid).or_insert_with(|| {
                self.made += 1;
                PublishedKey { since: now, exp }
            });
        }
    }

    /// The moments to check from `now` until before `next`.
    fn moments(&self, now: UnixTime, next: UnixTime) -> Vec<UnixTime> {
        let (now, next) = (now.as_secs(), next.as_secs());
        if self.check == Check::EachSecond {
            return (now..next).map(UnixTime::from_secs).collect();
        }
        let parts = &self.process.parts;
        let signs_until = |key: &PublishedKey| key.exp - parts.token_lifetime - parts.skew;
        let keys = self.keys.values();
        let mut moments: Vec<_> = keys
            .flat_map(|key| [key.since, key.since + parts.lead, signs_until(key), key.exp])
            // The next tick makes a key.
            .chain([UnixTime::from_secs(next)])
            .flat_map(|edge| edge.as_secs() - 2..=edge.as_secs() + 2)
            .filter(|moment| (now..next).contains(moment))
            .collect();
        moments.sort_unstable();
        moments.dedup();
        moments.into_iter().map(UnixTime::from_secs).collect()
    }

    async fn check(&mut self, now: UnixTime) -> Checked {
        let set = self.process.key_set(now);
        let unexpired = self.keys.iter().filter(|(_, key)| now < key.exp);
        promise!(
            set.keys().eq(unexpired.map(|(kid, _)| kid)),
            "promise 5: published is {:?} of {:?}",
            set.keys(),
            self.keys
        );
        let lost = self
            .tokens
            .iter()
            .find(|(kid, end)| now < **end && !set.contains_key(kid));
        promise!(
            lost.is_none(),
            "promise 3: tokens of {lost:?} do not verify"
        );
        let (Some(kid), Some(end)) = (self.process.signer(now), self.process.token_end(now)) else {
            promise!(set.is_empty(), "promise 1: no key signs");
            return Ok(());
        };
        promise!(set.contains_key(&kid), "promise 9: {kid} is not published");
        self.check_signer(kid, end, now)?;
        if self.tokens.insert(kid, end).is_none() && self.made.is_multiple_of(SAMPLE) {
            let token = self.process.issue().await;
            let is_good = (token.kid, token.exp) == (kid, end) && token.verifies_against(&set);
            promise!(is_good, "promise 3: {token:?} does not verify");
        }
        Ok(())
    }

    fn check_signer(&self, kid: i64, end: UnixTime, now: UnixTime) -> Checked {
        let parts = &self.process.parts;
        let (key, full) = (self.keys[&kid], now + parts.token_lifetime);
        promise!(end <= key.exp, "promise 2: a token until {end} of {key:?}");
        if self.is_in_time {
            let is_first = key.since == self.start;
            let had_lead = is_first || key.had_lead(parts, now);
            promise!(had_lead, "promise 4: {key:?} signs at {now}");
            let is_full = end == full && end + parts.skew <= key.exp;
            promise!(is_full, "a token until {end} of {key:?}");
        }
        let mut led = self
            .keys
            .values()
            .filter(|other| other.had_lead(parts, now));
        let better = led.clone().find(|other| now < other.exp - parts.skew);
        promise!(
            key.had_lead(parts, now) || better.is_none(),
            "promise 4: {key:?} signs at {now}, though {better:?} could"
        );
        // Two seconds more, which the service adds to the lead.
        let fuller = led.find(|other| full <= other.exp && other.had_lead(parts, now - MARGIN));
        promise!(
            end == full || fuller.is_none(),
            "promise 2: a short token, though {fuller:?} could sign a full one"
        );
        Ok(())
    }
}
