//! Admission control of password hashing. One thread for each core, below
//! normal priority, serves two bounded queues in turn: one for sign-ins and one
//! for sign-ups, so neither can starve the other. A job that could not start in
//! time is refused at once.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use secrecy::SecretString;
use tokio::sync::oneshot;

use super::compute::Workspace;
use super::params::{Costs, work};
use super::{HashError, Verdict};

/// Longest time that a job may wait for a thread.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Capacity of a queue, whatever the estimated wait.
const MAX_QUEUED: usize = 1024;
/// Nice value of the threads (see setpriority(2)): when cores are short, the key
/// set and the rest of HTTP come first. Not higher, or other programs on a busy
/// machine would starve sign-ins.
const NICENESS: i32 = 8;

struct Job {
    /// Returns whether it computed anything, see [`Estimate::add`].
    run: Box<dyn FnOnce(&mut Workspace) -> bool + Send>,
    queued_at: Instant,
}

/// Hashes passwords without blocking its caller's thread.
#[derive(Clone, Debug)]
pub struct PasswordHasher {
    sign_ins: Sender<Job>,
    sign_ups: Sender<Job>,
    estimate: Arc<Estimate>,
    work: Arc<AtomicU64>,
}

impl PasswordHasher {
    /// Starts `threads` hashing threads (at least one); new hashes get `costs`.
    /// The threads end when the last clone is dropped.
    pub fn start(costs: Costs, threads: usize) -> io::Result<Self> {
        let params = costs.params().map_err(io::Error::other)?;
        let threads = threads.max(1);
        let (sign_ins, sign_in_jobs) = bounded(MAX_QUEUED);
        let (sign_ups, sign_up_jobs) = bounded(MAX_QUEUED);
        let estimate = Arc::new(Estimate::new(work(&params), threads));
        let work = Arc::default();
        for n in 0..threads {
            let (sign_in_jobs, sign_up_jobs) = (sign_in_jobs.clone(), sign_up_jobs.clone());
            let estimate = Arc::clone(&estimate);
            let workspace = Workspace::new(params.clone(), Arc::clone(&work));
            std::thread::Builder::new()
                .name(format!("argon2-{n}"))
                .spawn(move || run(&sign_in_jobs, &sign_up_jobs, &estimate, workspace))?;
        }
        Ok(Self {
            sign_ins,
            sign_ups,
            estimate,
            work,
        })
    }

    /// Hashes the password of a new account into a PHC string.
    pub async fn hash(&self, password: SecretString) -> Result<String, HashError> {
        self.run(&self.sign_ups, move |workspace| workspace.hash(&password))
            .await?
    }

    /// Verifies a password against the PHC string of an account. Without one
    /// (the account does not exist) the same work is done for a
    /// [`Verdict::Mismatch`].
    pub async fn verify(
        &self,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<Verdict, HashError> {
        self.run(&self.sign_ins, move |workspace| {
            workspace.verify(&password, stored.as_deref())
        })
        .await?
    }

    /// Lengths of the queues of sign-ins and of sign-ups.
    pub fn queued(&self) -> (usize, usize) {
        (self.sign_ins.len(), self.sign_ups.len())
    }

    /// KiB times passes computed so far, by all threads.
    pub fn work(&self) -> u64 {
        self.work.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(
        &self,
        queue: &Sender<Job>,
        task: impl FnOnce(&mut Workspace) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let all = self.sign_ins.len() + self.sign_ups.len();
        if self.estimate.wait(queue.len(), all) > MAX_WAIT {
            return Err(HashError::Overloaded);
        }
        let (answer, answered) = oneshot::channel();
        let queued_at = Instant::now();
        let job = Job {
            run: Box::new(move |workspace| {
                // A client that hung up keeps its entry in the queue until here;
                // nothing is computed for it.
                if answer.is_closed() {
                    return false;
                }
                let _ = answer.send(task(workspace));
                true
            }),
            queued_at,
        };
        queue.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => HashError::Overloaded,
            TrySendError::Disconnected(_) => HashError::Failed,
        })?;
        answered.await.map_err(|_| {
            // Dropped unanswered: too old when its turn came, or it panicked.
            if queued_at.elapsed() >= MAX_WAIT {
                HashError::Overloaded
            } else {
                HashError::Failed
            }
        })
    }
}

/// Moving average of the time of a job.
#[derive(Debug)]
struct Estimate {
    threads: u32,
    mean_micros: AtomicU64,
}

impl Estimate {
    fn new(work: u64, threads: usize) -> Self {
        Self {
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            // A guess until the first job is measured: 2 KiB a microsecond and pass.
            mean_micros: AtomicU64::new(work / 2),
        }
    }

    /// Estimated time until a new job starts, with `ahead` jobs before it in its own
    /// queue and `all` jobs in both. The threads serve the queues in turn, so of
    /// the other queue no more than `ahead` jobs go first: with 10 ahead and 1000 in
    /// all, 20 jobs are before it; with 10 ahead and 10 in all, 10.
    fn wait(&self, ahead: usize, all: usize) -> Duration {
        let before = u32::try_from(all.min(2 * ahead)).unwrap_or(u32::MAX);
        let mean = Duration::from_micros(self.mean_micros.load(Ordering::Relaxed));
        mean.saturating_mul(before) / self.threads
    }

    fn add(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mean = self.mean_micros.load(Ordering::Relaxed);
        // Two threads may overwrite each other, which an estimate survives.
        let next = (mean.saturating_mul(7).saturating_add(took)) / 8;
        self.mean_micros.store(next, Ordering::Relaxed);
    }
}

fn run(
    sign_ins: &Receiver<Job>,
    sign_ups: &Receiver<Job>,
    estimate: &Estimate,
    mut workspace: Workspace,
) {
    // Without the permission for it, hashing has normal priority.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    loop {
        // `select!` picks at random among the queues that have jobs.
        let (queue, job) = select! {
            recv(sign_ins) -> job => (sign_ins, job),
            recv(sign_ups) -> job => (sign_ups, job),
        };
        let Ok(job) = job else { return };
        let Some(job) = first_in_time(queue, job) else {
            continue;
        };
        let began = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| (job.run)(&mut workspace))) {
            Ok(true) => estimate.add(began.elapsed()),
            Ok(false) => {}
            // The blocks may be half written; nothing else in it changes.
            Err(_) => workspace.blocks = Vec::new(),
        }
    }
}

/// `job`, or if it has waited too long, the next in its queue that has not.
/// A full queue may hold many such, and must not lose its turns to them.
fn first_in_time(queue: &Receiver<Job>, job: Job) -> Option<Job> {
    std::iter::once(job)
        .chain(queue.try_iter())
        .find(|job| job.queued_at.elapsed() <= MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job that has waited for so long.
    fn job(waited: Duration) -> Job {
        Job {
            run: Box::new(|_| true),
            queued_at: Instant::now().checked_sub(waited).unwrap(),
        }
    }

    #[test]
    fn a_queue_does_not_lose_its_turn_to_jobs_that_have_waited_too_long() {
        let (old, young) = (MAX_WAIT + MAX_WAIT, Duration::ZERO);
        let (queue, jobs) = bounded(4);
        for age in [old, old, young, young] {
            queue.try_send(job(age)).unwrap();
        }
        let next = first_in_time(&jobs, job(old)).unwrap();
        assert!(next.queued_at.elapsed() < MAX_WAIT);
        assert_eq!(jobs.len(), 1);
        assert!(first_in_time(&jobs, job(young)).is_some());
        assert_eq!(jobs.len(), 1);
        jobs.try_recv().unwrap();
        assert!(first_in_time(&jobs, job(old)).is_none());
    }

    #[tokio::test]
    async fn a_flood_is_cut_to_what_can_start_in_time_and_the_other_queue_goes_on() {
        let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
        let flood: Vec<_> = (0..2 * MAX_QUEUED)
            .map(|_| {
                let hasher = hasher.clone();
                tokio::spawn(async move { hasher.hash("p".to_owned().into()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let began = Instant::now();
        let verdict = hasher.verify("p".to_owned().into(), None).await;
        assert_eq!(verdict, Ok(Verdict::Mismatch));
        // Refusals must not wait in the queue; admitted jobs are answered.
        let mut refused = 0;
        for call in flood {
            match call.await.unwrap() {
                Ok(_) => {}
                Err(e) => {
                    assert_eq!(e, HashError::Overloaded);
                    refused += 1;
                }
            }
        }
        assert!(
            refused >= MAX_QUEUED,
            "{refused} refused in {:?}",
            began.elapsed()
        );
    }

    /// A hasher of one thread, which is busy until the sender is used or
    /// dropped, with that many jobs in each queue.
    async fn busy(sign_ins: usize, sign_ups: usize) -> (PasswordHasher, Sender<()>) {
        let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
        let (release, released) = bounded::<()>(0);
        let (begin, began) = oneshot::channel();
        let block = Job {
            run: Box::new(move |_| {
                let _ = begin.send(());
                released.recv().is_ok()
            }),
            queued_at: Instant::now(),
        };
        hasher.sign_ins.send(block).unwrap();
        began.await.unwrap();
        for (queue, jobs) in [(&hasher.sign_ins, sign_ins), (&hasher.sign_ups, sign_ups)] {
            for _ in 0..jobs {
                queue.send(job(Duration::ZERO)).unwrap();
            }
        }
        (hasher, release)
    }

    #[tokio::test]
    async fn a_job_that_could_start_within_two_seconds_is_admitted_and_no_other() {
        let (hasher, release) = busy(1, 1).await;
        assert_eq!(hasher.queued(), (1, 1));
        // Two are ahead on one thread.
        let mean = |micros| hasher.estimate.mean_micros.store(micros, Ordering::Relaxed);
        mean(1_000_001);
        let refused = hasher.run(&hasher.sign_ins, |_| ()).await;
        assert_eq!(refused, Err(HashError::Overloaded));
        mean(1_000_000);
        let (admitted, ()) = tokio::join!(hasher.run(&hasher.sign_ins, |_| ()), async {
            assert_eq!(hasher.queued(), (2, 1));
            drop(release);
        });
        assert_eq!(admitted, Ok(()));
    }

    #[tokio::test]
    async fn a_job_that_has_waited_too_long_is_not_begun() {
        let (hasher, release) = busy(0, 0).await;
        let (begin, began) = bounded(1);
        let stale = Job {
            run: Box::new(move |_| begin.send(()).is_ok()),
            queued_at: Instant::now() - MAX_WAIT - Duration::from_secs(1),
        };
        hasher.sign_ins.send(stale).unwrap();
        drop(release);
        assert_eq!(hasher.run(&hasher.sign_ins, |_| ()).await, Ok(()));
        assert!(began.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_job_that_panics_fails_alone() {
        let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
        let queue = &hasher.sign_ins;
        let failed = hasher
            .run(queue, |_| std::panic::resume_unwind(Box::new("a panic")))
            .await;
        assert_eq!(failed, Err::<(), _>(HashError::Failed));
        assert_eq!(hasher.run(queue, |_| ()).await, Ok(()));
    }

    #[test]
    fn the_mean_follows_by_an_eighth() {
        let estimate = Estimate::new(2 * 20_000, 1);
        assert_eq!(estimate.mean_micros.load(Ordering::Relaxed), 20_000);
        estimate.add(Duration::from_micros(20_000 + 800));
        assert_eq!(estimate.mean_micros.load(Ordering::Relaxed), 20_100);
    }

    #[test]
    fn the_estimate_counts_both_queues_but_only_as_far_as_they_take_turns() {
        let estimate = Estimate::new(2 * 20_000, 2);
        assert_eq!(estimate.wait(0, 500), Duration::ZERO);
        assert_eq!(estimate.wait(10, 1000), Duration::from_millis(200));
        assert_eq!(estimate.wait(10, 10), Duration::from_millis(100));
    }
}
