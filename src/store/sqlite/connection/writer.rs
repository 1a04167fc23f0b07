//! The one writer. What callers ask for while a commit is on its way is
//! gathered and becomes the next transaction (group commit), so the number of
//! writes a second does not depend on how long the disk takes to sync. Each
//! caller is answered after the commit of its own write.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::keeper::Keeper;
use super::{BUSY_TIMEOUT, StoreError, file};
use crate::metrics::Commits;

/// Writes that may wait at once; more callers wait for a place.
const QUEUE: usize = 1024;
/// How long a batch waits for a lock at least, however late it is.
const LEAST_WAIT: Duration = Duration::from_millis(100);
/// How long the last checkpoint waits for readers.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// Writes in one transaction. A bound on how much one failed commit takes down.
const BATCH: usize = 64;

/// The sending end; clones share the one thread.
#[derive(Clone)]
pub(in crate::store) struct Writer {
    jobs: mpsc::Sender<Message>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    commits: Arc<Commits>,
}

enum Message {
    /// A step, and when it was asked for.
    Job(Box<dyn Job>, Instant),
    /// What was queued before is done, what comes after is refused.
    Close,
}

/// A step of some statements with a caller who waits for what became of it.
trait Job: Send {
    /// Whether nobody waits any more.
    fn is_abandoned(&self) -> bool;
    /// Runs the statements. On an error they are rolled back, those of others are not.
    fn run(&mut self, tx: &Connection) -> Result<(), ()>;
    /// Answers the caller: with the step's own result when its transaction was
    /// committed, with `failure` when it was not.
    fn answer(self: Box<Self>, failure: Option<&str>);
}

impl Writer {
    /// Starts the thread that owns the connection.
    pub(in crate::store) fn start(keeper: Keeper) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let commits = Arc::new(Commits::default());
        let counted = Arc::clone(&commits);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(keeper, queue, &counted))?;
        Ok(Self {
            jobs,
            thread: Arc::new(Mutex::new(Some(thread))),
            commits,
        })
    }

    /// Runs `step` in a transaction and returns when that is on disk. A caller
    /// that goes away before its turn is as if it had never asked.
    pub(in crate::store) async fn write<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Step {
            state: State::Waiting(step),
            answer,
        });
        let gone = || StoreError::Unavailable("the database is closed".into());
        self.jobs
            .send(Message::Job(job, Instant::now()))
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// The transactions so far.
    pub(in crate::store) fn commits(&self) -> &Arc<Commits> {
        &self.commits
    }

    /// Returns when the thread has ended, which only [`close`](Self::close) should cause.
    pub(in crate::store) async fn ended(&self) {
        self.jobs.closed().await;
    }

    /// Does what is queued, refuses what comes later, and ends
    /// the thread, which closes the file.
    pub(in crate::store) async fn close(self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // It may be closed already.
        let _ = self.jobs.send(Message::Close).await;
        if let Some(thread) = thread {
            // Its panic, if any, has been reported by the panic hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

struct Step<F, T> {
    state: State<F, T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

enum State<F, T> {
    Waiting(F),
    Done(Result<T, StoreError>),
    Taken,
}

impl<F, T> Job for Step<F, T>
where
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(&mut self, tx: &Connection) -> Result<(), ()> {
        let State::Waiting(step) = std::mem::replace(&mut self.state, State::Taken) else {
            return Err(());
        };
        let result = step(tx);
        let outcome = result.as_ref().map(drop).map_err(drop);
        self.state = State::Done(result);
        outcome
    }

    fn answer(self: Box<Self>, failure: Option<&str>) {
        let result = match (self.state, failure) {
            // Also when the step has found something out for itself: it may
            // have seen what another step of the batch wrote in vain.
            (_, Some(e)) => Err(StoreError::Unavailable(e.to_owned())),
            (State::Done(result), None) => result,
            (_, None) => Err(StoreError::Unavailable("the step was not run".into())),
        };
        let _ = self.answer.send(result);
    }
}

/// A step and when it was asked for.
type Asked = (Box<dyn Job>, Instant);

/// Why a batch came to nothing.
enum Failure {
    /// Another process had the lock all the time, and no step was run.
    Locked(String),
    Other(String),
}

fn run(mut keeper: Keeper, mut queue: mpsc::Receiver<Message>, commits: &Commits) {
    let mut batch = Vec::with_capacity(BATCH);
    while gather(&mut queue, &mut batch) {
        if batch.is_empty() {
            continue;
        }
        let began = Instant::now();
        let failure = attempt(&mut keeper, &mut batch).err();
        let (done, why) = match failure {
            None => (std::mem::take(&mut batch), None),
            Some(Failure::Other(why)) => (std::mem::take(&mut batch), Some(why)),
            Some(Failure::Locked(why)) => (out_of_time(&mut batch), Some(why)),
        };
        commits.ended(why.is_none(), done.len(), began.elapsed());
        for (job, _) in done {
            job.answer(why.as_deref());
        }
    }
    if let Some(conn) = keeper.into_connection() {
        finish(conn);
    }
}

/// Adds what is queued to what is left of the last batch, and waits for
/// something when nothing is. False when nothing is left and nothing will come.
fn gather(queue: &mut mpsc::Receiver<Message>, batch: &mut Vec<Asked>) -> bool {
    let mut messages = Vec::new();
    if batch.is_empty() {
        if queue.blocking_recv_many(&mut messages, BATCH) == 0 {
            return false;
        }
    } else {
        let place = BATCH.saturating_sub(batch.len());
        messages.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(place));
    }
    for message in messages {
        match message {
            Message::Job(job, asked_at) => batch.push((job, asked_at)),
            Message::Close => queue.close(),
        }
    }
    batch.retain(|(job, _)| !job.is_abandoned());
    true
}

/// Takes those out that have waited for the lock as long as anyone should; all,
/// should none have.
fn out_of_time(batch: &mut Vec<Asked>) -> Vec<Asked> {
    let is_late = |asked: &mut Asked| asked.1.elapsed() >= BUSY_TIMEOUT;
    let late: Vec<_> = batch.extract_if(.., is_late).collect();
    if late.is_empty() {
        return std::mem::take(batch);
    }
    late
}

fn attempt(keeper: &mut Keeper, batch: &mut [Asked]) -> Result<(), Failure> {
    let other = |e: &dyn std::fmt::Display| Failure::Other(e.to_string());
    let conn = keeper.connection().map_err(|e| other(&e))?;
    let mut tx = begin(conn, batch).map_err(|e| match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => Failure::Locked(e.to_string()),
        _ => other(&e),
    })?;
    for (job, _) in batch {
        run_one(&mut tx, job.as_mut()).map_err(|e| other(&e))?;
    }
    tx.commit().map_err(|e| other(&e))?;
    // A commit into a file that was taken away meanwhile is no commit.
    keeper.check().map_err(|e| other(&e))
}

/// Time spent in the queue, behind a batch that waited for a lock in vain,
/// counts: no caller waits for one lock longer than for another.
fn begin<'a>(conn: &'a mut Connection, batch: &[Asked]) -> rusqlite::Result<Transaction<'a>> {
    let waited = batch.iter().map(|(_, asked_at)| asked_at.elapsed()).max();
    let left = BUSY_TIMEOUT.saturating_sub(waited.unwrap_or_default());
    conn.busy_timeout(left.max(LEAST_WAIT))?;
    conn.transaction()
}

fn run_one(tx: &mut Transaction<'_>, job: &mut dyn Job) -> rusqlite::Result<()> {
    let own = tx.savepoint()?;
    match job.run(&own) {
        Ok(()) => own.commit(),
        // Some errors (a full disk, an I/O error) have rolled the whole
        // transaction back already; then this fails, and so does the batch.
        Err(()) => own.finish(),
    }
}

/// Leaves the database file complete without its side files.
fn finish(conn: Connection) {
    // Whoever still reads may keep the side files; a stop waits no longer.
    let _ = conn.busy_timeout(LAST_WAIT);
    let stays = "the write-ahead log stays beside the database";
    match file::empty_log(&conn) {
        Ok(true) => {}
        Ok(false) => tracing::warn!("{stays}: another program still uses it"),
        Err(e) => tracing::warn!("{stays}: {e}"),
    }
    if let Err((_, e)) = conn.close() {
        tracing::warn!("the database was not closed cleanly: {e}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn who_goes_away_before_its_turn_is_as_if_it_had_never_asked() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Store::open(&dir.path().join("keys.db")).unwrap().writer;
        let (begin, began) = oneshot::channel();
        let (release, released) = channel::<()>();
        let busy = tokio::spawn({
            let writer = writer.clone();
            async move {
                let step = move |_: &Connection| {
                    let _ = begin.send(());
                    let _ = released.recv();
                    Ok(())
                };
                writer.write(step).await
            }
        });
        began.await.unwrap();
        let (ran, runs) = channel();
        let asked = writer.write(move |_| Ok(ran.send(())));
        assert!(asked.now_or_never().is_none());
        drop(release);
        busy.await.unwrap().unwrap();
        writer.write(|_| Ok(())).await.unwrap();
        assert!(runs.try_recv().is_err());
    }

    /// Takes the five seconds that anyone waits for a lock.
    #[tokio::test]
    async fn a_young_write_goes_on_waiting_for_a_lock_when_an_old_one_gives_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.db");
        let writer = Store::open(&path).unwrap().writer;
        let other = Connection::open(path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let first = writer.write(|_| Ok(()));
        let second = writer.write(|_| Ok(()));
        let old = async { tokio::join!(first, second) };
        let young = async {
            tokio::time::sleep(BUSY_TIMEOUT / 2).await;
            writer.write(|_| Ok(())).await
        };
        let gone = async {
            for given_up in <[_; 2]>::from(old.await) {
                let why = given_up.unwrap_err();
                assert!(matches!(why, StoreError::Unavailable(_)), "{why}");
            }
            other.execute_batch("COMMIT").unwrap();
        };
        let (written, ()) = tokio::join!(young, gone);
        written.unwrap();
    }

    #[tokio::test]
    async fn it_has_ended_once_it_is_closed_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Store::open(&dir.path().join("keys.db")).unwrap().writer;
        writer.write(|_| Ok(())).await.unwrap();
        assert!(writer.ended().now_or_never().is_none());
        writer.clone().close().await;
        assert!(writer.ended().now_or_never().is_some());
        let refused = writer.write(|_| Ok(())).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)));
    }
}
