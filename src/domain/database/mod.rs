//! The database as a whole: opened for the service and for commands; read without a
//! change to it (`reading.rs`); and judged by what was read (`review.rs`).

mod reading;
mod review;

use std::sync::Arc;

use super::opened_key::{self, OpenedKey};
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
pub use crate::store::{
    AccountDetails, AccountFilter, BadRow, Inspection, Location, PgEnvironment, SchemaState,
    ServerState, SignInFilter, SignInRow, Target,
};
use crate::store::{KeyRow, OpenError, PostgresStore, SqliteStore, Store, StoreError};
pub use reading::{
    account, file_modes, inspect, is_unerased, key_history, large_wal, list_accounts, list_keys,
    list_sign_ins, obstacles, recorded_settings, replaced_files, server_state,
};
pub use review::{Difference, KeyReview, difference, newest_time, review_keys};

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
pub fn check_keys(
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
        let is_unknown = |row: &&KeyRow| row.is_of_earlier_server && row.thumbprint_kid.is_none();
        let opened = rows.iter().filter(is_unknown);
        let opened = opened.filter_map(|row| OpenedKey::open(row, &keys).ok());
        opened
            .map(|key| (key.kid(), key.thumbprint_kid()))
            .collect()
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

/// Frees the reserve for emergencies when the disk of a database is full.
pub fn free_reserve(at: &Location) {
    if let Location::Sqlite(path) = at {
        SqliteStore::free_reserve(path);
    }
}
