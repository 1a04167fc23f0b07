//! The recorded sign-ins: those that are older than a given time are deleted, in small
//! steps beside running services, perhaps after they were written to a file.

mod keep_file;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, UnixTime};
pub use crate::store::{SignInFilter, SignInRow};
use crate::store::{Store, StoreError};
pub use keep_file::{KeepFile, KeepFileError, line};

/// Rows in one transaction, which holds the write lock for some milliseconds.
const STEP: u32 = 1000;
/// Between two transactions others get the lock: for as long as the last one took, and
/// at least this long.
const MIN_PAUSE: Duration = Duration::from_millis(5);
/// Interval at which a service looks for rows to delete.
const EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    KeepFile(#[from] KeepFileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the file was not written: {0}")]
    Join(#[from] tokio::task::JoinError),
}

/// Numbers of rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pruned {
    pub deleted: usize,
    /// Left, since their time or address cannot be read.
    pub unreadable: usize,
}

/// Deletes all sign-ins before `before`. With a file, each is on disk in it first.
/// `progress` is told the last id that was looked at.
pub async fn prune(
    store: &Store,
    before: UnixTime,
    keep: Option<&Path>,
    mut progress: impl FnMut(i64),
) -> Result<Pruned, AuditError> {
    let (mut kept, mut held, mut pruned) = (None, HashSet::new(), Pruned::default());
    if let Some(path) = keep.map(Path::to_owned) {
        let opened = tokio::task::spawn_blocking(move || KeepFile::open(&path, STEP));
        let (file, last) = opened.await??;
        kept = Some(file);
        // Perhaps the run that wrote them was ended before it deleted them.
        held = last;
    }
    let mut past = i64::MIN;
    loop {
        let mut rows = store.next_sign_ins(past, STEP).await?;
        let Some(last) = rows.last() else {
            return Ok(pruned);
        };
        past = last.id;
        pruned.unreadable += rows.iter().filter(|row| !is_readable(row)).count();
        rows.retain(|row| is_before(row, before));
        if let Some(mut file) = kept.take() {
            let is_new = |row: &&SignInRow| !held.remove(&line(row));
            let new: Vec<_> = rows.iter().filter(is_new).cloned().collect();
            let append = move || file.append(&new).map(|()| file);
            kept = Some(tokio::task::spawn_blocking(append).await??);
        }
        pruned.deleted += delete(store, rows).await?;
        progress(past);
    }
}

fn is_before(row: &SignInRow, before: UnixTime) -> bool {
    is_readable(row) && row.at.is_some_and(|at| at < before)
}

/// An address that is not UTF-8 cannot be compared again when its row is deleted, so
/// that row stays, as one without a time does.
fn is_readable(row: &SignInRow) -> bool {
    row.at.is_some() && !row.client.contains(char::REPLACEMENT_CHARACTER)
}

/// Deletes the rows, and waits so that others can write.
async fn delete(store: &Store, rows: Vec<SignInRow>) -> Result<usize, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let began = Instant::now();
    let deleted = store.delete_sign_ins(rows).await?;
    tokio::time::sleep(began.elapsed().max(MIN_PAUSE)).await;
    Ok(deleted)
}

/// Deletes sign-ins of a running service that are older than `keep_for`.
pub struct Retention {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub keep_for: Duration,
}

impl Retention {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            loop {
                match self.prune().await {
                    Ok(0) => {}
                    Ok(deleted) => tracing::info!(deleted, "pruned old sign-ins"),
                    Err(e) => tracing::warn!("old sign-ins were not pruned: {e}"),
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Ids mostly grow with the times, so it ends at the first step with young rows and no
    /// old one.
    async fn prune(&self) -> Result<usize, StoreError> {
        let before = self.clock.now() - self.keep_for;
        let (mut past, mut deleted) = (i64::MIN, 0);
        loop {
            let mut rows = self.store.next_sign_ins(past, STEP).await?;
            let Some(last) = rows.last() else {
                return Ok(deleted);
            };
            past = last.id;
            let has_young = rows.iter().any(|row| row.at.is_some_and(|at| before <= at));
            rows.retain(|row| is_before(row, before));
            match (rows.is_empty(), has_young) {
                (true, true) => return Ok(deleted),
                // Rows whose time or address cannot be read: others get their turn.
                (true, false) => tokio::time::sleep(MIN_PAUSE).await,
                (false, _) => {}
            }
            deleted += delete(&self.store, rows).await?;
        }
    }
}
