//! Changes of accounts that operators ask for, on the database alone: sign-ins of
//! running servers read it, so they follow at once.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::accounts::{Accounts, SignUpError};
use super::names::{self, Email, Invalid, Username};
use crate::client_key::ClientKey;
use crate::clock::{Clock, UnixTime};
use crate::crypto::password::{self, Costs, HashError, MAX_PASSWORD_LEN, PasswordHasher};
use crate::store::{AccountChange, Store, StoreError};
pub use crate::store::{AccountDetails, AccountFilter, AccountId, StateChange};

/// Operators' changes of the accounts in one database.
pub struct AccountOperations {
    pub store: Store,
    pub costs: Costs,
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("there is no account of this name; `users list` shows all")]
    Unknown,
    #[error("there is an account of this name already; `users show` shows it")]
    NameTaken,
    #[error("another account has this e-mail address; `users list --like` finds it")]
    EmailTaken,
    #[error("the account is disabled already")]
    IsDisabled,
    #[error("the account is not disabled")]
    IsEnabled,
    #[error(transparent)]
    SignUp(#[from] SignUpError),
    #[error("the password was not hashed: {0}")]
    Hash(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<HashError> for AccountError {
    fn from(error: HashError) -> Self {
        Self::Hash(error.to_string())
    }
}

impl AccountOperations {
    /// Makes an account and returns its password, a generated one if none is given.
    pub async fn add(
        &self,
        name: Username,
        email: Option<Email>,
        password: Option<SecretString>,
    ) -> Result<SecretString, AccountError> {
        let password = or_generated(password)?;
        let accounts = Accounts {
            store: self.store.clone(),
            hasher: self.hasher()?,
        };
        let now = self.clock.now();
        let wanted = name.as_str().to_owned();
        let client = ClientKey::OPERATOR;
        let added = accounts.insert(name, email, password.clone(), client, now);
        match added.await {
            Ok(()) => Ok(password),
            Err(SignUpError::AlreadyExists) => {
                let found = self.store.account_by_name(wanted.clone(), wanted).await?;
                Err(found.map_or(AccountError::EmailTaken, |_| AccountError::NameTaken))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Replaces the password, by a generated one if none is given. Returns it.
    pub async fn reset(
        &self,
        name: &str,
        password: Option<SecretString>,
    ) -> Result<(AccountDetails, SecretString), AccountError> {
        let password = or_generated(password)?;
        let hash = self
            .hasher()?
            .hash(ClientKey::OPERATOR, password.clone())
            .await?;
        let (account, _) = self.change(name, AccountChange::SetHash(hash)).await?;
        Ok((account, password))
    }

    /// A disabled account signs in as an unknown one does.
    pub async fn disable(
        &self,
        name: &str,
        reason: String,
    ) -> Result<AccountDetails, AccountError> {
        let (account, _) = self.change(name, AccountChange::Disable { reason }).await?;
        Ok(account)
    }

    pub async fn enable(
        &self,
        name: &str,
        reason: Option<String>,
    ) -> Result<AccountDetails, AccountError> {
        let (account, _) = self.change(name, AccountChange::Enable { reason }).await?;
        Ok(account)
    }

    /// Without `with_sign_ins` its rows of `auth_logs` stay, without the account. Returns
    /// the number of these rows too.
    pub async fn delete(
        &self,
        name: &str,
        with_sign_ins: bool,
    ) -> Result<(AccountDetails, usize), AccountError> {
        self.change(name, AccountChange::Delete { with_sign_ins })
            .await
    }

    async fn change(
        &self,
        name: &str,
        change: AccountChange,
    ) -> Result<(AccountDetails, usize), AccountError> {
        let names = names::lookup_forms(name.to_owned());
        self.store
            .change_account(names, change, &self.clock, check)
            .await
    }

    fn hasher(&self) -> Result<PasswordHasher, AccountError> {
        PasswordHasher::start(self.costs, 1).map_err(|e| AccountError::Hash(e.to_string()))
    }
}

/// The account, if it may be changed so.
fn check(
    found: Option<AccountDetails>,
    change: &AccountChange,
) -> Result<AccountDetails, AccountError> {
    let account = found.ok_or(AccountError::Unknown)?;
    match (change, &account.disabled) {
        (AccountChange::Disable { .. }, Some(_)) => Err(AccountError::IsDisabled),
        (AccountChange::Enable { .. }, None) => Err(AccountError::IsEnabled),
        _ => Ok(account),
    }
}

fn or_generated(password: Option<SecretString>) -> Result<SecretString, HashError> {
    password
        .or_else(password::generate)
        .ok_or(HashError::Failed)
}

/// Checks a password that an operator chose.
pub fn check_password(password: SecretString) -> Result<SecretString, Invalid> {
    match password.expose_secret().len() {
        0 => Err(Invalid("the password is empty")),
        1..=MAX_PASSWORD_LEN => Ok(password),
        _ => Err(Invalid("the password is longer than 1024 bytes")),
    }
}

/// Time at which the last token has expired that the account can have; `None` when
/// none is alive.
pub fn tokens_until(
    account: &AccountDetails,
    token_lifetime: Duration,
    now: UnixTime,
) -> Option<UnixTime> {
    let until = account.last_sign_in? + token_lifetime;
    (until > now).then_some(until)
}

/// Algorithm and parameters of a stored hash; `None` when no password can match it.
pub fn hash_parameters(account: &AccountDetails) -> Option<String> {
    password::describe(&account.password_hash)
}
