//! The configuration: what may be set, within which bounds, and what is said
//! when it is not. The one reader of the environment; may touch the other
//! rooms only for the types of its values.

mod dotenv;
mod settings;
#[cfg(test)]
mod tests;
mod times;
mod values;

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use tracing_subscriber::filter::Targets;

use crate::crypto::fernet::SealingKeys;
use crate::crypto::password::{Costs, MAX_PASSWORD_LEN};
use crate::domain::issuer::Issuer;
use crate::domain::names::Username;
use crate::lifecycle::Policy;
pub use dotenv::FILE;
pub use settings::Settings;
pub(crate) use values::shown;

/// How a new key is made, for messages.
const HOW_TO_MAKE_A_KEY: &str = "make one with `jwks-server keygen`";

/// Everything that can be set, checked.
#[derive(Debug)]
pub struct Config {
    /// `NOT_MY_KEY`, required: Fernet keys separated by commas.
    pub secrets: Arc<SealingKeys>,
    /// `HOST`, by default `localhost`: an address, or a name that is looked up.
    pub host: String,
    /// `PORT`, by default 8080; 0 picks one.
    pub port: u16,
    /// `APP_ENV`, or `FLASK_ENV` of the earlier server; by default development.
    pub mode: Mode,
    /// `DATABASE_URL`, by default `sqlite:totally_not_my_privateKeys.db`.
    pub database: PathBuf,
    /// `TRUSTED_PROXIES`, by default none: networks whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// `ISSUER`, by default none: the claim `iss` and the discovery documents.
    pub issuer: Option<Issuer>,
    /// `AUDIENCE`, by default none: the claim `aud`.
    pub audience: Option<String>,
    /// `KEY_LIFETIME` 1h, `TOKEN_LIFETIME` 30m, `KEY_LEAD` 10m, `CLOCK_SKEW`
    /// 60s, `KEY_RETENTION` 7d.
    pub policy: Policy,
    /// `JWKS_MAX_AGE`, by default 5m and never over `KEY_LEAD`.
    pub jwks_max_age: Duration,
    /// `ARGON2_MEMORY_KIB` 19456, `ARGON2_PASSES` 2, `ARGON2_LANES` 1.
    pub costs: Costs,
    /// `AUTH_RATE`, by default 10: sign-ins a second and client address.
    pub auth_rate: NonZeroU32,
    /// `METRICS_ADDR`, by default none: host and port of a listener of its own.
    pub metrics: Option<(String, u16)>,
    /// `DEMO_USER`, by default none: NAME:PASSWORD, several separated by blanks.
    pub demo_users: Vec<DemoUser>,
    /// `RUST_LOG`, by default by [`Mode`].
    pub log_filter: Option<Targets>,
    /// What is worth a line in the log once there is one.
    pub notices: Vec<String>,
}

/// What the service is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A log for people, our own code at level debug.
    Development,
    /// A log of JSON lines at level info.
    Production,
}

/// An account with a password that was chosen for it, for demonstrations.
#[derive(Clone, Debug)]
pub struct DemoUser {
    /// Its name.
    pub username: Username,
    /// Its password.
    pub password: SecretString,
}

/// What is wrong with the configuration, in one line that names the variable
/// and the mend. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// An error of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks all settings.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let mut notices: Vec<_> = settings
            .empty()
            .map(|name| format!("{name} is empty, which counts as not set"))
            .collect();
        let (policy, jwks_max_age) = times::policy(settings)?;
        Ok(Self {
            secrets: Arc::new(secrets(settings)?),
            host: values::host(settings)?,
            port: port(settings)?,
            mode: mode(settings, &mut notices)?,
            database: values::database(settings)?,
            trusted_proxies: values::networks(settings)?,
            issuer: issuer(settings)?,
            audience: settings.get("AUDIENCE").map(str::to_owned),
            policy,
            jwks_max_age,
            costs: values::costs(settings)?,
            auth_rate: values::auth_rate(settings)?,
            metrics: values::metrics(settings)?,
            demo_users: demo_users(settings)?,
            log_filter: values::log_filter(settings)?,
            notices,
        })
    }

    /// Everything that is wrong with the settings, where
    /// [`from_settings`](Self::from_settings) stops at the first thing.
    pub fn problems(settings: &Settings) -> Vec<ConfigError> {
        let found = [
            secrets(settings).err(),
            values::host(settings).err(),
            port(settings).err(),
            mode(settings, &mut Vec::new()).err(),
            values::database(settings).err(),
            values::networks(settings).err(),
            issuer(settings).err(),
            values::costs(settings).err(),
            values::auth_rate(settings).err(),
            values::metrics(settings).err(),
            demo_users(settings).err(),
            values::log_filter(settings).err(),
        ];
        let found = found.into_iter().flatten();
        found.chain(times::problems(settings)).collect()
    }
}

/// The database that `settings` name, also when nothing else is set.
pub fn database(settings: &Settings) -> Result<PathBuf, ConfigError> {
    values::database(settings)
}

/// Where the service listens (`HOST` and `PORT`), also when nothing else is set.
pub fn address(settings: &Settings) -> Result<(String, u16), ConfigError> {
    Ok((values::host(settings)?, port(settings)?))
}

/// Reads NAME:PASSWORD.
pub fn demo_user(text: &str) -> Result<DemoUser, ConfigError> {
    let (name, password) = text
        .split_once(':')
        .filter(|(_, password)| !password.is_empty())
        .ok_or_else(|| ConfigError::new("it is not NAME:PASSWORD"))?;
    if password.len() > MAX_PASSWORD_LEN {
        return Err(ConfigError::new(format!(
            "the password is longer than {MAX_PASSWORD_LEN} bytes, which no sign-in takes"
        )));
    }
    Ok(DemoUser {
        username: Username::parse(name).map_err(|e| ConfigError::new(e.to_string()))?,
        password: password.to_owned().into(),
    })
}

fn demo_users(settings: &Settings) -> Result<Vec<DemoUser>, ConfigError> {
    let list = settings.get("DEMO_USER").unwrap_or_default();
    list.split_whitespace()
        .map(|entry| demo_user(entry).map_err(|e| ConfigError::new(format!("DEMO_USER: {e}"))))
        .collect()
}

fn port(settings: &Settings) -> Result<u16, ConfigError> {
    values::number(settings, "PORT", 8080, 0..=65_535)
}

fn secrets(settings: &Settings) -> Result<SealingKeys, ConfigError> {
    let Some(text) = settings.get("NOT_MY_KEY") else {
        return Err(ConfigError::new(format!(
            "NOT_MY_KEY is not set: start with --init to have {FILE} made with a fresh key, or {HOW_TO_MAKE_A_KEY} and put NOT_MY_KEY=<key> into {FILE}"
        )));
    };
    SealingKeys::parse(text).map_err(|e| {
        ConfigError::new(format!(
            "NOT_MY_KEY is not a Fernet key, which is 32 bytes in url-safe base64, or several separated by commas: {e}; {HOW_TO_MAKE_A_KEY}"
        ))
    })
}

fn issuer(settings: &Settings) -> Result<Option<Issuer>, ConfigError> {
    let text = settings.get("ISSUER");
    text.map(|text| {
        Issuer::parse(text).map_err(|why| {
            ConfigError::new(format!(
                "ISSUER={:?} is no issuer identifier, such as https://issuer.example: {why}",
                shown(text)
            ))
        })
    })
    .transpose()
}

fn mode(settings: &Settings, notices: &mut Vec<String>) -> Result<Mode, ConfigError> {
    match settings.get("APP_ENV") {
        Some("development") => return Ok(Mode::Development),
        Some("production") => return Ok(Mode::Production),
        Some(other) => {
            return Err(ConfigError::new(format!(
                "APP_ENV={:?} is not understood: it is development or production",
                shown(other)
            )));
        }
        None => {}
    }
    match settings.get("FLASK_ENV") {
        Some("production") => return Ok(Mode::Production),
        None | Some("development") => {}
        // Flask let it be any word.
        Some(other) => notices.push(format!(
            "FLASK_ENV={:?} is not understood and taken as development; set APP_ENV to development or production",
            shown(other)
        )),
    }
    Ok(Mode::Development)
}
