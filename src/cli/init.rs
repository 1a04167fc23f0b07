//! `serve --init`: the first start on a new machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::Access;
use zeroize::Zeroizing;

use super::Failure;
use crate::config::{self, FILE, Settings, name};

/// A fresh key for `.env` in `dir`, unless one is set. An existing file is never
/// changed, and beside an existing database a fresh key would only hide that the
/// right one is missing.
pub(super) fn new_sealing_key(
    dir: &Path,
    settings: &Settings,
) -> Result<Option<Zeroizing<String>>, Failure> {
    if settings.get(name::NOT_MY_KEY).is_some() {
        return Ok(None);
    }
    let location = config::database(settings)?;
    let Some(database) = location.file() else {
        return Err(Failure::refused(
            "--init is for a file of SQLite: replicas on PostgreSQL share one NOT_MY_KEY, made with `jwks-server keygen`",
        ));
    };
    if dir
        .join(database)
        .metadata()
        .is_ok_and(|meta| meta.len() > 0)
    {
        return Err(Failure::refused(format!(
            "--init creates no new NOT_MY_KEY, since the database {} exists: set the NOT_MY_KEY that it was made with, or move it away",
            database.display()
        )));
    }
    if dir.join(FILE).symlink_metadata().is_ok() {
        return Err(already_there());
    }
    // The database is created after .env; a folder in which it cannot be is refused
    // before anything is made.
    let path = dir.join(database);
    let folder = path.parent().unwrap_or(dir);
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| {
        Failure::refused(format!(
            "the database {} of DATABASE_URL cannot be created: {e}",
            database.display()
        ))
    })?;
    Ok(Some(config::generate_sealing_key()))
}

/// Creates `.env` in `dir` with the key, on disk when this returns.
pub(super) fn create_env_file(dir: &Path, key: &str) -> Result<(), Failure> {
    write(dir, key).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => already_there(),
        _ => Failure::refused(format!("{FILE} cannot be created: {e}")),
    })
}

fn already_there() -> Failure {
    Failure::refused(format!(
        "--init does not change the existing {FILE}: add the line NOT_MY_KEY=<key> to it, with a key from `jwks-server keygen`"
    ))
}

fn write(dir: &Path, key: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dir.join(FILE))?;
    let text = Zeroizing::new(format!(
        "# Encrypts the private keys in the database. Keep a copy: without it they are lost.\nNOT_MY_KEY={key}\n"
    ));
    file.write_all(text.as_bytes())?;
    // The database will depend on this file, so it must be there after a crash.
    file.sync_all()?;
    File::open(dir)?.sync_all()
}
