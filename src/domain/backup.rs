//! A backup: a copy of the database beside a running service, verified; and its way
//! back, without one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::database::DatabaseError;
use super::key_admin;
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
use crate::lifecycle::Policy;
use crate::store::{Location, SchemaState, SqliteStore};

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

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("there is no file {}", .0.display())]
    Missing(PathBuf),
    #[error("{} is the database itself", .0.display())]
    Same(PathBuf),
    #[error("{} is no backup that can be used, and nothing was changed: {reason}", .path.display())]
    Unfit { path: PathBuf, reason: String },
    #[error("the database is in use by {0}: stop it first")]
    InUse(String),
    #[error("the database was not replaced: {0}")]
    File(#[from] io::Error),
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
        SqliteStore::back_up(from, &partial).map_err(|error| unusable(from, error))?;
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

/// A backup that is in the place of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub keys: usize,
    /// The database that was there, if there was one.
    pub replaced: Option<PathBuf>,
}

/// Puts a copy of the backup `from` in the place of the database at `to`, whose files
/// stay beside it under other names. Refused while a process uses that, and for a
/// backup that is damaged or has a key that does not open. Blocks.
pub fn restore(
    from: &Path,
    to: &Path,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Result<Restored, RestoreError> {
    if !from.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(RestoreError::Missing(from.to_owned()));
    }
    let unfit = |reason: String| RestoreError::Unfit {
        path: from.to_owned(),
        reason,
    };
    if fs::canonicalize(to).is_ok_and(|to| fs::canonicalize(from).is_ok_and(|from| from == to)) {
        return Err(RestoreError::Same(from.to_owned()));
    }
    if let Some(side_file) = SqliteStore::side_file_in_use(from) {
        let text = format!(
            "{} is part of it: `backup` makes one file",
            side_file.display()
        );
        return Err(unfit(text));
    }
    in_use(to)?;
    // What is checked is what will be used.
    let copy = SqliteStore::copy_beside(from, to)?;
    let checked = verify(&copy, sealing_keys, policy, now).map_err(|error| match error {
        BackupError::Damaged(reason) => unfit(reason),
        other => unfit(other.to_string()),
    });
    let done = checked.and_then(|found| {
        match (found.keys, found.unopened) {
            (0, _) => return Err(unfit("it has no keys".to_owned())),
            (_, 0) => {}
            (_, unopened) => {
                let text = format!("{unopened} of its keys open under no entry of NOT_MY_KEY");
                return Err(unfit(text));
            }
        }
        in_use(to)?;
        Ok(Restored {
            keys: found.keys,
            replaced: SqliteStore::replace(to, &copy, &now.to_string())?,
        })
    });
    if done.is_err() {
        let _ = fs::remove_file(&copy);
    }
    done
}

fn in_use(path: &Path) -> Result<(), RestoreError> {
    match SqliteStore::used_by(path)? {
        Some(process) => Err(RestoreError::InUse(process)),
        None => Ok(()),
    }
}

fn unusable(path: &Path, error: crate::store::OpenError) -> DatabaseError {
    match path.metadata() {
        Ok(meta) if meta.len() > 0 => DatabaseError::Unusable {
            at: Location::Sqlite(path.to_owned()),
            error,
        },
        _ => DatabaseError::Missing(Location::Sqlite(path.to_owned())),
    }
}

/// Checks every page of the copy, and opens every key.
fn verify(
    copy: &Path,
    sealing_keys: &SealingKeys,
    policy: &Policy,
    now: UnixTime,
) -> Result<BackedUp, BackupError> {
    let found =
        SqliteStore::inspect(copy).map_err(|error| BackupError::Damaged(error.to_string()))?;
    let found = found.ok_or_else(|| BackupError::Damaged("it is empty".to_owned()))?;
    if let SchemaState::Unusable(error) = found.schema {
        return Err(BackupError::Damaged(error.to_string()));
    }
    if !found.damages.is_empty() {
        return Err(BackupError::Damaged(found.damages.join("; ")));
    }
    let statuses = key_admin::statuses(&found.keys, sealing_keys, policy, now);
    let unopened = statuses.iter().filter(|key| key.opened_by.is_err()).count();
    Ok(BackedUp {
        keys: statuses.len() + found.keys.bad.len(),
        unopened: unopened + found.keys.bad.len(),
    })
}
