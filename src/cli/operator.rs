//! What the commands for operators have in common.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;

use super::Failure;
use super::terminal::is_plain;

/// Bytes.
const MAX_REASON: usize = 500;

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Output {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Asks on a terminal; without one, requires --yes.
pub(super) fn confirm(warning: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::refused(format!("{warning} Add --yes to confirm")));
    }
    let _ = write!(std::io::stderr(), "{warning}\nType yes to continue: ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::refused("nothing was changed"))
    }
}

pub(super) fn checked_reason(reason: String) -> Result<String, Failure> {
    if reason.trim().is_empty() || reason.len() > MAX_REASON || !reason.chars().all(is_plain) {
        return Err(Failure::refused(format!(
            "--reason is one line of text, at most {MAX_REASON} bytes"
        )));
    }
    Ok(reason)
}
