//! The processes that have the database open, by the locks that SQLite holds on its file.

use std::collections::BTreeSet;
use std::fs;

use super::SqliteStore;

/// First byte of the lock of SQLite's readers, who hold it as long as they are connected
/// to a database with a write-ahead log.
const SHARED_FIRST: u64 = 0x4000_0002;

impl SqliteStore {
    /// Processes that have the database open, this one too; those of other containers
    /// are not among them.
    pub async fn processes(&self) -> Option<usize> {
        with_open(self.files.main.inode).await
    }
}

/// Processes that have the database with this inode open.
pub(super) async fn with_open(inode: u64) -> Option<usize> {
    let count = move || {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        Some(readers(&locks, inode))
    };
    tokio::task::spawn_blocking(count).await.ok().flatten()
}

/// Processes that hold the lock which SQLite's readers hold on the file, by the lines of
/// `/proc/locks`: number, POSIX, ADVISORY, READ, process, device:device:inode, first and
/// last byte.
fn readers(locks: &str, inode: u64) -> usize {
    let reader = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "POSIX", _, _, process, file, first, _] = fields[..] else {
            return None;
        };
        let is_ours = file.rsplit(':').next()?.parse() == Ok(inode);
        (is_ours && first.parse() == Ok(SHARED_FIRST)).then(|| process.to_owned())
    };
    let processes: BTreeSet<_> = locks.lines().filter_map(reader).collect();
    processes.len()
}
