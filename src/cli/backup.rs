//! `backup`: copies the database, which may be in use, and verifies the copy.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::operator::{self, Output};
use super::terminal::document;
use super::{Failure, print};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::domain::backup::{BackupError, back_up};

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// New file; nobody but its owner can read it
    path: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::File(_) | BackupError::Damaged(_) => Self::broken(error.to_string()),
            refusal => Self::refused(refusal.to_string()),
        }
    }
}

pub(super) fn run(args: &BackupArgs, env_file: Option<&Path>) -> Result<(), Failure> {
    let config = Config::from_settings(&operator::settings(env_file)?)?;
    let (keys, now) = (&config.keys, SystemClock::new().now());
    let Some(file) = config.database.file() else {
        return Err(Failure::refused(
            "backup copies a file of SQLite; for PostgreSQL use pg_dump or a base backup",
        ));
    };
    let done = back_up(file, &args.path, &keys.sealing_keys, &keys.policy, now)?;
    let shown = args.path.to_string_lossy();
    print(&match args.output.json {
        true => document(&json!({
            "backup": shown,
            "keys": done.keys,
            "unopened": done.unopened,
        })),
        false => format!(
            "{shown} is a whole and sound copy, with {} keys.\nKeep NOT_MY_KEY elsewhere, but keep it: without it the keys in the copy are lost, and with it whoever has the copy can sign.\n",
            done.keys
        ),
    })?;
    if done.unopened == 0 {
        return Ok(());
    }
    Err(Failure::broken(format!(
        "{} keys of it open under no entry of NOT_MY_KEY; `keys list` names them",
        done.unopened
    )))
}
