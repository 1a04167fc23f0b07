//! The database as a whole: opened for the service and for commands, or
//! inspected without changing it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::adopted_keys::AdoptedKey;
use super::key_admin::{self, KeyStatus};
use super::names;
use super::opened_key::{self, OpenedKey};
use super::verification::KeySet;
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
use crate::lifecycle::{self, Policy};
pub use crate::store::BadRow;
pub use crate::store::{AccountDetails, AccountFilter};
use crate::store::{AdoptedRow, KeyEvent, KeyRow, OpenError, Store, StoreError};
pub use crate::store::{Inspection, SchemaState, SignInFilter, SignInRow};
pub use crate::store::{Location, PgEnvironment, ServerState, Target};
use crate::store::{PostgresStore, SqliteStore};

/// A database that was not opened, and not changed. The messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(
        "NOT_MY_KEY opens none of the published keys in the database {}: set the one that it was made with, or move the database away to start with a new one", .0
    )]
    OtherSealingKey(Location),
    #[error("there is no database {}: start the service once, or set DATABASE_URL", .0)]
    Missing(Location),
    #[error("the database {} cannot be used: {error}", .at)]
    Unusable { at: Location, error: OpenError },
    #[error("the database was not opened: {0}")]
    Join(#[from] tokio::task::JoinError),
}

/// Refuses a database none of whose published keys opens with `sealing_keys`, and one on
/// PostgreSQL whose user lacks rights. True when it has keys.
pub fn check_sealing_keys(
    at: &Location,
    sealing_keys: &SealingKeys,
    now: UnixTime,
) -> Result<bool, DatabaseError> {
    let keys = match at {
        Location::Sqlite(path) => SqliteStore::peek_keys(path),
        Location::Postgres(target) => PostgresStore::peek_keys(target),
    };
    let keys = keys.map_err(|error| unusable(at, error))?;
    let has_keys = !keys.rows.is_empty() || !keys.bad.is_empty();
    match opened_key::sealing_keys_fit(keys.rows, sealing_keys, now) {
        true => Ok(has_keys),
        false => Err(DatabaseError::OtherSealingKey(at.clone())),
    }
}

/// Opens a database, or creates it. Takes over a file of an earlier server: keys in the
/// clear are sealed, or refused unless `may_seal`, and the thumbprints of its keys are
/// recorded.
pub async fn open(
    at: &Location,
    sealing_keys: &Arc<SealingKeys>,
    may_seal: bool,
) -> Result<Store, DatabaseError> {
    let store = match at {
        Location::Sqlite(path) => {
            let (path, keys) = (path.clone(), Arc::clone(sealing_keys));
            let open = move || {
                let seal = |stored: &[u8]| opened_key::seal_clear(stored, &keys);
                SqliteStore::open_and_seal(&path, may_seal, seal)
            };
            tokio::task::spawn_blocking(open).await?.map(Store::Sqlite)
        }
        Location::Postgres(target) => PostgresStore::open(target).await.map(Store::Postgres),
    };
    let store = store.map_err(|error| unusable(at, error))?;
    let failed = |e: StoreError| unusable(at, OpenError::Engine(e.to_string()));
    let rows = store.all_keys().await.map_err(failed)?.rows;
    let keys = Arc::clone(sealing_keys);
    let identify = move || {
        let is_unknown = |row: &&KeyRow| row.is_of_earlier_server && row.thumbprint.is_none();
        let opened = rows.iter().filter(is_unknown);
        let opened = opened.filter_map(|row| OpenedKey::open(row, &keys).ok());
        opened.map(|key| (key.kid(), key.thumbprint())).collect()
    };
    let found: Vec<_> = tokio::task::spawn_blocking(identify).await?;
    if !found.is_empty() {
        store.note_thumbprints(found).await.map_err(failed)?;
    }
    Ok(store)
}

/// Opens a database that must exist, whether `NOT_MY_KEY` opens its keys or not.
pub async fn open_existing(
    at: &Location,
    sealing_keys: &Arc<SealingKeys>,
) -> Result<Store, DatabaseError> {
    let exists = match at {
        Location::Sqlite(path) => path.metadata().is_ok_and(|meta| meta.len() > 0),
        // A command: nothing else waits for this thread.
        Location::Postgres(target) => PostgresStore::read_keys(target)
            .map_err(|error| unusable(at, error))?
            .is_some(),
    };
    match exists {
        true => open(at, sealing_keys, false).await,
        false => Err(DatabaseError::Missing(at.clone())),
    }
}

fn unusable(at: &Location, error: OpenError) -> DatabaseError {
    let at = at.clone();
    DatabaseError::Unusable { at, error }
}

/// What was read from a database that must be there.
fn found<T>(at: &Location, read: Result<Option<T>, OpenError>) -> Result<T, DatabaseError> {
    let found = read.map_err(|error| unusable(at, error))?;
    found.ok_or_else(|| DatabaseError::Missing(at.clone()))
}

/// Inspects a database; `None` when it is missing or empty. Blocks, for long when
/// the file is large.
pub fn inspect(at: &Location) -> Result<Option<Inspection>, OpenError> {
    match at {
        Location::Sqlite(path) => SqliteStore::inspect(path),
        Location::Postgres(target) => PostgresStore::inspect(target),
    }
}

/// Status at `now` of all keys in a database, and the rows that could not be read.
/// Changes nothing. Opens each key, so it is slow.
pub fn list_keys(
    at: &Location,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Result<(Vec<KeyStatus>, Vec<BadRow>), DatabaseError> {
    let keys = found(
        at,
        match at {
            Location::Sqlite(path) => SqliteStore::read_keys(path),
            Location::Postgres(target) => PostgresStore::read_keys(target),
        },
    )?;
    let listed = key_admin::statuses(&keys, sealing_keys, policy, now);
    Ok((listed, keys.bad))
}

/// The latest `limit` key events in a database, which is not changed.
pub fn key_history(at: &Location, limit: u32) -> Result<Vec<KeyEvent>, DatabaseError> {
    found(
        at,
        match at {
            Location::Sqlite(path) => SqliteStore::read_history(path, limit),
            Location::Postgres(target) => PostgresStore::read_history(target, limit),
        },
    )
}

/// Accounts of a database, which is not changed.
pub fn list_accounts(
    at: &Location,
    filter: &AccountFilter,
) -> Result<Vec<AccountDetails>, DatabaseError> {
    found(
        at,
        match at {
            Location::Sqlite(path) => SqliteStore::list_accounts(path, filter),
            Location::Postgres(target) => PostgresStore::list_accounts(target, filter),
        },
    )
}

/// The account of this name in a database, which is not changed.
pub fn account(at: &Location, name: &str) -> Result<Option<AccountDetails>, DatabaseError> {
    let names = names::lookup_forms(name.to_owned());
    found(
        at,
        match at {
            Location::Sqlite(path) => SqliteStore::read_account(path, &names),
            Location::Postgres(target) => PostgresStore::read_account(target, &names),
        },
    )
}

/// Sign-ins of a database, which is not changed.
pub fn list_sign_ins(
    at: &Location,
    filter: &SignInFilter,
) -> Result<Vec<SignInRow>, DatabaseError> {
    found(
        at,
        match at {
            Location::Sqlite(path) => SqliteStore::list_sign_ins(path, filter),
            Location::Postgres(target) => PostgresStore::list_sign_ins(target, filter),
        },
    )
}

/// Writes a database anew, so that no byte of deleted rows is left in its files.
/// Blocks, for long when the file is large; writers wait.
pub fn erase_deleted(at: &Location) -> Result<(), DatabaseError> {
    match at {
        Location::Sqlite(path) => {
            SqliteStore::erase_deleted(path).map_err(|error| unusable(at, error))
        }
        // Its administrator's: VACUUM, and the archive of the write-ahead log.
        Location::Postgres(_) => Ok(()),
    }
}

/// Files beside a database that restores have set aside; none where they cannot be listed.
pub fn replaced_files(at: &Location) -> Vec<PathBuf> {
    match at {
        Location::Sqlite(path) => SqliteStore::replaced_files(path).unwrap_or_default(),
        Location::Postgres(_) => Vec::new(),
    }
}

/// May bytes of deleted rows be left, since an earlier [`erase_deleted`] has failed?
pub fn is_unerased(at: &Location) -> Result<bool, DatabaseError> {
    match at {
        Location::Sqlite(path) => {
            SqliteStore::is_unerased(path).map_err(|error| unusable(at, error))
        }
        Location::Postgres(_) => Ok(false),
    }
}

/// Frees the reserve for emergencies when the disk of a database is full.
pub fn free_reserve(at: &Location) {
    if let Location::Sqlite(path) = at {
        SqliteStore::free_reserve(path);
    }
}

/// Size in bytes of a write-ahead log that another program's read keeps large.
pub fn large_wal(path: &Path) -> Option<u64> {
    SqliteStore::large_wal(path)
}

/// Settings that the service recorded in a database: names and values.
pub fn recorded_settings(at: &Location) -> Result<Vec<(String, String)>, DatabaseError> {
    let found = match at {
        Location::Sqlite(path) => SqliteStore::recorded_settings(path),
        Location::Postgres(target) => {
            PostgresStore::recorded_settings(target).map(Option::unwrap_or_default)
        }
    };
    found.map_err(|error| unusable(at, error))
}

/// Reasons for which this user cannot write to a database: its files and folder.
pub fn obstacles(path: &Path) -> Vec<OpenError> {
    SqliteStore::obstacles(path)
}

/// The files of a database that exist, with their mode bits.
pub fn file_modes(path: &Path) -> io::Result<Vec<(PathBuf, u32)>> {
    SqliteStore::file_modes(path)
}

/// State of a server of PostgreSQL; none for a file.
pub fn server_state(at: &Location) -> Option<Result<ServerState, OpenError>> {
    match at {
        Location::Sqlite(_) => None,
        Location::Postgres(target) => Some(PostgresStore::server_state(target)),
    }
}

/// The latest time that is stored in the database.
pub fn newest_time(found: &Inspection) -> Option<UnixTime> {
    let created = found
        .keys
        .rows
        .iter()
        .filter_map(|row| row.times.created_at);
    created.chain(found.last_sign_in).max()
}

/// State of the keys of an inspected database.
pub struct KeyReview {
    /// Keys whose rows could be read.
    pub statuses: Vec<KeyStatus>,
    /// Time at which the next key is, or was, due; none when it is due at once.
    pub next_due: Option<UnixTime>,
}

/// Opens each key: slow.
pub fn review_keys(
    found: &Inspection,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> KeyReview {
    let rows = &found.keys.rows;
    let statuses = key_admin::statuses(&found.keys, sealing_keys, policy, now);
    let usable: Vec<_> = rows
        .iter()
        .zip(&statuses)
        .filter(|(_, status)| status.opened_by.is_ok())
        .map(|(row, _)| row.times)
        .collect();
    KeyReview {
        next_due: lifecycle::next_due(&usable, policy, now),
        statuses,
    }
}

/// Difference between the key set that a service gives out and the published keys
/// of a database.
#[derive(Debug, PartialEq, Eq)]
pub enum Difference {
    /// Kids in the key set that the database does not publish.
    Extra(Vec<String>),
    /// Kids of keys that open and are not in the key set.
    Missing(Vec<String>),
}

/// Compares both. Without `sealing_keys` no key is known to open, so none is missing.
pub fn difference(
    set: &KeySet,
    found: &Inspection,
    sealing_keys: Option<&SealingKeys>,
    now: UnixTime,
) -> Option<Difference> {
    let published = || {
        let rows = found.keys.rows.iter();
        rows.filter(|row| row.times.is_published_at(now))
    };
    let opens = |row: &&KeyRow| {
        sealing_keys.is_some_and(|sealing_keys| OpenedKey::open(row, sealing_keys).is_ok())
    };
    let kid = |row: &KeyRow| row.times.kid.to_string();
    let served: BTreeSet<String> = set.kids().map(str::to_owned).collect();
    let adopted = || {
        let rows = found.keys.adopted.iter();
        rows.filter(|row| row.times.is_published_at(now))
    };
    let adopted_opens = |row: &&AdoptedRow| {
        let opened = sealing_keys.and_then(|keys| AdoptedKey::open(row, keys).ok());
        // It may end before its row does.
        opened.is_some_and(|key| key.times().is_published_at(now))
    };
    let adopted_kid = |row: &AdoptedRow| row.kid.clone();
    let may: BTreeSet<String> = published()
        .map(kid)
        .chain(adopted().map(adopted_kid))
        .collect();
    let own = published().filter(opens).map(kid);
    let must: BTreeSet<String> = own
        .chain(adopted().filter(adopted_opens).map(adopted_kid))
        .collect();
    let extra: Vec<_> = served.difference(&may).cloned().collect();
    if !extra.is_empty() {
        return Some(Difference::Extra(extra));
    }
    let missing: Vec<_> = must.difference(&served).cloned().collect();
    (!missing.is_empty()).then_some(Difference::Missing(missing))
}
