//! `DEMO_USER`: accounts with chosen passwords, for demonstrations.

use secrecy::SecretString;

use super::{ConfigError, Settings, name};
use crate::crypto::password::MAX_PASSWORD_LEN;
use crate::domain::names::Username;

/// An account with a chosen password, for demonstrations.
#[derive(Clone, Debug)]
pub struct DemoUser {
    pub username: Username,
    pub password: SecretString,
    /// Given on the command line, where every user of the machine can read it.
    pub is_seen_by_all: bool,
}

/// Reads NAME:PASSWORD.
pub fn demo_user(text: &str) -> Result<DemoUser, ConfigError> {
    let (name, password) = text
        .split_once(':')
        .filter(|(_, password)| !password.is_empty())
        .ok_or_else(|| ConfigError::new("it is not NAME:PASSWORD"))?;
    if password.len() > MAX_PASSWORD_LEN {
        return Err(ConfigError::new(format!(
            "the password is longer than {MAX_PASSWORD_LEN} bytes, which no sign-in accepts"
        )));
    }
    Ok(DemoUser {
        username: Username::parse(name).map_err(|e| ConfigError::new(e.to_string()))?,
        password: password.to_owned().into(),
        is_seen_by_all: false,
    })
}

pub(super) fn demo_users(settings: &Settings) -> Result<Vec<DemoUser>, ConfigError> {
    let list = settings.get(name::DEMO_USER).unwrap_or_default();
    list.split_whitespace()
        .map(|entry| demo_user(entry).map_err(|e| ConfigError::new(format!("DEMO_USER: {e}"))))
        .collect()
}
