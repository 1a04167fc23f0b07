//! Accounts: sign-up and sign-in.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::names::{Email, Invalid, Username};
use super::stand_ins::StandIns;
use super::tokens::IssuedToken;
use crate::clock::UnixTime;
use crate::crypto::password::pool::{HashError, PasswordHasher};
use crate::crypto::password::{self, Against, MAX_PASSWORD_LEN, Verdict};
use crate::store::{AccountId, AccountRow, NewAccountRow, SignInRecord, Store, StoreError};

/// How often, and at how many accounts, a look is taken for the kinds of hashes.
const LEARN_EVERY: Duration = Duration::from_secs(600);
const SAMPLE: u16 = 256;

/// A name and a password to sign in with. The name may be anything: what
/// sign-up refuses today, an earlier server may have stored.
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

    /// The name as sent.
    pub fn username(&self) -> &str {
        &self.username
    }
}

/// Who has just proved to be whom.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The account.
    pub id: AccountId,
    /// Its name as stored.
    pub username: String,
    new_hash: Option<(String, String)>,
}

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum SignUpError {
    /// Another account has the name or the address.
    #[error("the name or the address is taken")]
    AlreadyExists,
    /// Too busy, or out of resources.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// One case for two causes: a client must not learn which names exist.
    #[error("unknown name or wrong password")]
    BadCredentials,
    /// Too busy, or out of resources.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sign-up and sign-in over the store. Clones share it.
#[derive(Clone, Debug)]
pub struct Accounts {
    store: Store,
    hasher: PasswordHasher,
    stand_ins: Arc<StandIns>,
    /// Whether `stand_ins` has learnt anything.
    first_look: Arc<OnceCell<()>>,
}

impl Accounts {
    /// Accounts in `store`, with passwords hashed by `hasher`. `deal` decides
    /// what is spent on names that have no account.
    pub fn new(store: Store, hasher: PasswordHasher, deal: hmac::Key) -> Self {
        let stand_ins = Arc::new(StandIns::new(hasher.recipe(), deal));
        Self {
            store,
            hasher,
            stand_ins,
            first_look: Arc::default(),
        }
    }

    /// How many passwords wait: to be checked, and to be hashed for new accounts.
    pub fn waiting(&self) -> (usize, usize) {
        self.hasher.waiting()
    }

    /// Makes an account with a password of ours, which is returned and kept
    /// nowhere. The account is on disk when this returns.
    pub async fn sign_up(
        &self,
        username: Username,
        email: Email,
        now: UnixTime,
    ) -> Result<SecretString, SignUpError> {
        let password = password::generate().ok_or(HashError::Failed)?;
        self.insert(username, Some(email), password.clone(), now)
            .await?;
        Ok(password)
    }

    /// Makes an account with a chosen password and no address, unless there is
    /// one of that name. Returns whether it was made.
    pub async fn ensure(
        &self,
        username: Username,
        password: SecretString,
        now: UnixTime,
    ) -> Result<bool, SignUpError> {
        let name = username.as_str().to_owned();
        let found = self.store.account_by_name(name.clone(), name).await;
        if found.map_err(SignUpError::Store)?.is_some() {
            return Ok(false);
        }
        match self.insert(username, None, password, now).await {
            Ok(()) => Ok(true),
            // Another process was quicker.
            Err(SignUpError::AlreadyExists) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Checks a password. A good one against an outdated hash is hashed anew;
    /// [`record`](Self::record) stores that.
    pub async fn verify(&self, credentials: Credentials) -> Result<SignedIn, SignInError> {
        self.know_costs().await?;
        let Credentials { username, password } = credentials;
        let prepared =
            Username::parse(&username).map_or_else(|_| username.clone(), Username::into_string);
        let stand_in = self.stand_ins.deal(&prepared);
        let account = self.store.account_by_name(username, prepared).await?;
        let against = match &account {
            Some(row) => {
                self.stand_ins.saw(&row.password_hash);
                Against::Stored(row.password_hash.clone())
            }
            None => Against::Nothing(stand_in),
        };
        let verdict = self.hasher.verify(password.clone(), against).await?;
        let (row, outdated) = match (account, verdict) {
            (Some(row), Verdict::Match { outdated }) => (row, outdated),
            (Some(row), Verdict::Unreadable) => {
                tracing::error!(user_id = %row.id, "the stored password hash is no usable Argon2 string; nobody can sign in to this account");
                return Err(SignInError::BadCredentials);
            }
            _ => return Err(SignInError::BadCredentials),
        };
        let new_hash = if outdated {
            self.replacement(&row, password).await
        } else {
            None
        };
        Ok(SignedIn {
            id: row.id,
            username: row.username,
            new_hash,
        })
    }

    /// Looks at what the accounts' hashes cost, now and every ten minutes,
    /// until `stop`: what a name without an account costs follows it.
    pub async fn watch_costs(self, stop: CancellationToken) {
        let mut learnt = self.know_costs().await;
        loop {
            if let Err(e) = learnt {
                tracing::warn!("what stored password hashes cost is not known: {e}");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LEARN_EVERY) => {}
            }
            learnt = self.learn_costs().await;
        }
    }

    /// Returns when something has been learnt: no sign-in goes before that, or
    /// its time would tell which names exist.
    async fn know_costs(&self) -> Result<(), StoreError> {
        let first_look = self.first_look.get_or_try_init(|| self.learn_costs());
        first_look.await.copied()
    }

    /// One such look, at some hundred accounts however many there are.
    pub async fn learn_costs(&self) -> Result<(), StoreError> {
        let sample = self.store.sample_password_hashes(SAMPLE).await?;
        self.stand_ins.learn(&sample);
        Ok(())
    }

    /// KiB times passes that passwords have cost so far, see [`PasswordHasher::work`].
    pub fn work(&self) -> u64 {
        self.hasher.work()
    }

    /// Writes down that a sign-in is about to be answered with a token.
    /// [`SignInError::BadCredentials`] when the account has gone since.
    pub async fn record(
        &self,
        account: SignedIn,
        client: IpAddr,
        issued: &IssuedToken,
    ) -> Result<(), SignInError> {
        let first_use = issued.live_key.as_ref().filter(|key| !key.is_used());
        let is_there = self
            .store
            .record_sign_in(SignInRecord {
                account: account.id,
                username: account.username,
                client,
                at: issued.at,
                new_hash: account.new_hash,
                first_use: first_use.map(|key| key.kid()),
            })
            .await?;
        if !is_there {
            return Err(SignInError::BadCredentials);
        }
        if let Some(key) = first_use {
            key.set_used();
        }
        Ok(())
    }

    /// The hash that should take the old one's place; when there is no time
    /// for it now, the next sign-in will see to it.
    async fn replacement(
        &self,
        row: &AccountRow,
        password: SecretString,
    ) -> Option<(String, String)> {
        match self.hasher.rehash(password).await {
            Ok(new) => {
                self.stand_ins.saw(&new);
                Some((row.password_hash.clone(), new))
            }
            Err(e) => {
                tracing::info!(user_id = %row.id, "an outdated password hash stays for now: {e}");
                None
            }
        }
    }

    async fn insert(
        &self,
        username: Username,
        email: Option<Email>,
        password: SecretString,
        now: UnixTime,
    ) -> Result<(), SignUpError> {
        let password_hash = self.hasher.hash(password).await?;
        self.stand_ins.saw(&password_hash);
        let row = NewAccountRow {
            username: username.into_string(),
            email: email.map(Email::into_string),
            password_hash,
        };
        // The unique constraints decide, not a look beforehand.
        self.store
            .insert_account(row, now)
            .await
            .map_err(|e| match e {
                StoreError::AlreadyExists => SignUpError::AlreadyExists,
                e => SignUpError::Store(e),
            })
    }
}
