//! The configuration: what may be set, within which bounds, and what is said
//! when it is not. The one reader of the environment, but for systemd's variables.
//! CONTRIBUTING.md lists the files of a new setting.

mod demo_user;
mod dotenv;
mod settings;
pub mod terminal;
mod times;
mod values;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use strum::EnumString;
use tracing_subscriber::filter::Targets;
use zeroize::Zeroizing;

use crate::crypto::fernet::{SealingKeys, is_guessable};
use crate::crypto::password::Costs;
use crate::domain::database::Location;
use crate::domain::issuer::Issuer;
use crate::domain::tokens::Audience;
use crate::lifecycle::Policy;
use crate::text::plain;
pub use demo_user::{DemoUser, demo_user};
pub use dotenv::FILE;
pub use settings::{Name, Settings, name};
pub(crate) use values::redacted;
pub use values::{database, database_at};

const HOW_TO_MAKE_A_KEY: &str = "make one with `jwks-server keygen`";

/// All settings, valid.
#[derive(Debug)]
pub struct Config {
    pub keys: KeyConfig,
    pub network: NetworkConfig,
    pub tokens: TokenConfig,
    pub accounts: AccountConfig,
    /// `DATABASE_URL`, by default `sqlite:totally_not_my_privateKeys.db`; for PostgreSQL
    /// also `PGPASSWORD`, `PGPASSFILE` and `PGSSLROOTCERT`, by default none.
    pub database: Location,
    /// `APP_ENV`, or `FLASK_ENV` of the earlier server; by default development.
    pub mode: Mode,
    /// `RUST_LOG`, by default by [`Mode`].
    pub log_filter: Option<Targets>,
    /// Warnings for the log.
    pub warnings: Vec<String>,
}

#[derive(Debug)]
pub struct KeyConfig {
    /// `NOT_MY_KEY`, required: Fernet keys separated by commas; or in the file that
    /// `NOT_MY_KEY_FILE` names.
    pub sealing_keys: Arc<SealingKeys>,
    /// `KEY_LIFETIME` 1h, `TOKEN_LIFETIME` 30m, `KEY_LEAD` 10m, `CLOCK_SKEW`
    /// 60s, `KEY_RETENTION` 7d.
    pub policy: Policy,
    /// `JWKS_MAX_AGE`, by default 5m and never over `KEY_LEAD`.
    pub jwks_max_age: Duration,
}

#[derive(Debug)]
pub struct NetworkConfig {
    /// `HOST`, by default `localhost`: an address, or a name that is resolved.
    pub host: String,
    /// `PORT`, by default 8080; 0 picks one.
    pub port: u16,
    /// `METRICS_ADDR`, by default none: host and port of a listener of its own.
    pub metrics: Option<(String, u16)>,
    /// `TRUSTED_PROXIES`, by default none: networks whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
}

#[derive(Debug)]
pub struct TokenConfig {
    /// `ISSUER`, by default none: the claim `iss` and the discovery documents.
    pub issuer: Option<Issuer>,
    /// `AUDIENCE`, by default none: the claim `aud`; several are separated by commas.
    pub audience: Option<Audience>,
}

#[derive(Debug)]
pub struct AccountConfig {
    /// `ARGON2_MEMORY_KIB` 19456, `ARGON2_PASSES` 2, `ARGON2_LANES` 1.
    pub costs: Costs,
    /// `AUTH_RATE`, by default 10: sign-ins a second and client address.
    pub auth_rate: NonZeroU32,
    /// `REGISTER_RATE`, by default 10: sign-ups a second and client address.
    pub register_rate: NonZeroU32,
    /// `AUDIT_RETENTION`, by default none: sign-ins older than this are deleted.
    pub audit_retention: Option<Duration>,
    /// `DEMO_USER`, by default none: NAME:PASSWORD, several separated by spaces.
    pub demo_users: Vec<DemoUser>,
}

/// Use of the service, for the defaults of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Mode {
    /// A log for people, with the service's own code at level debug.
    Development,
    /// A log of JSON lines at level info.
    Production,
}

/// One line that says what is wrong with the configuration, names the variable
/// and says what is allowed. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// One line without what a terminal obeys: a value or a path may have any characters.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(plain(text.as_ref()))
    }
}

/// Settings that the service records in the database.
const RECORDED: &[Name] = &[
    name::HOST,
    name::PORT,
    name::KEY_LIFETIME,
    name::TOKEN_LIFETIME,
    name::KEY_LEAD,
    name::CLOCK_SKEW,
    name::KEY_RETENTION,
    name::JWKS_MAX_AGE,
];

/// How far the clock of PostgreSQL may be off.
fn clock_tolerance(policy: &Policy) -> Duration {
    policy.skew / 2
}

impl Config {
    pub fn clock_tolerance(&self) -> Duration {
        clock_tolerance(&self.keys.policy)
    }

    /// The settings to record, in one way of writing each.
    pub fn recorded(&self) -> Vec<(String, String)> {
        let policy = self.keys.policy;
        let times = [
            (name::KEY_LIFETIME, policy.key_lifetime),
            (name::TOKEN_LIFETIME, policy.token_lifetime),
            (name::KEY_LEAD, policy.lead),
            (name::CLOCK_SKEW, policy.skew),
            (name::KEY_RETENTION, policy.retention),
            (name::JWKS_MAX_AGE, self.keys.jwks_max_age),
        ];
        let times = times.map(|(name, time)| (name.to_string(), format!("{}s", time.as_secs())));
        let address = [
            (name::HOST.to_string(), self.network.host.clone()),
            (name::PORT.to_string(), self.network.port.to_string()),
        ];
        address.into_iter().chain(times).collect()
    }

    /// Checks all settings and says what is wrong with the first one that is.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        Self::check(settings).map_err(|mut problems| problems.swap_remove(0))
    }

    /// Checks all settings and says everything that is wrong; never an empty list.
    pub fn check(settings: &Settings) -> Result<Self, Vec<ConfigError>> {
        let mut problems = Problems::default();
        let mut warnings = settings.warnings();
        let sealing_keys = problems.note(sealing_keys(settings));
        warnings.extend(guessable_key(settings));
        let host = problems.note(values::host(settings));
        let port = problems.note(port(settings));
        let mode = problems.note(mode(settings, &mut warnings));
        let open_to_others = problems.note(open_to_others(settings));
        warnings.extend(open_to_others.flatten().map(str::to_owned));
        let database = problems.note(database(settings));
        let trusted_proxies = problems.note(values::networks(settings));
        warnings.extend(trusted_proxies.as_deref().and_then(everybody_is_trusted));
        let issuer = problems.note(issuer(settings));
        let times = times::read(settings, &mut problems);
        let costs = problems.note(values::costs(settings));
        let auth_rate = problems.note(values::rate(settings, name::AUTH_RATE));
        let register_rate = problems.note(values::rate(settings, name::REGISTER_RATE));
        let audit_retention = problems.note(values::audit_retention(settings));
        let metrics = problems.note(values::metrics(settings));
        let demo_users = problems.note(demo_user::demo_users(settings));
        let log_filter = problems.note(values::log_filter(settings));
        let config = || {
            let (policy, jwks_max_age) = times?;
            Some(Self {
                keys: KeyConfig {
                    sealing_keys: Arc::new(sealing_keys?),
                    policy,
                    jwks_max_age,
                },
                network: NetworkConfig {
                    host: host?,
                    port: port?,
                    metrics: metrics?,
                    trusted_proxies: trusted_proxies?,
                },
                tokens: TokenConfig {
                    issuer: issuer?,
                    audience: audience(settings),
                },
                accounts: AccountConfig {
                    costs: costs?,
                    auth_rate: auth_rate?,
                    register_rate: register_rate?,
                    audit_retention: audit_retention?,
                    demo_users: demo_users?,
                },
                database: match database? {
                    Location::Postgres(target) => {
                        let tolerance = clock_tolerance(&policy);
                        Location::Postgres(Box::new(target.with_clock_tolerance(tolerance)))
                    }
                    file => file,
                },
                mode: mode?,
                log_filter: log_filter?,
                warnings,
            })
        };
        match config() {
            Some(config) if problems.0.is_empty() => Ok(config),
            _ => Err(problems.0),
        }
    }
}

fn guessable_key(settings: &Settings) -> Option<String> {
    let entries = settings.get(name::NOT_MY_KEY).unwrap_or_default();
    entries.split(',').any(is_guessable).then(|| {
        format!("NOT_MY_KEY has an entry that can be guessed; {HOW_TO_MAKE_A_KEY} and put it first")
    })
}

fn everybody_is_trusted(networks: &[IpNet]) -> Option<String> {
    let all = networks.iter().find(|net| net.prefix_len() == 0)?;
    Some(format!(
        "TRUSTED_PROXIES has {all}, which is everybody: any client can pass for another one in X-Forwarded-For"
    ))
}

#[derive(Default)]
struct Problems(Vec<ConfigError>);

impl Problems {
    fn note<T>(&mut self, value: Result<T, ConfigError>) -> Option<T> {
        value.map_err(|problem| self.0.push(problem)).ok()
    }
}

/// A fresh key for `NOT_MY_KEY`.
pub fn generate_sealing_key() -> Zeroizing<String> {
    SealingKeys::generate()
}

/// Why users other than its owner may have written a file of settings, which production
/// refuses.
pub fn open_to_others(settings: &Settings) -> Result<Option<&str>, ConfigError> {
    match (settings.open_to_others(), mode(settings, &mut Vec::new())) {
        (Some(why), Ok(Mode::Production)) => Err(ConfigError::new(why)),
        (why, _) => Ok(why),
    }
}

/// `AUDIENCE` alone.
pub fn audience(settings: &Settings) -> Option<Audience> {
    settings.get(name::AUDIENCE).and_then(Audience::parse)
}

/// `HOST` and `PORT` alone, valid whatever the other settings are.
pub fn address(settings: &Settings) -> Result<(String, u16), ConfigError> {
    Ok((values::host(settings)?, port(settings)?))
}

fn port(settings: &Settings) -> Result<u16, ConfigError> {
    values::number(settings, name::PORT, 8080, 0..=65_535)
}

fn sealing_keys(settings: &Settings) -> Result<SealingKeys, ConfigError> {
    let Some(text) = settings.get(name::NOT_MY_KEY) else {
        let advice = match database(settings) {
            Ok(Location::Postgres(_)) => format!(
                "{HOW_TO_MAKE_A_KEY}, and put NOT_MY_KEY=<key> into the {FILE} of each replica"
            ),
            _ => format!(
                "start with --init to have {FILE} created with a fresh key, or {HOW_TO_MAKE_A_KEY} and put NOT_MY_KEY=<key> into {FILE}"
            ),
        };
        return Err(ConfigError::new(format!("NOT_MY_KEY is not set: {advice}")));
    };
    SealingKeys::parse(text).map_err(|e| {
        ConfigError::new(format!(
            "NOT_MY_KEY is not a Fernet key, which is 32 bytes in url-safe base64, or several separated by commas: {e}; {HOW_TO_MAKE_A_KEY}"
        ))
    })
}

fn issuer(settings: &Settings) -> Result<Option<Issuer>, ConfigError> {
    let text = settings.get(name::ISSUER);
    text.map(|text| {
        Issuer::parse(text).map_err(|why| {
            ConfigError::new(format!(
                "ISSUER={:?} is not an issuer identifier, such as https://issuer.example: {why}",
                redacted(text)
            ))
        })
    })
    .transpose()
}

fn mode(settings: &Settings, warnings: &mut Vec<String>) -> Result<Mode, ConfigError> {
    if let Some(text) = settings.get(name::APP_ENV) {
        return text.parse().map_err(|_| {
            ConfigError::new(format!(
                "APP_ENV={:?} is not understood: it is development or production",
                redacted(text)
            ))
        });
    }
    let text = settings.get(name::FLASK_ENV).unwrap_or("development");
    Ok(text.parse().unwrap_or_else(|_| {
        // Flask accepts any text.
        warnings.push(format!(
            "FLASK_ENV={:?} is not understood and taken as development; set APP_ENV to development or production",
            redacted(text)
        ));
        Mode::Development
    }))
}
