//! A backup: a copy of the database beside a running service, verified.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::database::DatabaseError;
use super::key_admin;
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
use crate::lifecycle::Policy;
use crate::store::Store;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{} exists already: name another path", .0.display())]
    Exists(PathBuf),
    #[error("{} is left from a backup that did not end, or another one runs: delete it if none does", .0.display())]
    Unfinished(PathBuf),
    #[error("the path of a backup must be UTF-8")]
    NotUtf8,
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("the backup cannot be written: {0}")]
    File(#[from] io::Error),
    #[error("the copy is damaged and was deleted; `doctor` checks the database: {0}")]
    Damaged(String),
}

/// Numbers of keys in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    pub keys: usize,
    /// Those that open under no entry of `NOT_MY_KEY`, or whose rows cannot be read.
    pub unopened: usize,
}

/// Copies the database at `from` to the new file `to`, readable by its owner only. It
/// gets its name when it is verified and on disk. Blocks.
pub fn back_up(
    from: &Path,
    to: &Path,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Result<BackedUp, BackupError> {
    let to = std::path::absolute(to)?;
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to));
    }
    let mut partial = to.to_str().ok_or(BackupError::NotUtf8)?.to_owned();
    partial.push_str(".partial");
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial);
    let file = file.map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Unfinished(PathBuf::from(&partial)),
        _ => BackupError::File(e),
    })?;
    let copy = || {
        Store::back_up(from, &partial).map_err(|error| unusable(from, error))?;
        let found = verify(Path::new(&partial), sealing_keys, policy, now)?;
        file.sync_all()?;
        fs::rename(&partial, &to)?;
        File::open(to.parent().unwrap_or(&to))?.sync_all()?;
        Ok(found)
    };
    let done = copy();
    if done.is_err() {
        let _ = fs::remove_file(&partial);
    }
    done
}

fn unusable(path: &Path, error: crate::store::OpenError) -> DatabaseError {
    match path.metadata() {
        Ok(meta) if meta.len() > 0 => DatabaseError::Unusable {
            path: path.to_owned(),
            error,
        },
        _ => DatabaseError::Missing(path.to_owned()),
    }
}

/// Checks every page of the copy, and opens every key.
fn verify(
    copy: &Path,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Result<BackedUp, BackupError> {
    let found = Store::inspect(copy).map_err(|error| BackupError::Damaged(error.to_string()))?;
    let found = found.ok_or_else(|| BackupError::Damaged("it is empty".to_owned()))?;
    if !found.damages.is_empty() {
        return Err(BackupError::Damaged(found.damages.join("; ")));
    }
    let statuses = key_admin::statuses(&found.keys.rows, sealing_keys, policy, now);
    let unopened = statuses.iter().filter(|key| key.opened_by.is_err()).count();
    Ok(BackedUp {
        keys: statuses.len() + found.keys.bad.len(),
        unopened: unopened + found.keys.bad.len(),
    })
}
