//! A token of the issuer, and the key of the set that it names.

use std::io::{self, Cursor};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cli::Failure;
use crate::cli::report::Report;
use crate::cli::verify::{MAX_TOKEN, bounded, unwrapped};
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::domain::verification::{self, Cause, Expectations, KeySet};

const CHECK: &str = "token";
const LEEWAY: Duration = Duration::from_secs(60);

/// Source of tokens.
pub(super) enum Tokens {
    None,
    One(String),
    /// A command of the shell.
    Line(String),
}

impl Tokens {
    pub(super) fn new(token: Option<&str>, line: Option<&str>) -> Result<Self, Failure> {
        let read = |why: String| Failure::refused(format!("the token cannot be read: {why}"));
        Ok(match (token, line) {
            (Some("-"), _) => {
                let bytes = bounded(io::stdin().lock(), MAX_TOKEN).map_err(read)?;
                Self::One(text(&bytes))
            }
            (Some(token), _) => Self::One(text(token.as_bytes())),
            (None, Some(line)) => Self::Line(line.to_owned()),
            (None, None) => Self::None,
        })
    }

    /// A token, and a new one each time when there is a command.
    pub(super) fn next(&self) -> Option<Result<String, String>> {
        match self {
            Self::None => None,
            Self::One(token) => Some(Ok(token.clone())),
            Self::Line(line) => Some(run(line)),
        }
    }

    /// True when each token is issued at the moment that it is asked for.
    pub(super) fn are_fresh(&self) -> bool {
        matches!(self, Self::Line(_))
    }
}

fn text(bytes: &[u8]) -> String {
    unwrapped(&String::from_utf8_lossy(bytes)).token
}

fn run(line: &str) -> Result<String, String> {
    let mut command = Command::new("/bin/sh");
    let command = command.args(["-c", line]).stdin(Stdio::null());
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("--token-command: {e}"))?;
    if !output.status.success() {
        return Err(format!("--token-command ended with {}", output.status));
    }
    bounded(Cursor::new(output.stdout), MAX_TOKEN).map(|bytes| text(&bytes))
}

/// kid and `exp` of a token, of which nothing is checked.
pub(super) fn kid_and_exp(token: &str) -> Option<(String, UnixTime)> {
    let (header, claims) = verification::contents(token)?;
    let exp = claims["exp"].as_i64()?;
    Some((header["kid"].as_str()?.to_owned(), UnixTime::from_secs(exp)))
}

pub(super) fn check(tokens: &mut Tokens, set: &[u8], issuer: Option<String>, report: &mut Report) {
    const ADVICE: &str = "see `verify` for each step; a verifier refuses this token";
    let token = match tokens.next() {
        None => return,
        Some(Err(why)) => return report.fail(CHECK, why, "let it print a token"),
        Some(Ok(token)) => token,
    };
    let Ok(set) = KeySet::parse(set) else { return };
    let expected = Expectations {
        issuer,
        audience: None,
        leeway: LEEWAY,
    };
    let steps = verification::verify(&token, &set, &expected, SystemClock::new().now());
    let failed = |it: &&verification::Step| matches!(it.outcome, verification::Outcome::Failed(_));
    match (verification::cause(&steps), steps.iter().find(failed)) {
        (None, _) => report.ok(CHECK, "its key is in the set and verifies it"),
        (Some(Cause::Algorithm), Some(step)) => {
            let text = format!("not verified: {}", step.detail);
            report.warn(CHECK, text, "only RS256 can be verified here");
        }
        (Some(cause), step) => {
            let detail = step.map(|step| step.detail.as_str()).unwrap_or_default();
            report.fail(CHECK, format!("{}: {detail}", cause.name()), ADVICE);
        }
    }
}
