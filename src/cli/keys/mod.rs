//! `keys`: commands for operators on the keys of a database, which may be in use.

pub mod render;

use std::path::Path;
use std::sync::Arc;

use clap::Subcommand;

use super::operator::{Output, checked_reason, confirm};
use super::{Failure, print, runtime, say, service_settings};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Settings};
use crate::domain::database;
use crate::domain::key_admin::{KeyOperations, RevokeError};
use crate::domain::rotation::{RotationError, Rsa2048};
use crate::lifecycle::Kid;

/// Asked before an emergency.
const WARNING: &str = "Every key leaves the set at once; verifiers that fetch it then refuse every token signed so far.";

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List all keys with their times
    List(Output),
    /// Publish a new key, which signs after KEY_LEAD; or, with --now, replace all keys at once
    Rotate {
        /// Emergency: every key leaves the set at once and a new one signs; verifiers refuse old tokens once they fetch the set
        #[arg(long = "now", requires = "reason")]
        emergency: bool,
        /// Reason, shown by `keys history`
        #[arg(long, value_name = "TEXT", requires = "emergency")]
        reason: Option<String>,
        /// Do not ask
        #[arg(long, requires = "emergency")]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Take one key out of the set at once; verifiers refuse its tokens once they fetch the set
    Revoke {
        /// Kid of the key, as `keys list` shows it
        kid: i64,
        /// Reason, shown by `keys history`
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// Show the events of all keys: created, first signed, revoked, re-encrypted, deleted
    History {
        /// Number of the latest events
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        output: Output,
    },
    /// Encrypt all keys under the first entry of NOT_MY_KEY
    Reencrypt(Output),
}

pub(super) fn run(command: KeysCommand, env_file: Option<&Path>) -> Result<(), Failure> {
    if let KeysCommand::Rotate {
        emergency: true,
        yes,
        ..
    } = command
    {
        confirm(WARNING, yes)?;
    }
    let mut settings = Settings::load(env_file)?;
    for difference in service_settings::apply(&mut settings).differences {
        say(&difference);
    }
    let config = Config::from_settings(&settings)?;
    match command {
        KeysCommand::List(output) => return list(&config, output),
        KeysCommand::History { limit, output } => {
            let events = database::key_history(&config.database, limit)?;
            return print(&render::history(&events, output.json));
        }
        _ => {}
    }
    runtime()?.block_on(run_on_database(command, config))
}

async fn run_on_database(command: KeysCommand, config: Config) -> Result<(), Failure> {
    if matches!(
        command,
        KeysCommand::Revoke { .. }
            | KeysCommand::Rotate {
                emergency: true,
                ..
            }
    ) {
        database::free_reserve(&config.database);
    }
    let store = database::open_existing(&config.database, &config.keys.sealing_keys).await?;
    let keys = KeyOperations {
        store: store.clone(),
        sealing_keys: config.keys.sealing_keys,
        source: Arc::new(Rsa2048),
        policy: config.keys.policy,
        clock: Arc::new(SystemClock::new()),
    };
    let done = execute(command, &keys).await;
    store.close().await;
    done
}

/// Changes nothing, so that it works beside a service of any user and version.
fn list(config: &Config, output: Output) -> Result<(), Failure> {
    let (now, keys) = (SystemClock::new().now(), &config.keys);
    let (listed, bad) =
        database::list_keys(&config.database, &keys.sealing_keys, &keys.policy, now)?;
    print(&render::list(&listed, &bad, now, output.json))
}

async fn execute(command: KeysCommand, keys: &KeyOperations) -> Result<(), Failure> {
    let failed = |e: &dyn std::error::Error| Failure::broken(e.to_string());
    match command {
        // These open no database for writing; see `run`.
        KeysCommand::List(_) | KeysCommand::History { .. } => Ok(()),
        KeysCommand::Rotate {
            emergency: false,
            output,
            ..
        } => {
            let (kid, signs_from) = keys.rotate().await.map_err(|e| match e {
                RotationError::TooMany(_) => Failure::refused(e.to_string()),
                e => failed(&e),
            })?;
            print(&render::rotated(kid, signs_from, output.json))
        }
        KeysCommand::Rotate { reason, output, .. } => {
            let reason = checked_reason(reason.unwrap_or_default())?;
            let (kid, revoked) = keys
                .emergency_rotate(reason)
                .await
                .map_err(|e| failed(&e))?;
            print(&render::emergency_rotated(kid, &revoked, output.json))
        }
        KeysCommand::Revoke {
            kid,
            reason,
            output,
        } => {
            let kid = Kid::from_row(kid);
            let revoked = keys.revoke(kid, checked_reason(reason)?).await;
            revoked.map_err(|e| match e {
                RevokeError::Store(e) => failed(&e),
                refusal => Failure::refused(refusal.to_string()),
            })?;
            print(&render::revoked(kid, output.json))
        }
        KeysCommand::Reencrypt(output) => {
            let done = keys.reencrypt().await.map_err(|e| failed(&e))?;
            print(&render::reencrypted(done, output.json))?;
            if done.unreadable == 0 {
                return Ok(());
            }
            Err(Failure::broken(format!(
                "{} keys open under no entry of NOT_MY_KEY and were not changed; `keys list` names them",
                done.unreadable
            )))
        }
    }
}
