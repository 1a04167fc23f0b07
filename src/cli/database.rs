//! Opening the database for a command.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Failure;
use crate::clock::Clock;
use crate::crypto::fernet::SealingKeys;
use crate::domain::keys;
use crate::store::Store;

/// Opens the database after a look at it: with the wrong `NOT_MY_KEY` nothing
/// of it is changed.
pub(super) async fn open(
    path: &Path,
    secrets: &Arc<SealingKeys>,
    clock: &dyn Clock,
) -> Result<Store, Failure> {
    let (path, secrets, now) = (PathBuf::from(path), Arc::clone(secrets), clock.now());
    let named = format!("the database {}", path.display());
    let opened = tokio::task::spawn_blocking(move || {
        let refused = |e| Failure::refused(format!("{named} cannot be used: {e}"));
        let rows = Store::peek_keys(&path).map_err(refused)?;
        if !keys::secrets_fit(rows, &secrets, now) {
            return Err(Failure::refused(format!(
                "NOT_MY_KEY opens none of the keys in {named}: set the one that it was made with, or move the database away to begin anew"
            )));
        }
        Store::open(&path).map_err(refused)
    });
    opened
        .await
        .map_err(|e| Failure::broken(format!("the database was not opened: {e}")))?
}

/// Opens a database that must be there already, whatever opens its keys.
pub(super) async fn open_existing(path: &Path) -> Result<Store, Failure> {
    let path = PathBuf::from(path);
    let named = format!("the database {}", path.display());
    if !path.metadata().is_ok_and(|meta| meta.len() > 0) {
        return Err(Failure::refused(format!(
            "there is no {}: start the service once, or set DATABASE_URL",
            named.trim_start_matches("the ")
        )));
    }
    tokio::task::spawn_blocking(move || Store::open(&path))
        .await
        .map_err(|e| Failure::broken(format!("the database was not opened: {e}")))?
        .map_err(|e| Failure::refused(format!("{named} cannot be used: {e}")))
}
