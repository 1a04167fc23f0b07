//! Reads of a database that change nothing on either engine: no migration, no
//! checkpoint. They block, for long when there is much to read.

use std::io;
use std::path::{Path, PathBuf};

use super::{
    AccountDetails, AccountFilter, BadRow, DatabaseError, Inspection, Location, ServerState,
    SignInFilter, SignInRow, Target, unusable,
};
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
use crate::domain::key_admin::{self, KeyStatus};
use crate::domain::names;
use crate::lifecycle::Policy;
use crate::store::{KeyEvent, OpenError, PostgresStore, SqliteStore};

/// Reads a database, which must be there, by the function of its engine.
fn read<T>(
    at: &Location,
    sqlite: impl FnOnce(&Path) -> Result<Option<T>, OpenError>,
    postgres: impl FnOnce(&Target) -> Result<Option<T>, OpenError>,
) -> Result<T, DatabaseError> {
    let found = match at {
        Location::Sqlite(path) => sqlite(path),
        Location::Postgres(target) => postgres(target),
    };
    let found = found.map_err(|error| unusable(at, error))?;
    found.ok_or_else(|| DatabaseError::Missing(at.clone()))
}

/// `None` when the database is missing or empty.
pub fn inspect(at: &Location) -> Result<Option<Inspection>, OpenError> {
    match at {
        Location::Sqlite(path) => SqliteStore::inspect(path),
        Location::Postgres(target) => PostgresStore::inspect(target),
    }
}

/// Status at `now` of all keys in a database, and the rows that could not be read.
/// Opens each key, so it is slow.
pub fn list_keys(
    at: &Location,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Result<(Vec<KeyStatus>, Vec<BadRow>), DatabaseError> {
    let keys = read(at, SqliteStore::read_keys, PostgresStore::read_keys)?;
    let listed = key_admin::statuses(&keys, sealing_keys, policy, now);
    Ok((listed, keys.bad))
}

/// The latest `limit` key events.
pub fn key_history(at: &Location, limit: u32) -> Result<Vec<KeyEvent>, DatabaseError> {
    read(
        at,
        |path| SqliteStore::read_history(path, limit),
        |target| PostgresStore::read_history(target, limit),
    )
}

pub fn list_accounts(
    at: &Location,
    filter: &AccountFilter,
) -> Result<Vec<AccountDetails>, DatabaseError> {
    read(
        at,
        |path| SqliteStore::list_accounts(path, filter),
        |target| PostgresStore::list_accounts(target, filter),
    )
}

pub fn account(at: &Location, name: &str) -> Result<Option<AccountDetails>, DatabaseError> {
    let names = names::lookup_forms(name.to_owned());
    read(
        at,
        |path| SqliteStore::read_account(path, &names),
        |target| PostgresStore::read_account(target, &names),
    )
}

pub fn list_sign_ins(
    at: &Location,
    filter: &SignInFilter,
) -> Result<Vec<SignInRow>, DatabaseError> {
    read(
        at,
        |path| SqliteStore::list_sign_ins(path, filter),
        |target| PostgresStore::list_sign_ins(target, filter),
    )
}

/// Files beside a database that restores have set aside; none where they cannot be listed.
pub fn replaced_files(at: &Location) -> Vec<PathBuf> {
    match at {
        Location::Sqlite(path) => SqliteStore::replaced_files(path).unwrap_or_default(),
        Location::Postgres(_) => Vec::new(),
    }
}

/// May bytes of deleted rows be left, since an earlier [`erase_deleted`](super::erase_deleted) has failed?
pub fn is_unerased(at: &Location) -> Result<bool, DatabaseError> {
    match at {
        Location::Sqlite(path) => {
            SqliteStore::is_unerased(path).map_err(|error| unusable(at, error))
        }
        Location::Postgres(_) => Ok(false),
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
