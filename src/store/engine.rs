//! The store on either engine: each method is one whole step of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::copy::{Copied, CopyCallbacks, CopyError};
use super::sqlite::CopyFile;
use super::{
    AccountChange, AccountDetails, AccountRow, Admission, KeyChange, KeyRows, KeySelection,
    NewAccountRow, OpenError, PostgresStore, Recorded, SignInRecord, SignInRow, SqliteStore,
    StoreError, Target,
};
use crate::client_key::ClientKey;
use crate::clock::{Clock, UnixTime};
use crate::lifecycle::Kid;
use crate::metrics::Commits;

/// `DATABASE_URL`: a file of SQLite, or a database on PostgreSQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    Sqlite(PathBuf),
    Postgres(Box<Target>),
}

impl Location {
    /// The path of a file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

/// Without a password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(target) => target.fmt(f),
        }
    }
}

/// A database. Clones share it; [`close`](Self::close) ends it.
#[derive(Clone)]
pub enum Store {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

/// Defines steps that both engines have.
macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $found:ty;)*) => {
        impl Store {
            $($(#[$doc])* pub async fn $name(&self $(, $arg: $type)*) -> Result<$found, StoreError> {
                match self {
                    Self::Sqlite(store) => store.$name($($arg),*).await,
                    Self::Postgres(store) => store.$name($($arg),*).await,
                }
            })*
        }
    };
}

steps! {
    /// The account named `exact`; failing that, the one named `prepared`.
    account_by_name(exact: String, prepared: String) -> Option<AccountRow>;
    /// Adds an account. [`StoreError::AlreadyExists`] when its name or its address is
    /// taken.
    insert_account(account: NewAccountRow, now: UnixTime) -> ();
    /// Adds all accounts, or none when the name or the address of any is taken. Returns
    /// the indexes of those. They must differ among themselves.
    /// With `only_check` nothing is added.
    insert_accounts(accounts: Vec<NewAccountRow>, now: UnixTime, only_check: bool) -> Vec<usize>;
    /// Writes the row of `auth_logs` and `last_login`, and replaces the account's hash, unless
    /// the account has changed meanwhile.
    record_sign_in(record: SignInRecord) -> Recorded;
    /// The next `limit` sign-ins in the order of their ids, after the one with the id
    /// `past`. Reads as many rows, whatever is in them.
    next_sign_ins(past: i64, limit: u32) -> Vec<SignInRow>;
    /// Deletes those of `rows` that are still there with this time and address, and
    /// returns their number.
    delete_sign_ins(rows: Vec<SignInRow>) -> usize;
    /// Keys that have not expired at `now`, and the `expired` ones of the others that
    /// expired last. In order of their expiry.
    keys_at(now: UnixTime, expired: usize) -> KeyRows;
    /// All keys, in the order of their making.
    all_keys() -> KeyRows;
    /// Deletes the keys, adopted ones too, that expired before `before`, except `keep`.
    /// Returns their number.
    prune_keys(before: UnixTime, keep: Option<Kid>, now: UnixTime) -> usize;
    /// True when [`prune_keys`](Self::prune_keys) would delete a key.
    can_prune_keys(before: UnixTime, keep: Option<Kid>) -> bool;
    /// Records the thumbprints of keys of an earlier server: pairs of kid and thumbprint.
    note_thumbprints(found: Vec<(Kid, Kid)>) -> ();
    /// A number that grows with each change to the keys that other processes must see.
    change_counter() -> i64;
    /// Replaces the recorded settings (names and values), and keeps the longest
    /// `KEY_LIFETIME` that there was: no key is published for longer, and one that was made
    /// under it keeps its time when the setting is shortened.
    record_settings(settings: Vec<(String, String)>, key_lifetime: Duration) -> ();
}

impl Store {
    /// Opens, or creates, a file of SQLite. Blocks.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        SqliteStore::open(path).map(Self::Sqlite)
    }

    /// The time by which keys are decided on: one clock for all replicas.
    pub async fn now(&self, clock: &dyn Clock) -> Result<UnixTime, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(clock.now()),
            Self::Postgres(store) => store.now().await,
        }
    }

    /// Has another replica changed the keys since `seen`? Always false on SQLite, where a
    /// step waits for the lock for a moment only, and decides under it again.
    pub async fn another_replica_changed_keys(&self, seen: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(false),
            Self::Postgres(store) => Ok(store.change_counter().await? != seen),
        }
    }

    /// Changes keys in one transaction: `decide` gets the rows of `selection` and the time,
    /// read under the lock, and returns the plan, which is written, and a value for the
    /// caller.
    pub async fn change_keys<T, E>(
        &self,
        selection: KeySelection,
        clock: &Arc<dyn Clock>,
        decide: impl FnOnce(&KeyRows, UnixTime) -> Result<(KeyChange, T), E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        match self {
            Self::Sqlite(store) => store.change_keys(selection, clock, decide).await,
            Self::Postgres(store) => store.change_keys(selection, decide).await,
        }
    }

    /// Changes the account named `names[0]`; failing that, the one named `names[1]`.
    /// `check` gets it, in the same transaction, and may refuse the change. Returns it as
    /// it was before, and the number of its sign-ins that were changed or deleted.
    pub async fn change_account<E>(
        &self,
        names: [String; 2],
        change: AccountChange,
        clock: &Arc<dyn Clock>,
        check: impl FnOnce(Option<AccountDetails>, &AccountChange) -> Result<AccountDetails, E>
        + Send
        + 'static,
    ) -> Result<(AccountDetails, usize), E>
    where
        E: From<StoreError> + Send + 'static,
    {
        match self {
            Self::Sqlite(store) => store.change_account(names, change, clock, check).await,
            Self::Postgres(store) => store.change_account(names, change, check).await,
        }
    }

    /// Lets a call in that is among the `rate` of the client's last second, by the calls of
    /// all replicas. Always on SQLite: there the log of the one server decides.
    pub async fn admit_call(
        &self,
        quota: &str,
        client: ClientKey,
        rate: usize,
    ) -> Result<Admission, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(Admission::Admitted),
            Self::Postgres(store) => store.admit_call(quota, client, rate).await,
        }
    }

    /// The same as [`change_counter`](Self::change_counter), on a thread that may block; on
    /// PostgreSQL as the latest poll has found it.
    pub fn blocking_change_counter(&self) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(store) => store.blocking_change_counter(),
            Self::Postgres(store) => store.blocking_change_counter(),
        }
    }

    /// Transactions that have written, or tried to.
    pub fn commits(&self) -> &Arc<Commits> {
        match self {
            Self::Sqlite(store) => store.commits(),
            Self::Postgres(store) => store.commits(),
        }
    }

    /// Moves SQLite's write-ahead log into the database file, so that a plain copy of that
    /// has what was written.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.checkpoint().await,
            // PostgreSQL makes its own.
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Returns when nothing is written any more.
    pub async fn ended(&self) {
        match self {
            Self::Sqlite(store) => store.ended().await,
            Self::Postgres(store) => store.ended().await,
        }
    }

    /// Writes what is queued, refuses later steps, and closes the database.
    pub async fn close(self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }

    /// True when a write would be kept at the moment `now` of a monotonic clock, or shortly
    /// before.
    pub async fn is_writable(&self, now: Duration) -> bool {
        match self {
            Self::Sqlite(store) => store.is_writable(now).await,
            Self::Postgres(store) => store.is_writable(),
        }
    }

    /// Replicas that have called in lately, or processes that have the file open, this one
    /// too; `None` where that is not known.
    pub async fn participants(&self) -> Option<usize> {
        match self {
            Self::Sqlite(store) => store.processes().await,
            Self::Postgres(store) => store.replicas().await.ok(),
        }
    }

    pub fn is_shared_by_replicas(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Time since the database was last known to be reachable; zero for a file.
    pub fn unreachable_for(&self) -> Duration {
        match self {
            Self::Sqlite(_) => Duration::ZERO,
            Self::Postgres(store) => store.time_since_poll(),
        }
    }

    /// Ends the store when another program has planted a trigger or view in a file while it
    /// was in use. Blocks.
    pub fn blocking_check_schema(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.blocking_check_schema(),
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Checks how much room a file's disk has left, and keeps the reserve.
    pub async fn check_room(&self) {
        if let Self::Sqlite(store) = self {
            store.check_room().await;
        }
    }

    /// The same. Blocks.
    pub fn blocking_check_room(&self) {
        if let Self::Sqlite(store) = self {
            store.blocking_check_room();
        }
    }

    /// True when so little was left on the disk that only what must go on may write; false
    /// on PostgreSQL, whose disk is its administrator's.
    pub fn is_low_on_disk(&self) -> bool {
        match self {
            Self::Sqlite(store) => store.is_low_on_disk(),
            Self::Postgres(_) => false,
        }
    }

    /// Size of SQLite's write-ahead log.
    pub fn wal_bytes(&self) -> u64 {
        match self {
            Self::Sqlite(store) => store.wal_bytes(),
            Self::Postgres(_) => 0,
        }
    }
}

/// Copies all rows of the database `from` into the empty database `to`, on the other
/// engine, in one transaction. Unless `live_ok`, it is refused while another process
/// uses the source, and nobody can write to it meanwhile. Blocks.
pub fn copy(
    from: &Location,
    to: &Location,
    live_ok: bool,
    callbacks: &CopyCallbacks<'_>,
) -> Result<Copied, CopyError> {
    match (from, to) {
        (Location::Sqlite(path), Location::Postgres(target)) => {
            let file = CopyFile::source(path, live_ok)?;
            PostgresStore::copy_in(target, file, callbacks)
        }
        (Location::Postgres(target), Location::Sqlite(path)) => {
            PostgresStore::copy_out(target, live_ok, || CopyFile::target(path), callbacks)
        }
        _ => Err(CopyError::SameEngine),
    }
}
