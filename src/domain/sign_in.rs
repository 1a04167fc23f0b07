//! Sign-in: verify a password, issue a token, record the sign-in.

use std::net::IpAddr;

use secrecy::{ExposeSecret as _, SecretString};

use super::error::ServiceError;
use super::names::{self, Invalid};
use super::tokens::{IssuedToken, TokenIssuer, TokenKind};
use crate::client_key::ClientKey;
use crate::clock::Clock;
use crate::crypto::password::{MAX_PASSWORD_LEN, PasswordCheck, PasswordHasher};
use crate::store::{AccountRow, Recorded, SignInRecord, Store, StoreError};

/// Passwords are checked again when the account has changed meanwhile: as a rule once, after
/// another sign-in has replaced an outdated hash.
const TRIES: usize = 5;

/// A name and a password to sign in with. The name may be anything: earlier
/// servers have stored names that sign-up refuses today.
#[derive(Clone, Debug)]
pub struct Credentials {
    username: String,
    password: SecretString,
}

impl Credentials {
    /// Refuses a password that is too long to be hashed.
    pub fn new(username: String, password: SecretString) -> Result<Self, Invalid> {
        if password.expose_secret().len() > MAX_PASSWORD_LEN {
            return Err(Invalid("password is longer than 1024 bytes"));
        }
        Ok(Self { username, password })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// One variant for two causes: the client must not learn which it is.
    #[error("unknown username or wrong password")]
    BadCredentials,
    #[error(transparent)]
    Service(ServiceError),
}

impl<E: Into<ServiceError>> From<E> for SignInError {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

pub struct SignIn {
    pub store: Store,
    pub hasher: PasswordHasher,
    pub tokens: TokenIssuer,
}

impl SignIn {
    /// A token for the account that the credentials fit. The sign-in is on disk
    /// when this returns.
    pub async fn token_for(
        &self,
        credentials: Credentials,
        kind: TokenKind,
        client: IpAddr,
        clock: &dyn Clock,
    ) -> Result<String, SignInError> {
        for tried in 0..TRIES {
            let (account, new_hash) = self.verify(credentials.clone(), client).await?;
            // Replicas of other settings would replace each other's hashes for ever.
            let new_hash = new_hash.filter(|_| tried == 0);
            let issued = self
                .tokens
                .issue(kind, account.username.clone(), clock)
                .await?;
            let user_id = account.id;
            if self.record(account, new_hash, client, &issued).await? == Recorded::Written {
                tracing::info!(%client, %user_id, "signed in");
                return Ok(issued.token);
            }
        }
        Err(ServiceError::AccountContended.into())
    }

    /// The account, and a hash that should replace its outdated one.
    async fn verify(
        &self,
        credentials: Credentials,
        client: IpAddr,
    ) -> Result<(AccountRow, Option<String>), SignInError> {
        let Credentials { username, password } = credentials;
        let [exact, prepared] = names::lookup_forms(username);
        let account = self.store.account_by_name(exact, prepared).await?;
        // A disabled account is treated as unknown from here: same answer, same hashing
        // cost, same log line.
        let account = account.filter(|row| !row.is_disabled);
        let stored = account.as_ref().map(|row| row.password_hash.clone());
        let check = self
            .hasher
            .verify(ClientKey::of(client), password, stored)
            .await?;
        match (account, check) {
            (Some(account), PasswordCheck::Match { replacement }) => Ok((account, replacement)),
            (account, check) => {
                log_refusal(account.as_ref(), check, client);
                Err(SignInError::BadCredentials)
            }
        }
    }

    async fn record(
        &self,
        account: AccountRow,
        new_hash: Option<String>,
        client: IpAddr,
        issued: &IssuedToken,
    ) -> Result<Recorded, StoreError> {
        let key = &issued.key;
        // An expired token is no use of its key, but that may not be published
        // again, or the token would be good after the clock was set back.
        let (first_use, withdraw) = match issued.kind {
            TokenKind::Live => (!key.is_used(), false),
            TokenKind::Expired => (false, !key.times().withdrawn),
        };
        let record = SignInRecord {
            account: account.id,
            username: account.username,
            password_hash: account.password_hash,
            client,
            at: issued.at,
            new_hash,
            first_use: first_use.then(|| key.kid()),
            withdraw: withdraw.then(|| [key.kid(), key.thumbprint_kid()]),
        };
        let recorded = self.store.record_sign_in(record).await?;
        if first_use && recorded == Recorded::Written {
            key.set_used();
        }
        if withdraw && recorded == Recorded::Written {
            self.tokens.withdraw(key);
        }
        Ok(recorded)
    }
}

/// The name is in the log only when an enabled account has it: people type passwords
/// into the field for the name.
fn log_refusal(account: Option<&AccountRow>, check: PasswordCheck, client: IpAddr) {
    const MAX_CHARS: usize = 200;
    let Some(account) = account else {
        tracing::info!(%client, "sign-in refused: unknown username");
        return;
    };
    if check == PasswordCheck::Unreadable {
        tracing::error!(user_id = %account.id, "the stored password hash is no usable hash of Argon2 or bcrypt; nobody can sign in to this account");
    }
    let name: String = account.username.chars().take(MAX_CHARS).collect();
    tracing::info!(%client, username = ?name, "sign-in refused");
}
