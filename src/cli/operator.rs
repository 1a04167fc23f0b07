//! What the commands for operators have in common.

use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::UNIX_EPOCH;

use clap::Args;

use super::{Failure, say};
use crate::clock::UnixTime;
use crate::config::{self, ConfigError, Settings};
use crate::text::is_plain;

/// Bytes.
const MAX_REASON: usize = 500;

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Output {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The settings. Says when other users may have written the file that they are in.
pub(super) fn settings(env_file: Option<&Path>) -> Result<Settings, ConfigError> {
    let settings = Settings::load(env_file)?;
    if let Some(why) = config::open_to_others(&settings)? {
        say(why);
    }
    Ok(settings)
}

/// What the value of an option must be, for a command line whose value is not that.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Allowed(&'static str);

/// Rows of one page.
pub(super) fn page_size(text: &str) -> Result<u32, Allowed> {
    let size = text.parse().ok().filter(|size| (1..=10_000).contains(size));
    size.ok_or(Allowed("a number from 1 to 10000"))
}

pub(super) fn number(text: &str) -> Result<u32, Allowed> {
    text.parse().map_err(|_| Allowed("a whole number"))
}

pub(super) fn row_id(text: &str) -> Result<i64, Allowed> {
    text.parse().map_err(|_| Allowed("an id, a whole number"))
}

pub(super) fn address(text: &str) -> Result<IpAddr, Allowed> {
    let allowed = "an IP address, such as 192.0.2.1 or 2001:db8::1";
    text.parse().map_err(|_| Allowed(allowed))
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

/// A time in UTC, or one that is as long ago as the text says.
pub(super) fn parse_time(option: &str, text: &str, now: UnixTime) -> Result<UnixTime, Failure> {
    match humantime::parse_duration(text) {
        Ok(age) => Ok(now - age),
        Err(_) => parse_utc(option, text, "an age, such as 90d"),
    }
}

/// A time in UTC, or one that is as far ahead as the text says.
pub(super) fn parse_end(option: &str, text: &str, now: UnixTime) -> Result<UnixTime, Failure> {
    match humantime::parse_duration(text) {
        Ok(ahead) => Ok(now + ahead),
        Err(_) => parse_utc(option, text, "a time from now, such as 36h"),
    }
}

fn parse_utc(option: &str, text: &str, other: &str) -> Result<UnixTime, Failure> {
    let midnight = format!("{text}T00:00:00Z");
    let time = humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339(&midnight));
    let since = time.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let since = since.ok_or_else(|| {
        Failure::refused(format!(
            "{option} is a time in UTC, such as 2027-01-15 or 2027-01-15T08:00:00Z, or {other}"
        ))
    })?;
    Ok(UnixTime::from_secs(0) + since)
}
