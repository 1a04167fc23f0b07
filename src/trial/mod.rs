//! Puts a verifier of tokens through cases that each differ from a good token in one
//! respect. Between them go good tokens: when one is refused, the case says nothing.
//! Uses no store; the service itself signs RS256 alone.

mod cases;
mod forge;
mod issuer;
mod judge;
pub mod key_set;
mod page;
mod realm;
mod reshape;
pub mod sandbox;
mod set_pages;
mod target;
mod walks;

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

pub use cases::{Case, Grade, TrialStage, cases};
pub use forge::Forge;
pub use issuer::{Bound, KEY_SET, TrialIssuer};
pub use judge::{Codes, Judge, Verdict};
pub use target::{Place, TIMEOUT, Target};
pub use walks::most_tokens;

use crate::clock::{Clock as _, SystemClock};
use crate::crypto::rsa::{KeyError, SigningError};
use cases::{Expected, Set};
use page::Page;
use target::Answer;

/// Longest wait for the first answer of a verifier: it may start after its issuer, and
/// its first token may take long, as with discovery in a JVM that has just started.
const START: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(100);
/// Section and advice for a bad token that is not refused but fails, of whatever case.
const UNHANDLED: (&str, &str) = (
    "RFC 6750 3.1",
    "Answer 401 to every token that cannot be verified: catch all that the library throws.",
);
/// Tokens without an answer, or good ones refused one after the other, that end a run.
const MAX_FAILED: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error("the table of cases: {0}")]
    Table(String),
    #[error("the issuer cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Nothing can be said about the cases.
    #[error("{0}")]
    Controls(String),
    #[error("the verifier cannot be reached: {0}")]
    Unreachable(String),
}

pub struct Trial<'a> {
    pub forge: &'a Forge,
    pub issuer: &'a TrialIssuer,
    pub target: &'a Target,
    pub judge: Judge,
    /// Longest wait for a verifier to follow a change of the key set.
    pub within: Duration,
    /// The machine's: the verifier that is tried reads it too.
    pub clock: SystemClock,
}

/// Verdict on one case.
pub struct Outcome<'a> {
    pub case: &'a Case,
    pub verdict: Verdict,
    pub detail: String,
    /// Grade of the finding, if it is one.
    pub finding: Option<Grade>,
    /// True when the run was given up before this case.
    pub gave_up: bool,
}

impl<'a> Outcome<'a> {
    fn new(case: &'a Case, verdict: Verdict, detail: impl Into<String>) -> Self {
        let finding = match (verdict, case.expect) {
            (Verdict::Accepted, Expected::Refuse | Expected::Fail)
            | (Verdict::Refused, Expected::Accept) => Some(case.grade),
            (Verdict::Error | Verdict::Crash, Expected::Fail) => None,
            // A bad token that upsets a verifier is a fault of its own, whatever the case is
            // about: anybody can send one.
            (Verdict::Error | Verdict::Crash | Verdict::NoAnswer, _) => Some(Grade::Should),
            _ => None,
        };
        Self {
            case,
            verdict,
            detail: detail.into(),
            finding,
            gave_up: false,
        }
    }

    fn says_nothing(case: &'a Case, why: impl Into<String>) -> Self {
        Self::new(case, Verdict::SaysNothing, why)
    }

    /// Grade in all reports: that of the finding, if it is one.
    pub fn grade(&self) -> Grade {
        self.finding.unwrap_or(self.case.grade)
    }

    /// Section that the grade comes from, and how to mend the finding.
    pub fn advice(&self) -> (&str, &str) {
        match self.verdict {
            Verdict::Error | Verdict::Crash | Verdict::NoAnswer if !self.case.is_good() => {
                UNHANDLED
            }
            _ => (&self.case.rfc, &self.case.mend),
        }
    }
}

/// Failures in a row, after too many of which a run gives up. A walk (an outage, a rotation)
/// begins with a good token of its own and waits for it, so refused ones do not bar it.
#[derive(Default)]
struct Patience {
    without_answer: usize,
    refused: usize,
}

impl Patience {
    fn is_over(&self, case: &Case) -> bool {
        self.without_answer == MAX_FAILED || self.refused == MAX_FAILED && case.walk.is_none()
    }

    /// Has a good token been refused since the last one that was accepted?
    fn is_doubtful(&self, case: &Case) -> bool {
        self.refused > 0 && case.walk.is_none()
    }

    fn note(&mut self, outcome: &Outcome) {
        self.without_answer += usize::from(outcome.verdict == Verdict::NoAnswer);
        self.refused = match outcome.verdict {
            Verdict::SaysNothing => MAX_FAILED.min(self.refused + 1),
            _ => 0,
        };
    }
}

impl Trial<'_> {
    /// Tries all cases; says which one begins, and tells of each outcome at once.
    pub fn run<'a>(
        &mut self,
        cases: &[&'a Case],
        mut begin: impl FnMut(usize, &Case),
        mut tell: impl FnMut(&Outcome<'a>),
    ) -> Result<Vec<Outcome<'a>>, TrialError> {
        self.controls()?;
        let mut outcomes = Vec::new();
        let mut patience = Patience::default();
        for (number, case) in cases.iter().enumerate() {
            begin(number, case);
            let outcome = if patience.is_over(case) {
                Outcome {
                    gave_up: true,
                    ..Outcome::says_nothing(case, "not tried after too many failures")
                }
            } else if patience.is_doubtful(case) && self.good()?.0 != Verdict::Accepted {
                Outcome::says_nothing(case, "a good token before it was refused")
            } else {
                self.try_case(case)?
            };
            patience.note(&outcome);
            tell(&outcome);
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn try_case<'a>(&mut self, case: &'a Case) -> Result<Outcome<'a>, TrialError> {
        match (&case.set, case.walk) {
            (_, Some(walk)) => self.walk(case, walk),
            (Some(set), None) => self.try_set(case, set),
            (None, None) => self.try_one(case),
        }
    }

    /// A good token must be accepted; the answer to no token at all shows how it refuses.
    fn controls(&mut self) -> Result<(), TrialError> {
        let since = Instant::now();
        let (verdict, detail) = loop {
            let answer = self.target.send(&self.forge.good(self.clock.now())?);
            let is_ready = !matches!(answer, Answer::Unreachable(_) | Answer::TimedOut);
            if is_ready || since.elapsed() > START {
                if let Answer::Unreachable(why) = answer {
                    return Err(TrialError::Unreachable(why));
                }
                break self.judge.verdict(&answer, 0);
            }
            thread::sleep(RETRY);
        };
        if verdict != Verdict::Accepted {
            let (fetched, _) = self.issuer.fetched();
            let fetched = match fetched {
                0 => "; it never asked for the key set of this trial",
                _ => "",
            };
            return Err(TrialError::Controls(format!(
                "a good token was not accepted, so nothing can be said: {} ({detail}){fetched}",
                verdict.name()
            )));
        }
        let answer = self.target.send("no-token");
        self.judge.learn(&answer);
        Ok(())
    }

    fn good(&self) -> Result<(Verdict, String), TrialError> {
        let token = self.forge.good(self.clock.now())?;
        Ok(self.judge.verdict(&self.target.send(&token), token.len()))
    }

    fn try_one<'a>(&self, case: &'a Case) -> Result<Outcome<'a>, TrialError> {
        let token = self.forge.token(case, self.clock.now())?;
        let (_, before) = self.issuer.fetched();
        let answer = self.target.send(&token);
        let (verdict, detail) = self.judge.verdict(&answer, token.len());
        let (_, after) = self.issuer.fetched();
        let mut tried = Outcome::new(case, verdict, detail);
        if after > before {
            tried.detail += "; it fetched the URL in the header";
            tried.finding = tried.finding.max(Some(Grade::Should));
        }
        let (verdict, detail) = self.good()?;
        match (&answer, verdict) {
            (_, Verdict::Accepted) => {}
            (Answer::Closed(_), Verdict::Crash | Verdict::NoAnswer) => {
                tried = Outcome::new(case, Verdict::Crash, "it ended");
            }
            (Answer::TimedOut, _) => {}
            _ => {
                let why = format!("the good token after it: {} ({detail})", verdict.name());
                tried = Outcome::says_nothing(case, why);
            }
        }
        Ok(tried)
    }
}

impl Trial<'_> {
    fn try_set<'a>(&self, case: &'a Case, set: &Set) -> Result<Outcome<'a>, TrialError> {
        let tried = self.try_served(case, set);
        self.issuer.serve(Page::json(self.forge.key_set()));
        tried
    }

    /// Serves the set of a case. A verifier fetches it for a token with a kid that it has not
    /// seen before.
    fn try_served<'a>(&self, case: &'a Case, set: &Set) -> Result<Outcome<'a>, TrialError> {
        let control = self.forge.alias(&format!("before-{}", case.id));
        self.issuer.serve(self.forge.aliased(&[(0, &control)]));
        let (verdict, detail) = self.send(&control, "RS256")?;
        if verdict != Verdict::Accepted {
            let why = "a good token with a new kid before it";
            return Ok(Outcome::says_nothing(
                case,
                format!("{why}: {} ({detail})", verdict.name()),
            ));
        }
        let kid = self.forge.alias(&case.id);
        self.issuer.serve(self.forge.page(set, &kid)?);
        let (before, _) = self.issuer.fetched();
        let sign = case.sign.as_deref().unwrap_or("RS256");
        let alg = case.header.get("alg").and_then(|alg| alg.as_str());
        let token = self
            .forge
            .named(&kid, alg.unwrap_or("RS256"), sign, self.clock.now())?;
        let (verdict, detail) = self.judge.verdict(&self.target.send(&token), token.len());
        if self.issuer.fetched().0 == before {
            return Ok(Outcome::says_nothing(
                case,
                "it did not fetch the key set".to_owned(),
            ));
        }
        let (strangers, why) = self.send(&kid, "stranger")?;
        if strangers == Verdict::Accepted {
            let mut forged = Outcome::new(case, strangers, format!("signed by a stranger: {why}"));
            forged.finding = Some(Grade::Must);
            return Ok(forged);
        }
        Ok(Outcome::new(case, verdict, detail))
    }

    fn send(&self, kid: &str, sign: &str) -> Result<(Verdict, String), TrialError> {
        let token = self.forge.named(kid, "RS256", sign, self.clock.now())?;
        Ok(self.judge.verdict(&self.target.send(&token), token.len()))
    }
}
