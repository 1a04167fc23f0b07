//! What happens over time: a flood of unknown kids, an outage of the issuer, a
//! rotation of its keys, and an emergency, where a key leaves the set at once.

use std::thread;
use std::time::{Duration, Instant};

use super::cases::{Case, Walk};
use super::page::Page;
use super::{Outcome, Trial, TrialError, Verdict};

const FLOOD: usize = 100;
/// Fetches for a flood that an issuer will not mind.
const MAX_FETCHES: usize = 10;
/// Longest outage.
const OUTAGE: Duration = Duration::from_secs(10);
/// Pause between two tokens.
const PACE: Duration = Duration::from_millis(500);
/// Kinds of signature: the first key and the second.
const OLD: &str = "RS256";
const NEW: &str = "second";

/// Tokens that a case sends at most, good ones among them.
pub fn most_tokens(case: &Case, within: Duration) -> usize {
    let paces = |time: Duration| {
        let paces = time.as_millis().div_ceil(PACE.as_millis()) + 1;
        usize::try_from(paces).unwrap_or(usize::MAX)
    };
    match case.walk {
        None => 3,
        Some(Walk::Flood) => paces(within) + FLOOD + 1,
        Some(Walk::Outage) => 2 * paces(within) + paces(OUTAGE),
        Some(Walk::Rotation | Walk::Emergency) => 3 * paces(within),
    }
}

/// Answers to the tokens of one key.
#[derive(Default)]
struct Seen {
    sent: usize,
    not_accepted: usize,
}

impl Trial<'_> {
    /// Begins with a key of its own, which a verifier that pauses between two fetches
    /// knows late.
    pub(super) fn walk<'a>(&self, case: &'a Case, walk: Walk) -> Result<Outcome<'a>, TrialError> {
        let [old, new] = ["old", "new"].map(|it| self.forge.alias(&format!("{it}-{}", case.id)));
        self.issuer.serve(self.forge.aliased(&[(0, &old)]));
        let first = self.until(&old, OLD, Verdict::Accepted)?;
        let tried = match (first, walk) {
            (None, _) => self.not_followed(case, walk),
            (_, Walk::Flood) => self.flood(case, &old),
            (_, Walk::Outage) => self.outage(case, &old, &new),
            (_, Walk::Rotation) => self.rotation(case, &old, &new),
            (_, Walk::Emergency) => self.emergency(case, &old, &new),
        };
        self.issuer.serve(Page::json(self.forge.key_set()));
        tried.map(|tried| Outcome {
            detail: format!(
                "{}; {}",
                time("the first key", "known", first),
                tried.detail
            ),
            ..tried
        })
    }

    /// A verifier that still accepts the key before the first one is stuck with it.
    fn not_followed<'a>(&self, case: &'a Case, walk: Walk) -> Result<Outcome<'a>, TrialError> {
        self.issuer.serve(Page::json(self.forge.key_set()));
        let (verdict, detail) = self.good()?;
        let said = format!(
            "a token of the key before it: {} ({detail})",
            verdict.name()
        );
        let is_stuck = walk == Walk::Rotation && verdict == Verdict::Accepted;
        let verdict = if is_stuck {
            Verdict::Refused
        } else {
            Verdict::SaysNothing
        };
        Ok(Outcome::new(case, verdict, said))
    }

    fn flood<'a>(&self, case: &'a Case, old: &str) -> Result<Outcome<'a>, TrialError> {
        let (before, _) = self.issuer.fetched();
        for i in 0..FLOOD {
            let kid = self.forge.alias(&format!("flood-{i}"));
            if self.send(&kid, "stranger")?.0 == Verdict::NoAnswer {
                return Ok(Outcome::new(
                    case,
                    Verdict::NoAnswer,
                    format!("after {i} tokens"),
                ));
            }
        }
        let fetches = self.issuer.fetched().0 - before;
        let (verdict, detail) = self.send(old, OLD)?;
        let said =
            format!("{fetches} fetches for {FLOOD} unknown kids; then a good token: {detail}");
        let mut tried = Outcome::new(case, verdict, said);
        if fetches > MAX_FETCHES {
            tried.finding = tried.finding.max(Some(case.grade));
        }
        Ok(tried)
    }

    fn outage<'a>(&self, case: &'a Case, old: &str, new: &str) -> Result<Outcome<'a>, TrialError> {
        self.issuer.serve(Page::unavailable());
        let seen = self.repeat(OUTAGE.min(self.within), |seen| {
            seen.note(self.send(old, OLD)?.0);
            Ok(false)
        })?;
        self.issuer.serve(self.forge.aliased(&[(0, old), (1, new)]));
        let known = self.until(new, NEW, Verdict::Accepted)?;
        Ok(summarize(case, &[("the new key", "known", known)], &seen))
    }

    fn rotation<'a>(
        &self,
        case: &'a Case,
        old: &str,
        new: &str,
    ) -> Result<Outcome<'a>, TrialError> {
        self.issuer.serve(self.forge.aliased(&[(0, old), (1, new)]));
        let mut known = None;
        let since = Instant::now();
        let seen = self.repeat(self.within, |seen| {
            seen.note(self.send(old, OLD)?.0);
            let is_known = self.send(new, NEW)?.0 == Verdict::Accepted;
            known = is_known.then(|| since.elapsed());
            Ok(is_known)
        })?;
        Ok(summarize(case, &[("the new key", "known", known)], &seen))
    }

    fn emergency<'a>(
        &self,
        case: &'a Case,
        old: &str,
        new: &str,
    ) -> Result<Outcome<'a>, TrialError> {
        self.issuer.serve(self.forge.aliased(&[(1, new)]));
        let since = Instant::now();
        let known = self.until(new, NEW, Verdict::Accepted)?;
        let forgotten = self.until(old, OLD, Verdict::Refused)?;
        // It was not asked for before the new one was known.
        let forgotten = forgotten.map(|_| since.elapsed());
        let times = [
            ("the new key", "known", known),
            ("the old one", "forgotten", forgotten),
        ];
        Ok(summarize(case, &times, &Seen::default()))
    }

    /// The time until a token of the key is answered as wanted.
    fn until(
        &self,
        kid: &str,
        sign: &str,
        wanted: Verdict,
    ) -> Result<Option<Duration>, TrialError> {
        let since = Instant::now();
        let mut took = None;
        self.repeat(self.within, |_| {
            let is_so = self.send(kid, sign)?.0 == wanted;
            took = is_so.then(|| since.elapsed());
            Ok(is_so)
        })?;
        Ok(took)
    }

    /// Takes a step again and again, until it is the last one or the time is over.
    fn repeat(
        &self,
        limit: Duration,
        mut step: impl FnMut(&mut Seen) -> Result<bool, TrialError>,
    ) -> Result<Seen, TrialError> {
        let since = Instant::now();
        let mut seen = Seen::default();
        while !step(&mut seen)? && since.elapsed() < limit {
            thread::sleep(PACE);
        }
        Ok(seen)
    }
}

impl Seen {
    fn note(&mut self, verdict: Verdict) {
        self.sent += 1;
        self.not_accepted += usize::from(verdict != Verdict::Accepted);
    }
}

/// Accepted when all came to pass in time and no good token was refused.
fn summarize<'a>(
    case: &'a Case,
    times: &[(&str, &str, Option<Duration>)],
    seen: &Seen,
) -> Outcome<'a> {
    let mut said: Vec<_> = times
        .iter()
        .map(|(key, is, took)| time(key, is, *took))
        .collect();
    if seen.sent > 0 {
        let (bad, all) = (seen.not_accepted, seen.sent);
        said.push(format!(
            "{bad} of {all} good tokens of the old one were not accepted"
        ));
    }
    let is_good = seen.not_accepted == 0 && times.iter().all(|(.., took)| took.is_some());
    let verdict = if is_good {
        Verdict::Accepted
    } else {
        Verdict::Refused
    };
    Outcome::new(case, verdict, said.join("; "))
}

fn time(key: &str, is: &str, took: Option<Duration>) -> String {
    match took {
        Some(took) => format!("{key} was {is} after {:.1} s", took.as_secs_f64()),
        None => format!("{key} was not {is} in time"),
    }
}
