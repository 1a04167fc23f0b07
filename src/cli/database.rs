//! Opening the database for a command.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
use crate::domain::key_ring;
use crate::store::{OpenError, Store};

/// Refuses a database none of whose keys opens, and changes nothing of it.
pub(super) fn check(path: &Path, secrets: &SealingKeys, now: UnixTime) -> Result<(), Failure> {
    let rows = Store::peek_keys(path).map_err(|e| unusable(path, &e))?;
    if key_ring::secrets_fit(rows, secrets, now) {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "NOT_MY_KEY opens none of the keys in the database {}: set the one that it was made with, or move the database away to begin anew",
        path.display()
    )))
}

/// Opens a database, or makes it.
pub(super) async fn open(path: &Path) -> Result<Store, Failure> {
    let path = PathBuf::from(path);
    tokio::task::spawn_blocking(move || Store::open(&path).map_err(|e| unusable(&path, &e)))
        .await
        .map_err(|e| Failure::broken(format!("the database was not opened: {e}")))?
}

/// Opens a database that must be there already, whatever opens its keys.
pub(super) async fn open_existing(path: &Path) -> Result<Store, Failure> {
    if !path.metadata().is_ok_and(|meta| meta.len() > 0) {
        return Err(Failure::refused(format!(
            "there is no database {}: start the service once, or set DATABASE_URL",
            path.display()
        )));
    }
    open(path).await
}

fn unusable(path: &Path, error: &OpenError) -> Failure {
    Failure::refused(format!(
        "the database {} cannot be used: {error}",
        path.display()
    ))
}
