//! `restore`: puts a backup in the place of the database.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::operator::{self, Output, confirm};
use super::terminal::{document, plain};
use super::{Failure, print};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::domain::backup::{RestoreError, restore};

/// Asked before.
const WARNING: &str = "Keys that were revoked and accounts that were disabled or deleted since the backup would be good again; all that came since would be set aside.";

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup; it stays
    path: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::File(_) => Self::broken(error.to_string()),
            refusal => Self::refused(refusal.to_string()),
        }
    }
}

pub(super) fn run(args: &RestoreArgs, env_file: Option<&Path>) -> Result<(), Failure> {
    confirm(WARNING, args.yes)?;
    let config = Config::from_settings(&operator::settings(env_file)?)?;
    let (keys, now) = (&config.keys, SystemClock::new().now());
    let Some(database) = config.database.file() else {
        return Err(Failure::refused(
            "restore puts back a file of SQLite; for PostgreSQL use pg_restore or a base backup",
        ));
    };
    let done = restore(&args.path, database, &keys.sealing_keys, &keys.policy, now)?;
    let replaced = done
        .replaced
        .map(|path| path.to_string_lossy().into_owned());
    if args.output.json {
        return print(&document(&json!({
            "restored": database.to_string_lossy(),
            "keys": done.keys,
            "replaced": replaced,
        })));
    }
    let kept = replaced.map_or(String::new(), |path| {
        format!("What was there is {} now.\n", plain(&path))
    });
    print(&format!(
        "{} has the backup, with {} keys. Start the service.\n{kept}",
        plain(&database.to_string_lossy()),
        done.keys
    ))
}
