//! The settings as text: the environment first, then the file `.env` of the
//! working directory. The process environment is never changed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::ConfigError;
use super::dotenv::{self, FILE};
use crate::crypto::fernet::SealingKeys;

/// Name of a setting. Only the list below makes one, so that every setting that
/// the code asks for is read from the environment as well as from `.env`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(&'static str);

macro_rules! names {
    ($($name:ident)*) => {
        /// The settings; [`Config`](super::Config) says what each one is.
        pub mod name {
            use super::Name;
            $(pub const $name: Name = Name(stringify!($name));)*
            pub const ALL: &[Name] = &[$($name),*];
        }
    };
}

names! {
    NOT_MY_KEY
    NOT_MY_KEY_FILE
    PORT
    HOST
    APP_ENV
    FLASK_ENV
    DATABASE_URL
    PGPASSWORD
    PGPASSFILE
    PGSSLROOTCERT
    TRUSTED_PROXIES
    ISSUER
    AUDIENCE
    KEY_LIFETIME
    TOKEN_LIFETIME
    KEY_LEAD
    CLOCK_SKEW
    KEY_RETENTION
    JWKS_MAX_AGE
    ARGON2_MEMORY_KIB
    ARGON2_PASSES
    ARGON2_LANES
    AUTH_RATE
    REGISTER_RATE
    AUDIT_RETENTION
    METRICS_ADDR
    DEMO_USER
    RUST_LOG
}

impl Name {
    /// The setting that an option such as `prot` or `key-lead` may be meant for.
    pub fn nearest(option: &str) -> Option<Self> {
        nearly(&option.replace('-', "_"))
    }

    fn find(text: &str) -> Option<Self> {
        name::ALL.iter().copied().find(|name| name.0 == text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Values by name, without spaces around them. An empty one counts as not set.
#[derive(Clone, Default)]
pub struct Settings {
    /// Wiped on drop: secrets are among them.
    values: HashMap<&'static str, Zeroizing<String>>,
    empty: Vec<Name>,
    /// Names in `.env` that are nearly a setting, and the setting.
    misspelt: Vec<(String, Name)>,
    /// Reason for which others may have written `.env`.
    open_to_others: Option<String>,
}

impl Settings {
    /// Reads the process environment and the file at `env_file`, which must exist
    /// then, or else `.env` in the working directory.
    pub fn load(env_file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment = name::ALL
            .iter()
            .filter_map(|name| Some((name.to_string(), std::env::var_os(name.0)?)));
        let file = dotenv::read(env_file.unwrap_or(Path::new(FILE)))?;
        if let (Some(path), None) = (env_file, &file) {
            let text = format!("--env-file: there is no file {}", path.display());
            return Err(ConfigError::new(text));
        }
        let (text, open_to_others) = file.unzip();
        let mut settings = Self::from_parts(environment, text.as_deref().map(String::as_str))?;
        settings.open_to_others = open_to_others.flatten();
        settings.load_secret_file(std::env::var_os("CREDENTIALS_DIRECTORY"))?;
        Ok(settings)
    }

    /// Sets `NOT_MY_KEY` to the text of the file that `NOT_MY_KEY_FILE` names or, under
    /// systemd, of the credential of that name. Only one of the three may be set: with two
    /// nobody could say which key seals the database.
    fn load_secret_file(&mut self, credentials: Option<OsString>) -> Result<(), ConfigError> {
        let credential = credentials
            .map(|folder| Path::new(&folder).join(name::NOT_MY_KEY.0))
            .filter(|path| path.exists());
        let named = self.get(name::NOT_MY_KEY_FILE);
        // Its text would be shown as the name of a file that is not there.
        if named.is_some_and(|name| SealingKeys::parse(name).is_ok()) {
            let text = "NOT_MY_KEY_FILE has a key, where the name of a file with the key belongs: give it to NOT_MY_KEY";
            return Err(ConfigError::new(text));
        }
        let named = named.map(PathBuf::from);
        let variable = self.get(name::NOT_MY_KEY).map(|_| "NOT_MY_KEY");
        let sources = [
            variable,
            named.as_ref().map(|_| "NOT_MY_KEY_FILE"),
            credential
                .as_ref()
                .map(|_| "the credential NOT_MY_KEY of systemd"),
        ];
        if let [one, other, ..] = *sources.into_iter().flatten().collect::<Vec<_>>() {
            let text = format!("{one} and {other} are both set: leave one of them out");
            return Err(ConfigError::new(text));
        }
        let Some(path) = named.or(credential) else {
            return Ok(());
        };
        let Some((text, open_to_others)) = dotenv::read(&path)? else {
            let text = format!("NOT_MY_KEY_FILE: there is no file {}", path.display());
            return Err(ConfigError::new(text));
        };
        if text.trim().is_empty() {
            let text = format!("NOT_MY_KEY_FILE: {} is empty", path.display());
            return Err(ConfigError::new(text));
        }
        self.set(name::NOT_MY_KEY, text.to_string());
        self.open_to_others = self.open_to_others.take().or(open_to_others);
        Ok(())
    }

    /// True when other users may have written the file; the text says why.
    pub(super) fn open_to_others(&self) -> Option<&str> {
        self.open_to_others.as_deref()
    }

    /// Sets the value of a name that the service has recorded; others are left.
    pub fn set_recorded(&mut self, name: &str, value: String) {
        if let Some(name) = Name::find(name).filter(|name| super::RECORDED.contains(name)) {
            self.set(name, value);
        }
    }

    /// Settings from the variables `environment` and the text of a `.env` file.
    pub fn from_parts(
        environment: impl IntoIterator<Item = (String, OsString)>,
        file: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        for (name, value) in dotenv::parse(file.unwrap_or_default())? {
            match Name::find(&name) {
                Some(name) => settings.set(name, value),
                None => settings
                    .misspelt
                    .extend(nearly(&name).map(|known| (name, known))),
            }
        }
        for (name, value) in environment {
            let value = value
                .into_string()
                .map_err(|_| ConfigError::new(format!("{name} in the environment is not UTF-8")))?;
            if let Some(name) = Name::find(&name) {
                settings.set(name, value);
            }
        }
        Ok(settings)
    }

    /// The value of a setting, if it is set and not empty.
    pub fn get(&self, name: Name) -> Option<&str> {
        self.values.get(name.0).map(|value| value.as_str())
    }

    /// Sets a value, over what was read.
    pub fn set(&mut self, name: Name, value: String) {
        let value = Zeroizing::new(value);
        match value.trim() {
            "" => self.empty.push(name),
            value => {
                self.values.insert(name.0, Zeroizing::new(value.to_owned()));
            }
        }
    }

    /// Warnings for the log.
    pub fn warnings(&self) -> Vec<String> {
        let is_unset = |name: &&Name| self.get(**name).is_none();
        let empty = self.empty.iter().filter(is_unset);
        let empty = empty.map(|name| format!("{name} is empty, which counts as not set"));
        let misspelt = self.misspelt.iter().map(|(name, known)| {
            format!("{FILE} sets {name}, which is not a setting: did you mean {known}?")
        });
        empty.chain(misspelt).collect()
    }
}

/// The setting that `name` is a misspelling of, perhaps: up to two letters are
/// wrong, or three of a long name, or there is one of some endings too many.
fn nearly(name: &str) -> Option<Name> {
    let upper = name.to_uppercase();
    let is_near = |known: &Name| {
        let length = known.0.len();
        strsim::osa_distance(&upper, known.0) <= (length / 3).min(2).max(length / 5)
    };
    let near = name::ALL.iter().copied().find(is_near);
    near.or_else(|| {
        let mut endings = ["_URL", "_URI", "_SECONDS"].into_iter();
        endings.find_map(|ending| Name::find(upper.strip_suffix(ending)?))
    })
}
