//! `serve --init`: the first start on a new machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::Failure;
use crate::config::{self, FILE, Settings};
use crate::crypto::fernet::SealingKeys;

/// Makes `.env` in `dir` with a fresh key, unless a key is set. Returns whether
/// it did. An existing file is never touched, and with a database that has
/// keys in it a fresh key would only hide that the right one is missing.
pub(super) fn make_env_file(dir: &Path, settings: &Settings) -> Result<bool, Failure> {
    if settings.get("NOT_MY_KEY").is_some() {
        return Ok(false);
    }
    let database = config::database(settings)?;
    if dir
        .join(&database)
        .metadata()
        .is_ok_and(|meta| meta.len() > 0)
    {
        return Err(Failure::refused(format!(
            "--init makes no new NOT_MY_KEY, since the database {} exists: set the NOT_MY_KEY that it was made with, or move it away",
            database.display()
        )));
    }
    match write(dir) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Failure::refused(format!(
            "--init does not change the existing {FILE}: add the line NOT_MY_KEY=<key> to it, with a key from `jwks-server keygen`"
        ))),
        Err(e) => Err(Failure::refused(format!("{FILE} cannot be made: {e}"))),
    }
}

fn write(dir: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dir.join(FILE))?;
    let text = Zeroizing::new(format!(
        "# Encrypts the private keys in the database. Keep a copy: without it they are lost.\nNOT_MY_KEY={}\n",
        SealingKeys::generate().as_str()
    ));
    file.write_all(text.as_bytes())?;
    // The database will depend on this file, so it must be there after a crash.
    file.sync_all()?;
    File::open(dir)?.sync_all()
}
