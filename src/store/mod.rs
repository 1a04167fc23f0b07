//! All the SQL. It sees sealed keys and password hashes, never a private key or a
//! password. This file and `key_row.rs` have the types that the domain sees, `engine.rs`
//! the [`Store`], `sqlite/` and `postgres/` its methods, each of them atomic. A method that
//! changes keys reads their rows, calls a function of the domain that decides, and writes
//! its plan.

mod copy;
mod engine;
mod error;
mod key_row;
mod postgres;
mod sqlite;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use strum::{EnumString, IntoStaticStr};

use crate::clock::UnixTime;
use crate::lifecycle::{AdoptedTimes, KeySpan, Kid};
pub use copy::{Copied, CopyCallbacks, CopyError};
pub use engine::{Location, Store, copy};
pub use error::{BadRow, OpenError, StoreError};
pub use key_row::{KeyRow, NewKey};
pub use postgres::{Intruder, PgEnvironment, PostgresStore, ServerState, Target};
pub use sqlite::SqliteStore;

/// Without an answer of PostgreSQL for this long a replica is cut off.
pub const CUT_OFF: Duration = Duration::from_secs(2);

/// The column `users.id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountId(i64);

impl AccountId {
    pub fn from_row(id: i64) -> Self {
        Self(id)
    }

    pub fn as_i64(self) -> i64 {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Columns of `users` that sign-in needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    pub id: AccountId,
    pub username: String,
    /// PHC string; empty when the column holds no text.
    pub password_hash: String,
    pub is_disabled: bool,
}

/// All that operators see of an account. Bytes that are no UTF-8 are replaced, and times
/// left out that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountDetails {
    pub id: AccountId,
    pub username: String,
    pub email: Option<String>,
    pub password_hash: String,
    pub registered: Option<UnixTime>,
    pub last_sign_in: Option<UnixTime>,
    pub disabled: Option<StateChange>,
    /// Of an account that was disabled before and is not now.
    pub enabled: Option<StateChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    pub at: UnixTime,
    /// Always there for one that disabled the account.
    pub reason: Option<String>,
}

#[derive(Clone, Debug)]
pub struct AccountFilter {
    /// Of SQL's LIKE, for the name or the e-mail address.
    pub pattern: Option<String>,
    /// Only disabled accounts.
    pub disabled: bool,
    /// Only larger ids.
    pub after: i64,
    pub limit: u32,
}

#[derive(Clone, Debug)]
pub enum AccountChange {
    /// PHC string.
    SetHash(String),
    Disable {
        reason: String,
    },
    Enable {
        reason: Option<String>,
    },
    Delete {
        /// Or its rows of `auth_logs` stay, without the account.
        with_sign_ins: bool,
    },
}

#[derive(Clone, Debug)]
pub struct NewAccountRow {
    pub username: String,
    /// The address to store, and another form of it that nobody may have either.
    pub email: Option<(String, String)>,
    /// PHC string, or that of bcrypt.
    pub password_hash: String,
}

/// A sign-in that is about to be answered with a token.
#[derive(Clone, Debug)]
pub struct SignInRecord {
    pub account: AccountId,
    /// The account's name as stored.
    pub username: String,
    /// The hash that the password was checked against.
    pub password_hash: String,
    pub client: IpAddr,
    pub at: UnixTime,
    /// Replaces an outdated hash.
    pub new_hash: Option<String>,
    /// Key of the token, if it may be the first that the key has signed.
    pub first_use: Option<Kid>,
    /// Kid and thumbprint of the key of an expired token, unless it is withdrawn already.
    pub withdraw: Option<[Kid; 2]>,
}

/// Outcome of recording a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Written,
    /// Nothing was written: the account was deleted or disabled, or its hash replaced, since
    /// it was read.
    AccountChanged,
}

/// Outcome of asking for a call under a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// One would be let in after this time.
    Wait(Duration),
}

/// A row of `auth_logs`, with the name of its account. Bytes that are no UTF-8 are
/// replaced, and times left out that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInRow {
    pub id: i64,
    pub at: Option<UnixTime>,
    /// The client's address.
    pub client: String,
    /// None once the account was deleted.
    pub account: Option<AccountId>,
    pub username: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct SignInFilter {
    pub account: Option<AccountId>,
    /// The client's address.
    pub client: Option<String>,
    /// Not before.
    pub since: Option<UnixTime>,
    /// Before.
    pub until: Option<UnixTime>,
    /// The order of the ids is turned round.
    pub newest_first: bool,
    /// Only rows that come after the one with this id.
    pub past: Option<i64>,
    pub limit: u32,
}

/// Row of `service_settings` that is no setting: the longest `KEY_LIFETIME` that there
/// was, in seconds. The statements that select keys name it too.
const LONGEST_KEY_LIFETIME: &str = "longest_key_lifetime";
/// Row of `service_settings` that is no setting: rows were deleted whose bytes may be left
/// in the file.
const UNERASED: &str = "unerased";

/// The row of `service_settings` by which a write-ahead log is known to be its file's.
const WAL_MARK: &str = "wal_mark";
/// Events of deleted keys that are kept, the latest.
const KEPT_EVENTS: i64 = 10_000;

/// Latest time until which a key with times may be published, whatever its `exp` says:
/// another program can set that without knowing `NOT_MY_KEY`.
fn latest_end(exp: i64, created_at: Option<i64>, longest: Option<i64>) -> i64 {
    let bounds = created_at.zip(longest);
    bounds.map_or(exp, |(at, longest)| at.saturating_add(longest))
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRows {
    pub rows: Vec<KeyRow>,
    /// Rows with a value of the wrong type, which give no key.
    pub bad: Vec<BadRow>,
    /// All of another issuer, whatever rows of `keys` were asked for.
    pub adopted: Vec<AdoptedRow>,
}

/// A row of `adopted_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedRow {
    pub kid: String,
    pub times: AdoptedTimes,
    /// Fernet token.
    pub sealed: Vec<u8>,
}

/// The rows of `keys` on which a change of keys is decided.
#[derive(Clone, Copy, Debug)]
pub enum KeySelection {
    All,
    /// As [`Store::keys_at`] selects them.
    Unexpired {
        and_expired: usize,
    },
}

#[derive(Clone, Debug)]
pub struct NewAdoptedKey {
    pub kid: String,
    /// Fernet token.
    pub sealed: Vec<u8>,
    pub until: UnixTime,
}

/// A planned change of the keys, with the events that belong to it.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    pub insert: Option<NewKey>,
    pub revoke: Vec<Kid>,
    /// The operator's reason for `revoke`, `adopt` and `revoke_adopted`.
    pub reason: String,
    /// New sealed forms.
    pub reencrypt: Vec<(Kid, Vec<u8>)>,
    /// New times.
    pub retime: Vec<(Kid, KeySpan)>,
    /// New, or the same key with another end.
    pub adopt: Vec<NewAdoptedKey>,
    pub revoke_adopted: Vec<String>,
    /// New sealed forms.
    pub reencrypt_adopted: Vec<(String, Vec<u8>)>,
}

/// The latest `limit` of two lists of events, each in its order, by their times.
fn merged_events(mut events: Vec<KeyEvent>, more: Vec<KeyEvent>, limit: u32) -> Vec<KeyEvent> {
    if more.is_empty() {
        return events;
    }
    events.extend(more);
    // Keeps the order of each list, unless the clock was set back meanwhile.
    events.sort_by_key(|event| event.at);
    let surplus = events.len().saturating_sub(limit as usize);
    events.split_off(surplus)
}

/// Stored in snake case in the columns `key_events.event` and `adopted_key_events.event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum KeyEventKind {
    Created,
    FirstSigned,
    Revoked,
    Reencrypted,
    Deleted,
    Adopted,
}

impl KeyEventKind {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A row of `key_events` or of `adopted_key_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    pub kid: String,
    pub kind: KeyEventKind,
    pub at: UnixTime,
    pub reason: Option<String>,
}

/// The schema of a database, compared with the one of this version.
#[derive(Debug)]
pub enum SchemaState {
    Current,
    /// The next start of the service makes the missing migrations.
    Older {
        has: usize,
        needs: usize,
    },
    /// A later version has made this step and perhaps more. Steps leave the schema usable
    /// for the version before them, as a rolling upgrade needs.
    Newer(String),
    /// The service would refuse it, for this reason.
    Unusable(OpenError),
}

/// State of a database, for commands that report on it.
#[derive(Debug)]
pub struct Inspection {
    /// Complaints of the database's own check; empty when it finds none.
    pub damages: Vec<String>,
    pub schema: SchemaState,
    /// All keys; without times when the schema is older than these.
    pub keys: KeyRows,
    /// Time of the latest sign-in that was recorded.
    pub last_sign_in: Option<UnixTime>,
}
