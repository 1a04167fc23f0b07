//! `db`: the database as a whole.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::operator::{self, Output};
use super::terminal::{document, plain};
use super::{Failure, print};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Config};
use crate::domain::copy::{self, Copied, CopyError};
use crate::domain::database::Location;

/// Rows between two lines of progress.
const PROGRESS: u64 = 50_000;

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// Copy the database of DATABASE_URL, a file of SQLite, to an empty one on PostgreSQL, or back
    Copy {
        /// postgres://user@host/database, or sqlite:PATH
        #[arg(long, value_name = "URL")]
        to: String,
        /// Copy although a server may be writing: the copy has the state of one moment
        #[arg(long)]
        live_ok: bool,
        #[command(flatten)]
        output: Output,
    },
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Failed(_) | CopyError::Unknown(_) => Self::broken(error.to_string()),
            refusal => Self::refused(refusal.to_string()),
        }
    }
}

pub(super) fn run(command: DbCommand, env_file: Option<&Path>) -> Result<(), Failure> {
    let DbCommand::Copy {
        to,
        live_ok,
        output,
    } = command;
    let settings = operator::settings(env_file)?;
    let config = Config::from_settings(&settings)?;
    let to = config::database_at(&settings, "--to", &to)?;
    let from = &config.database;
    let (sealing_keys, now) = (&config.keys.sealing_keys, SystemClock::new().now());
    let copied = copy::copy([from, &to], live_ok, sealing_keys, now, &progress)?;
    print(&match output.json {
        true => as_json(from, &to, &copied),
        false => as_text(&to, &copied),
    })
}

fn progress(table: &str, rows: u64) {
    let mut stderr = std::io::stderr();
    if rows.is_multiple_of(PROGRESS) && stderr.is_terminal() {
        // A terminal that is gone is no reason to stop.
        let _ = writeln!(stderr, "{rows} rows of {table}");
    }
}

fn as_json(from: &Location, to: &Location, copied: &Copied) -> String {
    let rows = copied.rows.iter();
    let rows: Map<_, _> = rows
        .map(|&(table, rows)| (table.to_owned(), Value::from(rows)))
        .collect();
    document(&json!({
        "from": from.to_string(),
        "to": to.to_string(),
        "rows": rows,
        "unopened": copied.unopened,
    }))
}

fn as_text(to: &Location, copied: &Copied) -> String {
    let rows = |table| {
        let mut found = copied.rows.iter().filter(|(name, _)| *name == table);
        found.next().map_or(0, |(_, rows)| *rows)
    };
    let counted = |table, noun| match rows(table) {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    };
    let unopened = match copied.unopened {
        0 => "every key opens".to_owned(),
        1 => "1 expired key opens under no entry of NOT_MY_KEY".to_owned(),
        count => format!("{count} expired keys open under no entry of NOT_MY_KEY"),
    };
    format!(
        "{} has {}, {}, {} and all that belongs to them; {unopened}.\nSet DATABASE_URL to it, keep NOT_MY_KEY, and start the service.\n",
        plain(&to.to_string()),
        counted("keys", "key"),
        counted("users", "account"),
        counted("auth_logs", "sign-in"),
    )
}
