//! Where settings come from: the real environment first, then the file `.env`
//! of the working directory. The process environment is never changed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use zeroize::Zeroizing;

use super::ConfigError;
use super::dotenv::{self, FILE};

/// Every variable that the service reads; others are none of its business.
const NAMES: [&str; 22] = [
    "NOT_MY_KEY",
    "PORT",
    "HOST",
    "APP_ENV",
    "FLASK_ENV",
    "DATABASE_URL",
    "TRUSTED_PROXIES",
    "ISSUER",
    "AUDIENCE",
    "KEY_LIFETIME",
    "TOKEN_LIFETIME",
    "KEY_LEAD",
    "CLOCK_SKEW",
    "KEY_RETENTION",
    "JWKS_MAX_AGE",
    "ARGON2_MEMORY_KIB",
    "ARGON2_PASSES",
    "ARGON2_LANES",
    "AUTH_RATE",
    "METRICS_ADDR",
    "DEMO_USER",
    "RUST_LOG",
];

/// Settings by name. Surrounding blanks are not part of a value, and an empty
/// value counts as not set.
#[derive(Default)]
pub struct Settings {
    /// Wiped when they are dropped: secrets are among them.
    values: HashMap<String, Zeroizing<String>>,
    empty: Vec<String>,
}

impl Settings {
    /// Reads the process environment and `.env` in `dir`.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let real = NAMES
            .iter()
            .filter_map(|name| std::env::var_os(name).map(|value| ((*name).to_owned(), value)));
        let file = dotenv::read(&dir.join(FILE))?;
        Self::from_parts(real, file.as_deref().map(String::as_str))
    }

    /// Settings from the variables `real` and the text of a `.env` file.
    pub fn from_parts(
        real: impl IntoIterator<Item = (String, OsString)>,
        file: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        if let Some(text) = file {
            for (name, value) in dotenv::parse(text)? {
                settings.set(name, value);
            }
        }
        for (name, value) in real {
            let value = value
                .into_string()
                .map_err(|_| ConfigError::new(format!("{name} in the environment is not UTF-8")))?;
            settings.set(name, value);
        }
        Ok(settings)
    }

    /// The value of a variable, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str())
    }

    /// The variables that are set, but empty, and have no value elsewhere.
    pub fn empty(&self) -> impl Iterator<Item = &str> {
        let names = self.empty.iter().map(String::as_str);
        names.filter(|name| NAMES.contains(name) && self.get(name).is_none())
    }

    /// Sets a variable, over all that was read.
    pub fn set(&mut self, name: String, value: String) {
        let value = Zeroizing::new(value);
        match value.trim() {
            "" => self.empty.push(name),
            value => {
                self.values.insert(name, Zeroizing::new(value.to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_lines_with_one_name_the_last_counts() {
        let settings = Settings::from_parts([], Some("PORT=1\nPORT=2\n")).unwrap();
        assert_eq!(settings.get("PORT"), Some("2"));
    }

    #[test]
    fn fr_30_the_real_environment_wins_unless_it_is_empty() {
        let file = Some("PORT=18080\n");
        let with = |value: &str| {
            Settings::from_parts([("PORT".to_owned(), OsString::from(value))], file).unwrap()
        };
        assert_eq!(with("18081").get("PORT"), Some("18081"));
        assert_eq!(with("").get("PORT"), Some("18080"));
        assert_eq!(with(" 18081 ").get("PORT"), Some("18081"));
        assert_eq!(with("").empty().count(), 0);
    }
}
