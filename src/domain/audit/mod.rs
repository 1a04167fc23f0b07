//! The recorded sign-ins: those that are older than a given time are deleted, in small
//! steps beside running services, perhaps after they were written to a file. Nothing is
//! deleted then that is not in the file: `delete` takes a `Deletable`.

mod keep_file;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, UnixTime};
pub use crate::store::{SignInFilter, SignInRow};
use crate::store::{Store, StoreError};
use keep_file::{Deletable, KeepFile};
pub use keep_file::{KeepFileError, line};

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
    path: Option<&Path>,
    mut progress: impl FnMut(i64),
) -> Result<Pruned, AuditError> {
    let mut file = None;
    if let Some(path) = path.map(Path::to_owned) {
        file = Some(spawn_blocking(move || KeepFile::open(&path, STEP)).await??);
    }
    let (mut pages, mut pruned) = (Pages::of(store), Pruned::default());
    while let Some(mut rows) = pages.next().await? {
        pruned.unreadable += rows.iter().filter(|row| !is_readable(row)).count();
        rows.retain(|row| is_before(row, before));
        let deletable = match file.take() {
            None => Deletable::without_file(rows),
            Some(mut open) => {
                let append = move || open.append(rows).map(|appended| (appended, open));
                let (appended, open) = spawn_blocking(append).await??;
                file = Some(open);
                appended
            }
        };
        pruned.deleted += delete(store, deletable).await?;
        progress(pages.past);
    }
    Ok(pruned)
}

/// All recorded sign-ins in the order of their ids, [`STEP`] rows at a time.
struct Pages<'a> {
    store: &'a Store,
    /// Id of the last row so far.
    past: i64,
}

impl<'a> Pages<'a> {
    fn of(store: &'a Store) -> Self {
        Self {
            store,
            past: i64::MIN,
        }
    }

    /// None after the last row.
    async fn next(&mut self) -> Result<Option<Vec<SignInRow>>, StoreError> {
        let rows = self.store.next_sign_ins(self.past, STEP).await?;
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        self.past = last.id;
        Ok(Some(rows))
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
async fn delete(store: &Store, deletable: Deletable) -> Result<usize, StoreError> {
    let rows = deletable.into_rows();
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
        let (mut pages, mut deleted) = (Pages::of(&self.store), 0);
        while let Some(mut rows) = pages.next().await? {
            let has_young = rows.iter().any(|row| row.at.is_some_and(|at| before <= at));
            rows.retain(|row| is_before(row, before));
            match (rows.is_empty(), has_young) {
                (true, true) => return Ok(deleted),
                // Rows whose time or address cannot be read: others get their turn.
                (true, false) => tokio::time::sleep(MIN_PAUSE).await,
                (false, _) => {}
            }
            deleted += delete(&self.store, Deletable::without_file(rows)).await?;
        }
        Ok(deleted)
    }
}
