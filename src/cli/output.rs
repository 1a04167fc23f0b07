//! Writes to standard output and standard error, of which either may be closed or stall.

use std::io::Write as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{Failure, terminal};

/// Longest wait at the end of the process for a standard error that stalls.
pub(super) const FINAL_WRITE: Duration = Duration::from_secs(1);

/// Prints the output of a command as it is: who prints what the database holds has it
/// through [`terminal::plain`] first. A closed pipe, as `head` leaves it, is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_part(text).map(drop)
}

/// Prints a part of the output; false when nobody reads it any more.
pub(super) fn print_part(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Failure::broken(format!(
            "the output cannot be written: {e}"
        ))),
    }
}

/// Writes one line to standard error, which may be closed or stall for ever: the
/// log's thread may hold its lock.
pub(super) fn say(text: &str) {
    // Paths and what the database holds may have any characters.
    let text = terminal::plain(&text.replace('\n', " "));
    let line = format!("jwks-server: {text}\n");
    let copy = line.clone();
    let write = |line: &str| {
        let _ = std::io::stderr().write_all(line.as_bytes());
    };
    if !for_at_most(FINAL_WRITE, move || write(&copy)) {
        write(&line);
    }
}

/// Runs `work`, which may never end, on a thread of its own and waits for at most
/// `limit`. False when no thread could be started.
pub(super) fn for_at_most(limit: Duration, work: impl FnOnce() + Send + 'static) -> bool {
    // Ends with the work, also when that panics.
    let (working, ended) = mpsc::channel::<()>();
    let thread = thread::Builder::new().spawn(move || {
        let _working = working;
        work();
    });
    if thread.is_ok() {
        let _ = ended.recv_timeout(limit);
    }
    thread.is_ok()
}

#[cfg(test)]
#[path = "../../tests/unit/output.rs"]
mod tests;
