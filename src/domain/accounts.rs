//! Accounts: names and addresses as parsed values, sign-up and sign-in.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use email_address::{EmailAddress, Options};
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;
use precis_profiles::{OpaqueString, UsernameCasePreserved};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::stand_ins::StandIns;
use super::tokens::IssuedToken;
use crate::clock::UnixTime;
use crate::crypto::password::pool::{HashError, PasswordHasher};
use crate::crypto::password::{self, Against, MAX_PASSWORD_LEN, Verdict};
use crate::store::{AccountId, AccountRow, NewAccountRow, SignInRecord, Store, StoreError};

/// Bytes of a name.
pub const MAX_USERNAME_LEN: usize = 128;
/// Bytes of an address: RFC 5321 section 4.5.3.1.3, less the angle brackets.
pub const MAX_EMAIL_LEN: usize = 254;
/// How often, and at how many accounts, a look is taken for the kinds of hashes.
const LEARN_EVERY: Duration = Duration::from_secs(600);
const SAMPLE: u16 = 256;

/// A name that may be registered: RFC 8265 UsernameCasePreserved, 1 to 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

/// An address that may be registered: its domain in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

/// What is wrong with a value of a request. The text is for the client and
/// never repeats the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(&'static str);

impl Username {
    /// Normalises and checks a name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > 4 * MAX_USERNAME_LEN {
            return Err(Invalid("username is longer than 128 bytes"));
        }
        if text.is_empty() {
            return Err(Invalid("username is empty"));
        }
        let name = UsernameCasePreserved::enforce(text).map_err(|_| {
            Invalid(
                "username has characters that are not allowed: no blanks, control or invisible characters (RFC 8265)",
            )
        })?;
        if name.len() > MAX_USERNAME_LEN {
            return Err(Invalid("username is longer than 128 bytes"));
        }
        Ok(Self(name.into_owned()))
    }

    /// The normalised name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Email {
    /// Normalises and checks an address.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid = Invalid("email is not an e-mail address");
        if text.is_empty() {
            return Err(Invalid("email is empty"));
        }
        if text.len() > MAX_EMAIL_LEN {
            return Err(Invalid("email is longer than 254 bytes"));
        }
        // The free-form class of RFC 8264: no control and no invisible characters.
        let text = OpaqueString::enforce(text).map_err(|_| WRONG)?;
        let options = Options::default()
            .without_display_text()
            .with_minimum_sub_domains(0);
        let parsed = EmailAddress::parse_with_options(&text, options).map_err(|_| WRONG)?;
        Ok(Self(format!(
            "{}@{}",
            parsed.local_part(),
            parsed.domain().to_lowercase()
        )))
    }

    /// The normalised address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

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
        let prepared = Username::parse(&username).map_or_else(|_| username.clone(), |name| name.0);
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
            username: username.0,
            email: email.map(|email| email.0),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_come_back_byte_for_byte() {
        for name in [
            "alice",
            "Alice",
            "userABC",
            "a",
            "jürgen",
            "名前",
            "o'neil-x_y.z+1@b",
            &"x".repeat(128),
        ] {
            assert_eq!(Username::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_are_composed_and_width_mapped() {
        assert_eq!(Username::parse("ju\u{308}rgen").unwrap().as_str(), "jürgen");
        assert_eq!(Username::parse("ａlice").unwrap().as_str(), "alice");
    }

    #[test]
    fn names_with_blanks_control_or_format_characters_are_refused() {
        for name in [
            "",
            " ",
            "\t",
            "alice ",
            " alice",
            "al ice",
            "\u{a0}",
            "a\0b",
            "x\ny",
            "x\u{1b}[31m",
            "\u{202e}gnp",
            "ali\u{200b}ce",
            "a\u{7f}",
            "a\u{85}",
            "a\u{feff}",
            "a\u{2066}b",
            "\u{3000}",
            &"x".repeat(129),
            &"é".repeat(65),
        ] {
            assert!(Username::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn addresses_keep_their_local_part_and_lose_the_case_of_their_domain() {
        for (sent, kept) in [
            ("Alice@Example.COM", "Alice@example.com"),
            ("a@t.invalid", "a@t.invalid"),
            ("a@localhost", "a@localhost"),
            ("a.b+c@x.org", "a.b+c@x.org"),
        ] {
            assert_eq!(Email::parse(sent).unwrap().as_str(), kept);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            " ",
            "x",
            "@",
            "a@",
            "@b",
            "a@b@c",
            " a@b.c",
            "a@b.c ",
            "a\0@b.c",
            "a\u{200b}@b.c",
            "a@b.c\n",
            "a\u{202e}@b.c",
            "Alice <a@b.c>",
            &format!("{}@b.c", "x".repeat(260)),
        ] {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
    }
}
