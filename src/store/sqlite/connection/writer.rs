//! The writer connection, on a thread of its own. Steps that arrive during
//! a commit are gathered into the next transaction (group commit), so many writes
//! share one sync of the disk. For each batch, in this order:
//!
//! 1. the files must be the ones that were opened;
//! 2. BEGIN IMMEDIATE, which waits for the write lock;
//! 3. each step in a savepoint of its own: one that fails is rolled back alone;
//! 4. COMMIT, which syncs the write-ahead log;
//! 5. the files must still be the same: a commit into a file that was moved away
//!    meanwhile is no commit;
//! 6. each caller is answered; all of them with the error where 1, 2, 4 or 5 failed.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::identity::OpenFiles;
use super::{BUSY_TIMEOUT, last_checkpoint};
use crate::metrics::Commits;
use crate::store::StoreError;

/// Steps in the queue; more callers wait to get into it.
const QUEUE: usize = 1024;
/// A batch waits at least this long for a lock, however late it is.
const MIN_WAIT: Duration = Duration::from_millis(100);
/// Steps in one transaction. A bound on how much one failed commit takes down.
const BATCH: usize = 64;

/// Sending end of the queue; clones share the one thread.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Message>,
    files: Arc<OpenFiles>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    commits: Arc<Commits>,
}

enum Message {
    Job(Queued),
    /// Steps queued before it are done, later ones are refused.
    Close,
}

/// A step and the moment at which it was queued.
type Queued = (Box<dyn Job>, Instant);

/// A step of some statements, with a caller who waits for the result.
trait Job: Send {
    /// True once the caller has gone away.
    fn is_abandoned(&self) -> bool;
    /// Runs the statements. On an error they are rolled back, those of others are not.
    fn run(&mut self, tx: &Connection) -> Result<(), StoreError>;
    /// Answers the caller: with the step's own result when its transaction was
    /// committed, with `failure` when it was not.
    fn complete(self: Box<Self>, failure: Option<&StoreError>);
}

impl Writer {
    /// Starts the thread that owns the connection.
    pub(super) fn start(conn: Connection, files: Arc<OpenFiles>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let commits = Arc::new(Commits::default());
        let (counted, checked) = (Arc::clone(&commits), Arc::clone(&files));
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(conn, &checked, queue, &counted))?;
        Ok(Self {
            jobs,
            files,
            thread: Arc::new(Mutex::new(Some(thread))),
            commits,
        })
    }

    /// Runs `step` in a transaction and returns when that is on disk. Does
    /// nothing for a caller that goes away before its turn.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Step {
            step: Some(step),
            result: None,
            answer,
        });
        let ended = || match self.files.is_replaced() {
            true => StoreError::Replaced,
            false => StoreError::Unavailable("it is closed".to_owned()),
        };
        let message = Message::Job((job, Instant::now()));
        self.jobs.send(message).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    pub(super) fn commits(&self) -> &Arc<Commits> {
        &self.commits
    }

    /// Returns when the thread takes no more steps.
    pub(super) async fn ended(&self) {
        self.jobs.closed().await;
    }

    /// Has the thread end soon, without waiting: after a file was replaced. With
    /// a full queue it finds out by itself.
    pub(super) fn end(&self) {
        let _ = self.jobs.try_send(Message::Close);
    }

    /// Does what is queued, refuses what comes later, and ends the thread,
    /// which closes the file.
    pub(super) async fn close(self) {
        let thread = self.thread.lock().take();
        // It may be closed already.
        let _ = self.jobs.send(Message::Close).await;
        if let Some(thread) = thread {
            // Its panic, if any, has been reported by the panic hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

struct Step<F, T> {
    /// None once it was run.
    step: Option<F>,
    /// None until it was run.
    result: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Job for Step<F, T>
where
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(&mut self, tx: &Connection) -> Result<(), StoreError> {
        let Some(step) = self.step.take() else {
            return Err(StoreError::Unavailable("the step has run".to_owned()));
        };
        let result = step(tx);
        let outcome = result.as_ref().map(drop).map_err(StoreError::clone);
        self.result = Some(result);
        outcome
    }

    fn complete(self: Box<Self>, failure: Option<&StoreError>) {
        let not_run = || Err(StoreError::Unavailable("the step was not run".to_owned()));
        let result = match failure {
            // Also when the step itself has an error: it may have read what another
            // step of this batch wrote, which was rolled back.
            Some(e) => Err(e.clone()),
            None => self.result.unwrap_or_else(not_run),
        };
        let _ = self.answer.send(result);
    }
}

/// A batch was not committed.
struct Failure {
    error: StoreError,
    /// Another process had the lock all the time, and no step was run.
    is_locked: bool,
}

fn run(
    mut conn: Connection,
    files: &OpenFiles,
    mut queue: mpsc::Receiver<Message>,
    commits: &Commits,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while !files.is_replaced() && collect_batch(&mut queue, &mut batch) {
        if batch.is_empty() {
            continue;
        }
        let began = Instant::now();
        let failure = commit_batch(&mut conn, files, &mut batch).err();
        let done = match &failure {
            Some(Failure {
                is_locked: true, ..
            }) => take_late(&mut batch),
            _ => std::mem::take(&mut batch),
        };
        commits.ended(failure.is_none(), done.len(), began.elapsed());
        for (job, _) in done {
            job.complete(failure.as_ref().map(|failure| &failure.error));
        }
    }
    // Ends the waiting of callers that are not answered, and of `ended`.
    drop((batch, queue));
    last_checkpoint::close(conn, files);
}

/// Adds queued steps to those that are left of the last batch; when there are none,
/// waits for one. False when the queue is closed and empty.
fn collect_batch(queue: &mut mpsc::Receiver<Message>, batch: &mut Vec<Queued>) -> bool {
    let mut messages = Vec::new();
    if batch.is_empty() {
        if queue.blocking_recv_many(&mut messages, BATCH) == 0 {
            return false;
        }
    } else {
        let free = BATCH.saturating_sub(batch.len());
        messages.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(free));
    }
    for message in messages {
        match message {
            Message::Job(queued) => batch.push(queued),
            Message::Close => queue.close(),
        }
    }
    batch.retain(|(job, _)| !job.is_abandoned());
    true
}

/// Takes out the steps that have waited for the lock for [`BUSY_TIMEOUT`]; all of them when
/// none has, or a lock that SQLite does not wait for would be tried for ever.
fn take_late(batch: &mut Vec<Queued>) -> Vec<Queued> {
    let is_late = |(_, queued_at): &mut Queued| queued_at.elapsed() >= BUSY_TIMEOUT;
    let late: Vec<_> = batch.extract_if(.., is_late).collect();
    if late.is_empty() {
        return std::mem::take(batch);
    }
    late
}

fn commit_batch(
    conn: &mut Connection,
    files: &OpenFiles,
    batch: &mut [Queued],
) -> Result<(), Failure> {
    let fail = |error| Failure {
        error,
        is_locked: false,
    };
    files.check().map_err(fail)?;
    let unavailable = |e: rusqlite::Error| fail(StoreError::Unavailable(e.to_string()));
    let mut tx = begin(conn, batch).map_err(|e| Failure {
        is_locked: e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy),
        ..unavailable(e)
    })?;
    for (job, _) in batch {
        run_one(&mut tx, job.as_mut()).map_err(fail)?;
    }
    tx.commit().map_err(unavailable)?;
    files.check().map_err(fail)
}

/// Begins the transaction. A step that has waited in the queue, after a batch that
/// did not get the lock, waits here for the rest of [`BUSY_TIMEOUT`] only.
fn begin<'a>(conn: &'a mut Connection, batch: &[Queued]) -> rusqlite::Result<Transaction<'a>> {
    let waited = batch.iter().map(|(_, queued_at)| queued_at.elapsed()).max();
    let left = BUSY_TIMEOUT.saturating_sub(waited.unwrap_or_default());
    conn.busy_timeout(left.max(MIN_WAIT))?;
    conn.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// An error is one of the whole transaction.
fn run_one(tx: &mut Transaction<'_>, job: &mut dyn Job) -> Result<(), StoreError> {
    let unavailable = |e: rusqlite::Error| StoreError::Unavailable(e.to_string());
    let own = tx.savepoint().map_err(unavailable)?;
    match job.run(&own) {
        Ok(()) => own.commit().map_err(unavailable),
        // Some errors (a full disk, an I/O error) have rolled the whole transaction back
        // already; then this fails too, and says nothing of the cause.
        Err(why) => own.finish().map_err(|_| why),
    }
}

#[cfg(test)]
#[path = "../../../../tests/unit/writer.rs"]
mod tests;
