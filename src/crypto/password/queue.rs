//! Admission control of password hashing. One thread for each core, below normal
//! priority, serves three bounded queues: sign-ins, sign-ups, and sign-ins whose
//! stored hash costs far more than a current one. Each gets as much of the threads'
//! time as the others, the last at most half of the threads (or the only one), and in
//! each of them clients take turns: so none can starve another. A job that could not start
//! in time is refused: at once by the estimate, or at its turn when that was wrong.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use secrecy::SecretString;
use strum::VariantArray;
use tokio::sync::oneshot;

use super::compute::Workspace;
use super::params::{Costs, cost, stored_cost};
use super::turns::Turns;
use super::{HashError, PasswordCheck};
use crate::client_key::ClientKey;

/// Longest time that a job may wait for a thread.
const MAX_QUEUE_WAIT: Duration = Duration::from_secs(2);
/// Capacity of a queue, whatever the estimated wait.
const MAX_QUEUED: usize = 1024;
/// A hash that costs over this many times as much as a current one is a slow one.
/// Those of the earlier server cost five times as much.
const SLOW: u64 = 8;
/// Nice value of the threads (see setpriority(2)): when cores are short, the key
/// set and the rest of HTTP come first. Not higher, or other programs on a busy
/// machine would starve sign-ins.
const NICENESS: i32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
enum QueueName {
    SignIns,
    SignUps,
    SlowSignIns,
}

/// Returns true if it computed anything; only then its time counts. Without a workspace
/// it answers that it waited too long.
type Task = Box<dyn FnOnce(Option<&mut Workspace>) -> bool + Send>;

struct HashJob {
    task: Task,
    queued_at: Instant,
}

/// Hashes passwords without blocking its caller's thread.
#[derive(Clone)]
pub struct PasswordHasher {
    pool: Arc<Pool>,
    current_cost: u64,
    computed: Arc<AtomicU64>,
}

/// The hashing threads, as all clones of a hasher share them; they end when it is dropped.
struct Pool {
    shared: Arc<PoolState>,
}

/// Shared by the pool and its threads, which may outlive it.
struct PoolState {
    queues: Mutex<Queues>,
    /// A job was added, or a thread may take a slow one again.
    changed: Condvar,
}

struct Queues {
    /// In the order of [`QueueName`].
    queues: [Queue; 3],
    threads: u32,
    slow_threads: u32,
    slow_running: u32,
    /// [`Queue::charged`] of the queue that was served last, before it was: no queue with
    /// jobs has had less.
    virtual_time: Duration,
    is_closed: bool,
}

struct Queue {
    jobs: Turns<HashJob>,
    /// Moving average of the time of a job.
    mean: Duration,
    /// The sum of the means of its jobs when they began. The queue with the least is next.
    charged: Duration,
}

impl PasswordHasher {
    /// Starts `threads` hashing threads (at least one); new hashes get `costs`.
    /// The threads end when the last clone is dropped.
    pub fn start(costs: Costs, threads: usize) -> io::Result<Self> {
        let params = costs.params().map_err(io::Error::other)?;
        let threads = threads.max(1);
        let current_cost = cost(&params);
        let shared = Arc::new(PoolState {
            queues: Mutex::new(Queues::new(current_cost, threads)),
            changed: Condvar::new(),
        });
        let computed = Arc::default();
        // First, so that threads end which were started when one cannot be.
        let pool = Arc::new(Pool {
            shared: Arc::clone(&shared),
        });
        for n in 0..threads {
            let shared = Arc::clone(&shared);
            let workspace = Workspace::new(params.clone(), Arc::clone(&computed));
            std::thread::Builder::new()
                .name(format!("argon2-{n}"))
                .spawn(move || run_thread(&shared, workspace))?;
        }
        Ok(Self {
            pool,
            current_cost,
            computed,
        })
    }

    /// Hashes the password of a new account into a PHC string.
    pub async fn hash(
        &self,
        client: ClientKey,
        password: SecretString,
    ) -> Result<String, HashError> {
        let task = move |workspace: &mut Workspace| workspace.hash(&password);
        self.submit(QueueName::SignUps, client, task).await?
    }

    /// Verifies a password against the stored hash of an account. Without one
    /// (the account does not exist) the same is computed for a
    /// [`PasswordCheck::Mismatch`].
    pub async fn verify(
        &self,
        client: ClientKey,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<PasswordCheck, HashError> {
        let queue = match stored.as_deref().and_then(stored_cost) {
            Some(cost) if cost > SLOW * self.current_cost => QueueName::SlowSignIns,
            _ => QueueName::SignIns,
        };
        let task = move |workspace: &mut Workspace| workspace.verify(&password, stored.as_deref());
        self.submit(queue, client, task).await?
    }

    /// Numbers of sign-ins and of sign-ups in the queues.
    pub fn queued(&self) -> (usize, usize) {
        let queues = self.pool.shared.queues.lock();
        let length = |name| queues.get(name).jobs.len();
        (
            length(QueueName::SignIns) + length(QueueName::SlowSignIns),
            length(QueueName::SignUps),
        )
    }

    /// KiB times passes computed so far, by all threads.
    pub fn computed_cost(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    async fn submit<T: Send + 'static>(
        &self,
        queue: QueueName,
        client: ClientKey,
        task: impl FnOnce(&mut Workspace) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let (answer, answered) = oneshot::channel();
        let job = HashJob {
            task: Box::new(move |workspace| {
                // A client that hung up keeps its entry in the queue until here;
                // nothing is computed for it.
                if answer.is_closed() {
                    return false;
                }
                let computes = workspace.is_some();
                let _ = answer.send(workspace.map(task).ok_or(HashError::Overloaded));
                computes
            }),
            queued_at: Instant::now(),
        };
        self.pool.shared.queues.lock().add(queue, client, job)?;
        self.pool.shared.changed.notify_one();
        // Dropped unanswered, it panicked.
        answered.await.unwrap_or(Err(HashError::Failed))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.queues.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl PoolState {
    /// Waits for a job; none when the hasher is dropped and no job is left.
    fn wait_for_job(&self) -> Option<(QueueName, HashJob)> {
        let mut queues = self.queues.lock();
        loop {
            if let Some(job) = queues.pop() {
                return Some(job);
            }
            if queues.is_closed {
                return None;
            }
            self.changed.wait(&mut queues);
        }
    }
}

impl Queues {
    fn new(cost: u64, threads: usize) -> Self {
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        // A guess until the first job is measured: 2 KiB·passes a microsecond.
        let queue = |cost: u64| Queue {
            jobs: Turns::default(),
            mean: Duration::from_micros(cost / 2),
            charged: Duration::ZERO,
        };
        Self {
            queues: [cost, cost, SLOW * cost].map(queue),
            threads,
            slow_threads: (threads / 2).max(1),
            slow_running: 0,
            virtual_time: Duration::ZERO,
            is_closed: false,
        }
    }

    fn get(&self, name: QueueName) -> &Queue {
        &self.queues[name as usize]
    }

    fn get_mut(&mut self, name: QueueName) -> &mut Queue {
        &mut self.queues[name as usize]
    }

    fn all(&self) -> impl Iterator<Item = (QueueName, &Queue)> {
        QueueName::VARIANTS.iter().copied().zip(&self.queues)
    }

    fn add(&mut self, name: QueueName, client: ClientKey, job: HashJob) -> Result<(), HashError> {
        let is_full = self.get(name).jobs.len() >= MAX_QUEUED;
        if is_full || self.wait(name, client) > MAX_QUEUE_WAIT {
            return Err(HashError::Overloaded);
        }
        let virtual_time = self.virtual_time;
        let queue = self.get_mut(name);
        if queue.jobs.len() == 0 {
            // The time for which it had no jobs is not made up for.
            queue.charged = queue.charged.max(virtual_time);
        }
        queue.jobs.push(client, job);
        Ok(())
    }

    /// Estimated time until a new job of `client` starts. While the jobs before it in
    /// its own queue have their time, each of the other queues has as much at most.
    ///
    /// With two threads, jobs of 10 ms, 40 sign-ins ahead and 100 sign-ups waiting: 400 ms of
    /// sign-ins come before it, and as much of the sign-ups' 1,000 ms, so 800 ms of work on
    /// two threads: 400 ms.
    fn wait(&self, name: QueueName, client: ClientKey) -> Duration {
        let time = |queue: &Queue, jobs: usize| {
            let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
            queue.mean.saturating_mul(jobs)
        };
        let own = self.get(name);
        let before = time(own, own.jobs.ahead_of(client));
        let others = self.all().filter(|(other, _)| *other != name);
        let others = others.map(|(_, other)| time(other, other.jobs.len()).min(before));
        let threads = match name {
            QueueName::SlowSignIns => self.slow_threads,
            QueueName::SignIns | QueueName::SignUps => self.threads,
        };
        before / threads + others.sum::<Duration>() / self.threads
    }

    /// The next job that has not waited too long, and its queue. A full queue may hold
    /// many that have, which must not use up its turns.
    fn pop(&mut self) -> Option<(QueueName, HashJob)> {
        loop {
            let may_run = |(name, queue): &(QueueName, &Queue)| {
                let is_slow = *name == QueueName::SlowSignIns;
                let is_free = !is_slow || self.slow_running < self.slow_threads;
                is_free && queue.jobs.len() > 0
            };
            let queues = self.all().filter(may_run);
            let (next, _) = queues.min_by_key(|(_, queue)| queue.charged)?;
            let queue = self.get_mut(next);
            let job = queue.jobs.pop()?;
            if job.queued_at.elapsed() <= MAX_QUEUE_WAIT {
                let charged = queue.charged;
                queue.charged += queue.mean;
                self.virtual_time = charged;
                self.slow_running += u32::from(next == QueueName::SlowSignIns);
                return Some((next, job));
            }
            (job.task)(None);
        }
    }

    /// Notes the end of a job, and the time if it computed anything.
    fn ended(&mut self, name: QueueName, took: Option<Duration>) {
        self.slow_running -= u32::from(name == QueueName::SlowSignIns);
        if let Some(took) = took {
            let mean = &mut self.get_mut(name).mean;
            *mean = (*mean * 7 + took) / 8;
        }
    }
}

fn run_thread(shared: &PoolState, mut workspace: Workspace) {
    // Without the permission for it, hashing has normal priority.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    while let Some((queue, job)) = shared.wait_for_job() {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (job.task)(Some(&mut workspace))));
        if outcome.is_err() {
            // The blocks may be half written; nothing else in it changes.
            workspace.blocks = Vec::new();
        }
        let took = matches!(outcome, Ok(true)).then(|| began.elapsed());
        shared.queues.lock().ended(queue, took);
        if queue == QueueName::SlowSignIns {
            shared.changed.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/hashing_queue.rs"]
mod tests;
