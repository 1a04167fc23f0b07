//! `audit`: commands for operators on the recorded sign-ins of a database, which may be
//! in use.

pub mod render;

use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::operator::{self, Output, address, confirm, page_size, parse_time, row_id};
use super::{Failure, print, print_part, runtime};
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::config::{self, Config};
use crate::domain::account_admin::AccountError;
use crate::domain::audit::{self, AuditError, KeepFileError, Pruned};
use crate::domain::database::{self, Location, SignInFilter};

/// Rows of an export that are in memory at once.
const PAGE: u32 = 5000;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List the latest sign-ins
    List {
        #[command(flatten)]
        wanted: Wanted,
        /// Number of sign-ins, at most 10000
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = page_size)]
        limit: u32,
        /// The next page: only sign-ins with a smaller id
        #[arg(long, value_name = "ID", value_parser = row_id)]
        below: Option<i64>,
        #[command(flatten)]
        output: Output,
    },
    /// Print all sign-ins, the oldest first, as CSV, or as one JSON object a line
    Export {
        #[command(flatten)]
        wanted: Wanted,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Delete old sign-ins, in small steps beside a running server
    Prune {
        /// Delete those before this time: 2027-01-15, 2027-01-15T08:00:00Z, or 90d for that long ago
        #[arg(long, value_name = "TIME")]
        before: String,
        /// Append them to this file first, as JSON lines; deleted is only what is on disk in it
        #[arg(long, value_name = "FILE")]
        keep_file: Option<PathBuf>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// Only those of this account
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only those from this client address
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    address: Option<IpAddr>,
    /// Only from this time on: 2027-01-15, 2027-01-15T08:00:00Z, or 90d for that long ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::KeepFile(KeepFileError::Locked | KeepFileError::Foreign) => {
                Self::refused(error.to_string())
            }
            failed => Self::broken(failed.to_string()),
        }
    }
}

pub(super) fn run(command: AuditCommand, env_file: Option<&Path>) -> Result<(), Failure> {
    let now = SystemClock::new().now();
    let config = Config::from_settings(&operator::settings(env_file)?)?;
    let at = &config.database;
    match command {
        AuditCommand::List {
            wanted,
            limit,
            below,
            output,
        } => {
            let filter = SignInFilter {
                newest_first: true,
                past: below,
                // One more tells whether there is another page.
                limit: limit + 1,
                ..filter(wanted, at, now)?
            };
            let mut found = database::list_sign_ins(at, &filter)?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let is_cut = found.len() > limit;
            found.truncate(limit);
            print(&render::list(&found, is_cut, output.json))
        }
        AuditCommand::Export { wanted, json } => export(filter(wanted, at, now)?, at, json),
        AuditCommand::Prune {
            before,
            keep_file,
            yes,
            output,
        } => {
            let before = parse_time("--before", &before, now)?;
            let warning = format!(
                "All sign-ins before {} would be deleted for good.",
                before.rfc3339()
            );
            confirm(&warning, yes || keep_file.is_some())?;
            let keep = keep_file.as_deref();
            let pruned = runtime()?.block_on(prune(&config, before, keep))?;
            print(&render::pruned(pruned, before, keep, output.json))
        }
    }
}

fn filter(wanted: Wanted, at: &Location, now: UnixTime) -> Result<SignInFilter, Failure> {
    let time = |option, text: Option<String>| {
        let time = text.map(|text| parse_time(option, &text, now));
        time.transpose()
    };
    let account = match wanted.user {
        Some(name) => Some(
            database::account(at, &name)?
                .ok_or(AccountError::Unknown)?
                .id,
        ),
        None => None,
    };
    let since = time("--since", wanted.since)?;
    let until = time("--until", wanted.until)?;
    if since
        .zip(until)
        .is_some_and(|(since, until)| until <= since)
    {
        return Err(Failure::refused("--since is not before --until"));
    }
    Ok(SignInFilter {
        account,
        client: wanted.address.map(|address| address.to_string()),
        since,
        until,
        ..SignInFilter::default()
    })
}

/// Prints page by page, each in a read of its own: a long one would keep the
/// write-ahead log of a running server from shrinking.
fn export(mut filter: SignInFilter, at: &Location, json: bool) -> Result<(), Failure> {
    filter.limit = PAGE;
    let mut progress = Progress::start(at)?;
    if !json && !print_part(render::CSV_HEADER)? {
        return Ok(());
    }
    loop {
        let found = database::list_sign_ins(at, &filter)?;
        let Some(last) = found.last() else {
            return Ok(());
        };
        filter.past = Some(last.id);
        if !print_part(&render::export(&found, json))? {
            return Ok(());
        }
        progress.show(last.id);
    }
}

async fn prune(config: &Config, before: UnixTime, keep: Option<&Path>) -> Result<Pruned, Failure> {
    let mut progress = Progress::start(&config.database)?;
    let store = database::open_existing(&config.database, &config.keys.sealing_keys).await?;
    let pruned = audit::prune(&store, before, keep, |id| progress.show(id)).await;
    store.close().await;
    Ok(pruned?)
}

/// A line on the terminal of standard error that is written over and over.
struct Progress {
    /// The first id and the last one, if there is a terminal that nothing else is
    /// written to.
    ids: Option<(i64, i64)>,
    is_shown: bool,
}

impl Progress {
    fn start(at: &Location) -> Result<Self, Failure> {
        let mut ids = None;
        let can_draw = std::io::stderr().is_terminal() && !config::terminal::is_dumb();
        if can_draw && !std::io::stdout().is_terminal() {
            let end = |newest_first| {
                let filter = SignInFilter {
                    newest_first,
                    limit: 1,
                    ..SignInFilter::default()
                };
                let found = database::list_sign_ins(at, &filter);
                found.map(|rows| rows.first().map(|row| row.id))
            };
            ids = end(false)?.zip(end(true)?);
        }
        Ok(Self {
            ids,
            is_shown: false,
        })
    }

    fn show(&mut self, id: i64) {
        if let Some((first, last)) = self.ids {
            let line = render::progress(first, last, id);
            let _ = write!(std::io::stderr(), "\r{line}");
            self.is_shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = writeln!(std::io::stderr());
        }
    }
}
