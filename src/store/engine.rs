//! The store on either engine: each method is one whole step of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::copy::{Copied, CopyCallbacks, CopyError};
use super::sqlite::CopyFile;
use super::{
    AccountChange, AccountDetails, AccountRow, KeyChange, KeyRows, KeySelection, NewAccountRow,
    OpenError, PostgresStore, SignInRecord, SignInRow, SqliteStore, StoreError, Target,
};
use crate::client::ClientKey;
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

/// A database. Clones share it; [`close`](Self::close) ends it. The methods are
/// documented where the engines have them.
#[derive(Clone)]
pub enum Store {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

/// Defines steps that both engines have.
macro_rules! steps {
    ($($name:ident($($arg:ident: $type:ty),*) -> $found:ty;)*) => {
        impl Store {
            $(pub async fn $name(&self $(, $arg: $type)*) -> Result<$found, StoreError> {
                match self {
                    Self::Sqlite(store) => store.$name($($arg),*).await,
                    Self::Postgres(store) => store.$name($($arg),*).await,
                }
            })*
        }
    };
}

steps! {
    account_by_name(exact: String, prepared: String) -> Option<AccountRow>;
    insert_account(account: NewAccountRow, now: UnixTime) -> ();
    insert_accounts(accounts: Vec<NewAccountRow>, now: UnixTime) -> Vec<usize>;
    record_sign_in(record: SignInRecord) -> bool;
    next_sign_ins(past: i64, limit: u32) -> Vec<SignInRow>;
    delete_sign_ins(rows: Vec<SignInRow>) -> usize;
    keys_at(now: UnixTime, expired: usize) -> KeyRows;
    all_keys() -> KeyRows;
    prune_keys(before: UnixTime, keep: Option<Kid>, now: UnixTime) -> usize;
    can_prune_keys(before: UnixTime, keep: Option<Kid>) -> bool;
    note_thumbprints(found: Vec<(Kid, Kid)>) -> ();
    change_counter() -> i64;
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
    pub async fn keys_have_changed(&self, seen: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(false),
            Self::Postgres(store) => Ok(store.change_counter().await? != seen),
        }
    }

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

    pub async fn change_account<E>(
        &self,
        names: [String; 2],
        change: AccountChange,
        clock: &Arc<dyn Clock>,
        check: impl FnOnce(Option<AccountDetails>, &AccountChange) -> Result<AccountDetails, E>
        + Send
        + 'static,
    ) -> Result<AccountDetails, E>
    where
        E: From<StoreError> + Send + 'static,
    {
        match self {
            Self::Sqlite(store) => store.change_account(names, change, clock, check).await,
            Self::Postgres(store) => store.change_account(names, change, check).await,
        }
    }

    /// Always on SQLite: there the log of the one server decides.
    pub async fn admit_call(
        &self,
        quota: &str,
        client: ClientKey,
        rate: usize,
    ) -> Result<Result<(), Duration>, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(Ok(())),
            Self::Postgres(store) => store.admit_call(quota, client, rate).await,
        }
    }

    pub fn blocking_change_counter(&self) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(store) => store.blocking_change_counter(),
            Self::Postgres(store) => store.blocking_change_counter(),
        }
    }

    pub fn commits(&self) -> &Arc<Commits> {
        match self {
            Self::Sqlite(store) => store.commits(),
            Self::Postgres(store) => store.commits(),
        }
    }

    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.checkpoint().await,
            // PostgreSQL makes its own.
            Self::Postgres(_) => Ok(()),
        }
    }

    pub async fn ended(&self) {
        match self {
            Self::Sqlite(store) => store.ended().await,
            Self::Postgres(store) => store.ended().await,
        }
    }

    pub async fn close(self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }

    pub async fn is_writable(&self, now: Duration) -> bool {
        match self {
            Self::Sqlite(store) => store.is_writable(now).await,
            Self::Postgres(store) => store.is_writable(),
        }
    }

    /// Replicas that have called in lately, or processes that have the file open, this one
    /// too; `None` where that is not known.
    pub async fn openers(&self) -> Option<usize> {
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
            Self::Postgres(store) => store.polled_before(),
        }
    }

    pub fn blocking_check_schema(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.blocking_check_schema(),
            Self::Postgres(_) => Ok(()),
        }
    }

    pub async fn check_room(&self) {
        if let Self::Sqlite(store) = self {
            store.check_room().await;
        }
    }

    pub fn blocking_check_room(&self) {
        if let Self::Sqlite(store) = self {
            store.blocking_check_room();
        }
    }

    /// False on PostgreSQL, whose disk is its administrator's.
    pub fn is_low_on_disk(&self) -> bool {
        match self {
            Self::Sqlite(store) => store.is_low_on_disk(),
            Self::Postgres(_) => false,
        }
    }

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
