//! Rules of a key set over time: a key is there before its first token, for as long as
//! caches hold the set, and until its last token has expired. Pure: times are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::UnixTime;
use crate::trial::key_set::{Finding, Findings};

/// Keys that are remembered; a set with more is not watched further.
const MAX_KEYS: usize = 1000;
/// Bytes; keys with longer kids are not watched.
const MAX_KID: usize = 1024;
/// Later ones are left out.
const MAX_FINDINGS: usize = 1000;
const EARLY: &str =
    "publish a key for at least max-age before its first token (KEY_LEAD in this service)";
const LATE: &str = "keep a key in the set until its last token has expired, unless it was stolen";

#[derive(Default)]
pub(super) struct Watch {
    /// Time for which caches hold the set.
    max_age: Duration,
    /// Time between two looks, by which what is seen may be late.
    every: Duration,
    looks: usize,
    empty: usize,
    failed: usize,
    /// Runs of the token command that gave no token, and what was wrong with the last.
    tokenless: usize,
    last_error: String,
    /// Looks one after the other at which two addresses differed, now and at most.
    differed: usize,
    most_differed: usize,
    keys: BTreeMap<String, Seen>,
    findings: Findings,
}

/// A key, since it came to the set.
struct Seen {
    /// `None` when it was there at the first look.
    came: Option<UnixTime>,
    is_there: bool,
    has_signed: bool,
    /// `exp` of the last of its tokens.
    needed_until: Option<UnixTime>,
}

impl Watch {
    pub(super) fn new(max_age: Duration, every: Duration) -> Self {
        Self {
            max_age,
            every,
            ..Self::default()
        }
    }

    /// A request that had no key set for an answer.
    pub(super) fn failed(&mut self) {
        self.failed += 1;
    }

    pub(super) fn no_token(&mut self, why: String) {
        self.tokenless += 1;
        self.last_error = why;
    }

    /// The kids of the set, as each address behind the name gave them.
    pub(super) fn set(&mut self, sets: &[BTreeSet<String>], now: UnixTime) {
        let Some(kids) = sets.first() else { return };
        self.looks += 1;
        self.empty += usize::from(sets.iter().any(BTreeSet::is_empty));
        self.differed = match sets.iter().all(|other| other == kids) {
            true => 0,
            false => self.differed + 1,
        };
        self.most_differed = self.most_differed.max(self.differed);
        let came = (self.looks > 1).then_some(now);
        for kid in kids.iter().filter(|kid| kid.len() <= MAX_KID) {
            if self.keys.len() < MAX_KEYS || self.keys.contains_key(kid) {
                let new = || Seen {
                    came,
                    is_there: true,
                    has_signed: false,
                    needed_until: None,
                };
                self.keys.entry(kid.clone()).or_insert_with(new).is_there = true;
            }
        }
        let mut gone = Vec::new();
        for (kid, seen) in &mut self.keys {
            if seen.is_there && !kids.contains(kid) {
                seen.is_there = false;
                if let Some(until) = seen.needed_until.filter(|&until| now < until) {
                    let left = now.until(until).as_secs();
                    let why = format!("key {kid:?} left {left} s before its tokens expired");
                    gone.push(why);
                }
            }
        }
        for why in gone {
            self.fail(why, LATE);
        }
    }

    /// A token that was issued now.
    pub(super) fn token(&mut self, kid: &str, expires: UnixTime, now: UnixTime) {
        let Some(seen) = self.keys.get_mut(kid).filter(|seen| seen.is_there) else {
            if self.keys.len() < MAX_KEYS {
                let why = format!("a token names key {kid:?}, which is not in the set");
                self.fail(why, EARLY);
            }
            return;
        };
        let mut early = None;
        if let (false, Some(came)) = (seen.has_signed, seen.came) {
            let age = came.until(now);
            if age + self.every < self.max_age {
                let (age, max_age) = (age.as_secs(), self.max_age.as_secs());
                let why = format!(
                    "key {kid:?} signed {age} s after it came; caches hold the set for {max_age} s"
                );
                early = Some(why);
            }
        }
        seen.has_signed = true;
        seen.needed_until = seen.needed_until.max(Some(expires));
        if let Some(why) = early {
            self.fail(why, EARLY);
        }
    }

    /// Says each thing once.
    fn fail(&mut self, why: String, advice: &'static str) {
        let is_same = |(_, it): &(_, Finding)| matches!(it, Finding::Fail(text, _) if *text == why);
        if self.findings.len() < MAX_FINDINGS && !self.findings.iter().any(is_same) {
            self.findings.push(("watch", Finding::Fail(why, advice)));
        }
    }

    pub(super) fn findings(mut self) -> Findings {
        let looks = self.looks;
        let mut add = |finding| self.findings.push(("watch", finding));
        if self.empty > 0 {
            let why = format!("the set had no key at {} of {looks} looks", self.empty);
            add(Finding::Fail(why, "answer 503 when there is no key"));
        }
        if self.failed > 0 {
            let why = format!("{} requests had no key set for an answer", self.failed);
            add(Finding::Warn(why, "see the log of the issuer"));
        }
        if self.tokenless > 0 {
            let why = format!(
                "no token at {} runs of the token command; the last: {}",
                self.tokenless, self.last_error
            );
            add(Finding::Warn(why, "let it print a token"));
        }
        match self.most_differed {
            0 => {}
            // Two requests may fall on both sides of a change.
            1 => {
                let why = "two addresses had different keys at one look".to_owned();
                add(Finding::Warn(why, "look whether it lasts"));
            }
            most => {
                let why = format!("two addresses had different keys at {most} looks in a row");
                let advice = "let all replicas publish one set: half of the tokens are refused";
                add(Finding::Fail(why, advice));
            }
        }
        let came = self.keys.values().filter(|it| it.came.is_some()).count();
        let left = self.keys.values().filter(|it| !it.is_there).count();
        let signed = self.keys.values().filter(|it| it.has_signed).count();
        let text =
            format!("{looks} looks: {came} keys came, {left} left, {signed} were seen to sign");
        add(Finding::Ok(text));
        self.findings
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/check_watch.rs"]
mod tests;
