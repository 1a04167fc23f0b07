//! The hashing threads: as many as there are cores, below normal priority, each
//! with its own memory. In front of them stand two bounded queues, one for
//! sign-ins and one for new accounts, that take turns, so neither can starve
//! the other. Work that could not start in time is refused at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use secrecy::SecretString;
use tokio::sync::oneshot;

use super::{Against, Costs, NoMemory, Recipe, Verdict, Workspace};

/// Work that would have to wait longer than this is refused.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Whatever the estimate says, no queue grows past this.
const MAX_QUEUED: usize = 1024;
/// How nice the threads are (see setpriority(2)): the key set and the rest of
/// HTTP come first when cores are short. Not more, or other programs on a busy
/// machine would starve sign-ins.
const NICENESS: i32 = 8;

/// Says whether it did anything, see [`Pace::note`].
type Work = Box<dyn FnOnce(&mut Workspace) -> bool + Send>;

/// Hashes passwords without ever blocking its caller's thread.
#[derive(Clone, Debug)]
pub struct PasswordHasher {
    sign_ins: Sender<Job>,
    sign_ups: Sender<Job>,
    pace: Arc<Pace>,
    costs: Costs,
}

/// Why there is no answer from the hashing threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is longer than could start within about two seconds.
    #[error("too many passwords are being checked at once")]
    Overloaded,
    /// The stored hash asks for more memory than there is, or another large
    /// one is being computed.
    #[error("there is not enough memory to check the password")]
    NoMemory,
    /// The work came to nothing.
    #[error("the password could not be hashed")]
    Failed,
}

#[derive(Debug)]
struct Job {
    work: JobWork,
    queued_at: Instant,
}

/// Keeps `Job: Debug` without showing what runs.
struct JobWork(Work);

impl std::fmt::Debug for JobWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("work")
    }
}

impl PasswordHasher {
    /// Starts `threads` hashing threads (at least one); new hashes get `costs`.
    /// The threads end when the last clone is dropped.
    pub fn start(costs: Costs, threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (sign_ins, sign_in_jobs) = bounded(MAX_QUEUED);
        let (sign_ups, sign_up_jobs) = bounded(MAX_QUEUED);
        let pace = Arc::new(Pace::new(costs, threads));
        let large = Arc::default();
        for n in 0..threads {
            let (sign_in_jobs, sign_up_jobs) = (sign_in_jobs.clone(), sign_up_jobs.clone());
            let pace = Arc::clone(&pace);
            let space = Workspace::new(costs, Arc::clone(&large));
            std::thread::Builder::new()
                .name(format!("argon2-{n}"))
                .spawn(move || run(&sign_in_jobs, &sign_up_jobs, &pace, space))?;
        }
        Ok(Self {
            sign_ins,
            sign_ups,
            pace,
            costs,
        })
    }

    /// Hashes the password of a new account into a PHC string.
    pub async fn hash(&self, password: SecretString) -> Result<String, HashError> {
        self.run(&self.sign_ups, move |space| space.hash(&password))
            .await?
            .ok_or(HashError::Failed)
    }

    /// Hashes a password anew that was just verified.
    pub async fn rehash(&self, password: SecretString) -> Result<String, HashError> {
        self.run(&self.sign_ins, move |space| space.hash(&password))
            .await?
            .ok_or(HashError::Failed)
    }

    /// Holds a password against a stored hash. Against nothing, the work is
    /// done for a [`Verdict::Mismatch`].
    pub async fn verify(
        &self,
        password: SecretString,
        against: Against,
    ) -> Result<Verdict, HashError> {
        self.run(&self.sign_ins, move |space| {
            space.verify(&password, &against)
        })
        .await?
        .map_err(|NoMemory| HashError::NoMemory)
    }

    /// How many wait for a thread: sign-ins, and new accounts.
    pub fn waiting(&self) -> (usize, usize) {
        (self.sign_ins.len(), self.sign_ups.len())
    }

    /// How new hashes are computed.
    pub fn recipe(&self) -> Recipe {
        Recipe::new(self.costs)
    }

    /// KiB times passes that have been computed so far.
    pub fn work(&self) -> u64 {
        self.pace.work.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(
        &self,
        lane: &Sender<Job>,
        work: impl FnOnce(&mut Workspace) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        if self
            .pace
            .wait(lane.len(), self.sign_ins.len() + self.sign_ups.len())
            > MAX_WAIT
        {
            return Err(HashError::Overloaded);
        }
        let (answer, answered) = oneshot::channel();
        let queued_at = Instant::now();
        let pace = Arc::clone(&self.pace);
        let job = Job {
            work: JobWork(Box::new(move |space| {
                // Nobody waits any more: the place in the queue was held until
                // its turn, and the turn costs nothing.
                if answer.is_closed() {
                    return false;
                }
                let before = space.work;
                let result = work(space);
                // Counted before the answer, so that whoever has that sees it.
                pace.work.fetch_add(space.work - before, Ordering::Relaxed);
                let _ = answer.send(result);
                true
            })),
            queued_at,
        };
        lane.try_send(job).map_err(|e| match e {
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

/// How long a hash has taken lately.
#[derive(Debug)]
struct Pace {
    threads: u32,
    mean_micros: AtomicU64,
    /// See [`PasswordHasher::work`].
    work: AtomicU64,
}

impl Pace {
    fn new(costs: Costs, threads: usize) -> Self {
        // A guess until the first hash is measured: a microsecond for two KiB and pass.
        let micros = u64::from(costs.memory_kib) * u64::from(costs.passes) / 2;
        Self {
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            mean_micros: AtomicU64::new(micros),
            work: AtomicU64::new(0),
        }
    }

    /// When a job that joins a lane of `ahead` would start, given that the
    /// lanes take turns and hold `queued` jobs together.
    fn wait(&self, ahead: usize, queued: usize) -> Duration {
        let before = u32::try_from(queued.min(2 * ahead)).unwrap_or(u32::MAX);
        let mean = Duration::from_micros(self.mean_micros.load(Ordering::Relaxed));
        mean.saturating_mul(before) / self.threads
    }

    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mean = self.mean_micros.load(Ordering::Relaxed);
        // A lost update among threads does no harm to an estimate.
        let next = (mean.saturating_mul(7).saturating_add(took)) / 8;
        self.mean_micros.store(next, Ordering::Relaxed);
    }
}

fn run(sign_ins: &Receiver<Job>, sign_ups: &Receiver<Job>, pace: &Pace, mut space: Workspace) {
    // Without the right to be nice, hashing is merely less polite.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    loop {
        // `select!` picks at random among lanes that have work, so both move.
        let (lane, job) = select! {
            recv(sign_ins) -> job => (sign_ins, job),
            recv(sign_ups) -> job => (sign_ups, job),
        };
        let Ok(job) = job else { return };
        let Some(job) = in_time(lane, job) else {
            continue;
        };
        let began = Instant::now();
        let work = job.work.0;
        match catch_unwind(AssertUnwindSafe(|| work(&mut space))) {
            Ok(true) => pace.note(began.elapsed()),
            Ok(false) => {}
            // Its memory may be half written; nothing else of it is.
            Err(_) => space.blocks = Vec::new(),
        }
    }
}

/// `job`, or when it has waited too long, the next of its lane that has not: a
/// lane that is full to the bound has many such, and would lose its turns to them.
fn in_time(lane: &Receiver<Job>, job: Job) -> Option<Job> {
    std::iter::once(job)
        .chain(lane.try_iter())
        .find(|job| job.queued_at.elapsed() <= MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_does_not_lose_its_turn_to_work_that_has_waited_too_long() {
        let job = |age| Job {
            work: JobWork(Box::new(|_| true)),
            queued_at: Instant::now().checked_sub(age).unwrap(),
        };
        let (old, young) = (MAX_WAIT + MAX_WAIT, Duration::ZERO);
        let (lane, jobs) = bounded(4);
        for age in [old, old, young, young] {
            lane.try_send(job(age)).unwrap();
        }
        let next = in_time(&jobs, job(old)).unwrap();
        assert!(next.queued_at.elapsed() < MAX_WAIT);
        assert_eq!(jobs.len(), 1);
        assert!(in_time(&jobs, job(young)).is_some());
        assert_eq!(jobs.len(), 1);
        jobs.try_recv().unwrap();
        assert!(in_time(&jobs, job(old)).is_none());
    }

    #[tokio::test]
    async fn a_flood_is_cut_to_what_can_start_in_time_and_the_other_lane_goes_on() {
        let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
        let flood: Vec<_> = (0..2 * MAX_QUEUED)
            .map(|_| {
                let hasher = hasher.clone();
                tokio::spawn(async move { hasher.hash("p".to_owned().into()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let began = Instant::now();
        let verdict = hasher
            .verify("p".to_owned().into(), Against::Nothing(hasher.recipe()))
            .await;
        assert_eq!(verdict, Ok(Verdict::Mismatch));
        // Refusals must not wait for their turn; what was let in is answered.
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
    /// dropped, with as many waiting in each lane.
    async fn busy(sign_ins: usize, sign_ups: usize) -> (PasswordHasher, Sender<()>) {
        let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
        let (release, released) = bounded::<()>(0);
        let (begin, began) = oneshot::channel();
        let job = |work: Work| Job {
            work: JobWork(work),
            queued_at: Instant::now(),
        };
        let block = job(Box::new(move |_| {
            let _ = begin.send(());
            released.recv().is_ok()
        }));
        hasher.sign_ins.send(block).unwrap();
        began.await.unwrap();
        for _ in 0..sign_ins {
            hasher.sign_ins.send(job(Box::new(|_| true))).unwrap();
        }
        for _ in 0..sign_ups {
            hasher.sign_ups.send(job(Box::new(|_| true))).unwrap();
        }
        (hasher, release)
    }

    #[tokio::test]
    async fn who_could_start_within_two_seconds_is_let_in_and_no_other() {
        let (hasher, release) = busy(1, 1).await;
        assert_eq!(hasher.waiting(), (1, 1));
        // Two are ahead on one thread.
        let mean = |micros| hasher.pace.mean_micros.store(micros, Ordering::Relaxed);
        mean(1_000_001);
        let refused = hasher.run(&hasher.sign_ins, |_| ()).await;
        assert_eq!(refused, Err(HashError::Overloaded));
        mean(1_000_000);
        let (let_in, ()) = tokio::join!(hasher.run(&hasher.sign_ins, |_| ()), async {
            assert_eq!(hasher.waiting(), (2, 1));
            drop(release);
        });
        assert_eq!(let_in, Ok(()));
    }

    #[tokio::test]
    async fn what_has_waited_for_too_long_is_not_begun() {
        let (hasher, release) = busy(0, 0).await;
        let (begin, began) = bounded(1);
        let stale = Job {
            work: JobWork(Box::new(move |_| begin.send(()).is_ok())),
            queued_at: Instant::now() - MAX_WAIT - Duration::from_secs(1),
        };
        assert_eq!(format!("{:?}", stale.work), "work");
        hasher.sign_ins.send(stale).unwrap();
        drop(release);
        assert_eq!(hasher.run(&hasher.sign_ins, |_| ()).await, Ok(()));
        assert!(began.try_recv().is_err());
    }

    #[tokio::test]
    async fn work_that_panics_fails_alone() {
        let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
        let lane = &hasher.sign_ins;
        let failed = hasher
            .run(lane, |_| std::panic::resume_unwind(Box::new("a panic")))
            .await;
        assert_eq!(failed, Err::<(), _>(HashError::Failed));
        assert_eq!(hasher.run(lane, |_| ()).await, Ok(()));
    }

    #[tokio::test]
    async fn each_new_hash_is_up_to_date() {
        let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
        let password = || SecretString::from("p".to_owned());
        for hash in [
            hasher.hash(password()).await,
            hasher.rehash(password()).await,
        ] {
            let verdict = hasher
                .verify(password(), Against::Stored(hash.unwrap()))
                .await;
            assert_eq!(verdict, Ok(Verdict::Match { outdated: false }));
        }
    }

    #[test]
    fn the_mean_follows_by_an_eighth() {
        let pace = Pace::new(Costs::DEFAULT, 1);
        assert_eq!(pace.mean_micros.load(Ordering::Relaxed), 19_456);
        pace.note(Duration::from_micros(19_456 + 800));
        assert_eq!(pace.mean_micros.load(Ordering::Relaxed), 19_556);
    }

    #[test]
    fn the_estimate_counts_both_lanes_but_only_as_far_as_they_take_turns() {
        let pace = Pace {
            threads: 2,
            mean_micros: AtomicU64::new(20_000),
            work: AtomicU64::new(0),
        };
        assert_eq!(pace.wait(0, 500), Duration::ZERO);
        assert_eq!(pace.wait(10, 1000), Duration::from_millis(200));
        assert_eq!(pace.wait(10, 10), Duration::from_millis(100));
    }
}
