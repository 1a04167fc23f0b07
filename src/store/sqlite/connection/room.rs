//! Room on the disk: what is left of it, what the write-ahead log takes, and a
//! reserve that an emergency may use when the disk is full.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::{SqliteStore, file};

const MIB: u64 = 1024 * 1024;
/// With less left nobody can sign up, so that sign-ins and keys go on for long.
const LEAST_FREE: u64 = 64 * MIB;
/// SQLite keeps the log at 4 MiB unless another program's read holds it.
pub(in crate::store) const LARGE_WAL: u64 = 64 * MIB;
const RESERVE: u64 = 4 * MIB;

/// Outcome of the latest check.
#[derive(Debug, Default)]
pub(super) struct Room {
    is_low: AtomicBool,
    has_large_wal: AtomicBool,
    wal_bytes: AtomicU64,
}

impl SqliteStore {
    pub async fn check_room(&self) {
        let store = self.clone();
        let _ = tokio::task::spawn_blocking(move || store.blocking_check_room()).await;
    }

    pub fn blocking_check_room(&self) {
        self.room.check(self.files.real_path());
    }

    pub fn is_low_on_disk(&self) -> bool {
        self.room.is_low.load(Ordering::Relaxed)
    }

    pub fn wal_bytes(&self) -> u64 {
        self.room.wal_bytes.load(Ordering::Relaxed)
    }

    /// Frees the reserve of the database at `path` when little is left on the disk.
    pub fn free_reserve(path: &Path) {
        let path = file::real(path);
        if bytes_left(&path).is_ok_and(|free| free < LEAST_FREE) {
            remove_reserve(&path);
        }
    }
}

impl Room {
    fn check(&self, path: &Path) {
        let wal = file::size(&file::side_file(path, "-wal"));
        self.wal_bytes.store(wal, Ordering::Relaxed);
        if turned(&self.has_large_wal, wal > LARGE_WAL) {
            tracing::warn!(
                "the write-ahead log has {} MiB: a read of another program, which has lasted for long, keeps it from being emptied",
                wal / MIB
            );
        }
        let Ok(free) = bytes_left(path) else {
            return;
        };
        if turned(&self.is_low, free < LEAST_FREE) {
            tracing::warn!(
                "only {} MiB are left for the database: nobody can sign up until there are {} MiB",
                free / MIB,
                LEAST_FREE / MIB
            );
        }
        if free >= LEAST_FREE {
            // Without one an emergency still has what is left of the disk.
            let _ = make_reserve(path);
        }
    }
}

/// Notes the new state. True when that is `true` and was not before.
fn turned(state: &AtomicBool, now: bool) -> bool {
    !state.swap(now, Ordering::Relaxed) && now
}

fn bytes_left(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn make_reserve(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file::side_file(path, "-reserve"))?;
    Ok(fallocate(made, FallocateFlags::empty(), 0, RESERVE)?)
}

pub(super) fn remove_reserve(path: &Path) {
    let _ = fs::remove_file(file::side_file(path, "-reserve"));
}
