//! `keys`: commands for operators on the keys of a database, which may be in use.

pub mod render;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use clap::Subcommand;

use super::operator::{self, Output, checked_reason, confirm, number, parse_end};
use super::verify::{bounded, fetch_set};
use super::{Failure, fetch, print, runtime, say, service_settings};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::domain::adopted_keys::{self, PublicJwk};
use crate::domain::database;
use crate::domain::key_admin::{KeyOperations, RevokeError};
use crate::domain::key_adoption::AdoptError;
use crate::domain::rotation::{RotationError, Rsa2048};

/// Asked before an emergency.
const WARNING: &str = "Every key would leave the set at once, and verifiers that fetch it then would refuse every token signed so far.";

const ADOPTED: &str = "\
Taken are keys for signatures, each with a kid: RSA of 2048 to 8192 bits, EC on
P-256, P-384 and P-521, and Ed25519; at most 8 at once, and 16 with our own. A
key that is adopted already gets the new end; `keys revoke` takes one out at
once.";

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
        kid: String,
        /// Reason, shown by `keys history`
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// Publish another issuer's public keys beside our own until its tokens have expired; they never sign here
    #[command(after_help = ADOPTED)]
    Adopt {
        /// URL of its key set (https, or on this machine), or a file
        #[arg(value_name = "SOURCE")]
        source: String,
        /// When they leave the set: a time in UTC, or from now, such as 36h; the expiry of its last token
        #[arg(long, value_name = "TIME")]
        until: String,
        /// Reason, shown by `keys history`
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// Show the events of all keys: created, first signed, revoked, re-encrypted, deleted, adopted
    History {
        /// Number of the latest events
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = number)]
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
    let adopt = match &command {
        KeysCommand::Adopt { source, .. } => Some(key_set(source)?),
        _ => None,
    };
    let mut settings = operator::settings(env_file)?;
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
    runtime()?.block_on(run_on_database(command, adopt.unwrap_or_default(), config))
}

async fn run_on_database(
    command: KeysCommand,
    adopt: Vec<PublicJwk>,
    config: Config,
) -> Result<(), Failure> {
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
    let done = execute(command, adopt, &keys).await;
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

async fn execute(
    command: KeysCommand,
    adopt: Vec<PublicJwk>,
    keys: &KeyOperations,
) -> Result<(), Failure> {
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
            let revoked = keys.revoke(&kid, checked_reason(reason)?).await;
            revoked.map_err(|e| match e {
                RevokeError::Store(e) => failed(&e),
                refusal => Failure::refused(refusal.to_string()),
            })?;
            print(&render::revoked(&kid, output.json))
        }
        KeysCommand::Adopt {
            until,
            reason,
            output,
            ..
        } => {
            let until = parse_end("--until", &until, keys.clock.now())?;
            let kids: Vec<_> = adopt.iter().map(|key| key.kid().to_owned()).collect();
            let adopted = keys.adopt(adopt, until, checked_reason(reason)?).await;
            adopted.map_err(|e| match e {
                AdoptError::Store(e) => failed(&e),
                AdoptError::Rotation(e) => failed(&e),
                refusal => Failure::refused(refusal.to_string()),
            })?;
            print(&render::adopted(&kids, until, output.json))
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

/// The keys of a set at a URL or in a file. Without TLS anybody on the way could put a
/// key of his own into it, by which verifiers would take his tokens.
fn key_set(source: &str) -> Result<Vec<PublicJwk>, Failure> {
    let is_url = source.contains("://");
    if is_url && !source.starts_with("https://") && !fetch::is_on_this_machine(source) {
        return Err(Failure::refused(
            "a key set from another machine is fetched over https only; or fetch it in a way that you trust, and give the file",
        ));
    }
    let text = match is_url {
        true => fetch_set(source),
        false => File::open(source)
            .map_err(|e| e.to_string())
            .and_then(|file| bounded(file, fetch::MAX_BODY)),
    };
    let keys = text.and_then(|text| adopted_keys::parse(&text).map_err(|e| e.to_string()));
    keys.map_err(|why| Failure::refused(format!("the key set of {source} is not adopted: {why}")))
}
