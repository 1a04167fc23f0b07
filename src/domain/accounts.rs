//! Accounts: sign-up.

use std::net::IpAddr;

use secrecy::SecretString;

use super::error::ServiceError;
use super::names::{Email, Username};
use crate::client_key::ClientKey;
use crate::clock::UnixTime;
use crate::crypto::password::{self, HashError, PasswordHasher};
use crate::store::{NewAccountRow, Store, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum SignUpError {
    /// Another account has the username or the e-mail address.
    #[error("the username or the email is already registered")]
    AlreadyExists,
    #[error(transparent)]
    Service(ServiceError),
}

impl From<HashError> for SignUpError {
    fn from(error: HashError) -> Self {
        Self::Service(error.into())
    }
}

impl From<StoreError> for SignUpError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::AlreadyExists => Self::AlreadyExists,
            error => Self::Service(error.into()),
        }
    }
}

#[derive(Clone)]
pub struct Accounts {
    pub store: Store,
    pub hasher: PasswordHasher,
}

impl Accounts {
    /// Makes an account with a generated password, which is returned and kept
    /// nowhere. The account is on disk when this returns.
    pub async fn sign_up(
        &self,
        username: Username,
        email: Email,
        client: IpAddr,
        now: UnixTime,
    ) -> Result<SecretString, SignUpError> {
        if self.store.is_low_on_disk() {
            let text = "too little is left on the disk for new accounts";
            return Err(StoreError::Unavailable(text.to_owned()).into());
        }
        let password = password::generate().ok_or(HashError::Failed)?;
        let client = ClientKey::of(client);
        self.insert(username, Some(email), password.clone(), client, now)
            .await?;
        Ok(password)
    }

    /// Makes an account with the given password and no e-mail address, unless
    /// the username is taken. Returns whether it was made.
    pub async fn ensure(
        &self,
        username: Username,
        password: SecretString,
        now: UnixTime,
    ) -> Result<bool, SignUpError> {
        let name = username.as_str().to_owned();
        let found = self.store.account_by_name(name.clone(), name).await?;
        if found.is_some() {
            return Ok(false);
        }
        let client = ClientKey::OPERATOR;
        match self.insert(username, None, password, client, now).await {
            Ok(()) => Ok(true),
            // Another process was quicker.
            Err(SignUpError::AlreadyExists) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes an account. `client`: whose turn it takes in the queue for the hash.
    pub(super) async fn insert(
        &self,
        username: Username,
        email: Option<Email>,
        password: SecretString,
        client: ClientKey,
        now: UnixTime,
    ) -> Result<(), SignUpError> {
        let row = NewAccountRow {
            username: username.into_string(),
            email: email.map(Email::into_forms),
            password_hash: self.hasher.hash(client, password).await?,
        };
        // The unique constraints decide whether the name is taken.
        Ok(self.store.insert_account(row, now).await?)
    }
}
