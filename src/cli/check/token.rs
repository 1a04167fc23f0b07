//! A token of the issuer, and the key of the set that it names.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::report::Report;
use crate::cli::verify::{MAX_TOKEN, bounded, unwrapped};
use crate::cli::{Failure, runtime};
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::domain::verification::{self, Cause, Expectations, KeySet};

const CHECK: &str = "token";
const LEEWAY: Duration = Duration::from_secs(60);
/// Longest wait for a command that prints a token.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Process group of the token command that runs.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);
/// Exit codes after SIGINT and SIGTERM, as shells give them.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

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
            (None, Some(line)) => {
                end_command_on_signal()?;
                Self::Line(line.to_owned())
            }
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
    let mut running = RUNNING.lock();
    let child = command.stdout(Stdio::piped()).process_group(0).spawn();
    let child = child.map_err(|e| format!("--token-command: {e}"))?;
    let group = Pid::from_child(&child);
    *running = Some(group);
    drop(running);
    let (said, heard) = mpsc::channel();
    thread::spawn(move || said.send(output(child)));
    let printed = heard.recv_timeout(TIMEOUT).unwrap_or_else(|_| {
        let _ = kill_process_group(group, Signal::KILL);
        let limit = TIMEOUT.as_secs();
        Err(format!("--token-command did not end within {limit} s"))
    });
    *RUNNING.lock() = None;
    printed
}

/// A terminal sends its signals to the group in the foreground, which the command's is not.
fn end_command_on_signal() -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::broken(format!("signals cannot be handled: {e}"));
    let runtime = runtime()?;
    let context = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    drop(context);
    thread::spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => INTERRUPTED,
                _ = terminate.recv() => TERMINATED,
            }
        });
        // Held to the end, so that no other command starts.
        let running = RUNNING.lock();
        if let Some(group) = *running {
            let _ = kill_process_group(group, Signal::KILL);
        }
        std::process::exit(code);
    });
    Ok(())
}

fn output(mut child: Child) -> Result<String, String> {
    let failed = |why: String| format!("--token-command: {why}");
    // When it prints more, closing its output ends it.
    let printed = child.stdout.take().map(|out| bounded(out, MAX_TOKEN));
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    let printed = printed.transpose().map_err(failed)?.unwrap_or_default();
    match status.success() {
        true => Ok(text(&printed)),
        false => Err(format!("--token-command ended with {status}")),
    }
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
