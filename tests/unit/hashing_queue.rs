//! Turns, bounds and estimates of the hashing queues.

use std::sync::mpsc;

use futures_util::FutureExt as _;

use super::QueueName::{SignIns, SignUps, SlowSignIns};
use super::*;

const ONE: ClientKey = ClientKey::OPERATOR;
const NOW: Duration = Duration::ZERO;
const TOO_LONG: Duration = Duration::from_secs(4);

fn another() -> ClientKey {
    ClientKey::of([127, 0, 0, 1].into())
}

/// A job that has waited for so long.
fn job(waited: Duration) -> HashJob {
    HashJob {
        task: Box::new(|_| true),
        queued_at: Instant::now().checked_sub(waited).unwrap(),
    }
}

/// Queues of hashes that take 20 ms, or 160 ms where they are slow.
fn queues(threads: usize) -> Queues {
    Queues::new(2 * 20_000, threads)
}

fn add(queues: &mut Queues, queue: QueueName, client: ClientKey, jobs: usize) {
    for _ in 0..jobs {
        queues.get_mut(queue).jobs.push(client, job(NOW));
    }
}

#[test]
fn a_queue_does_not_lose_its_turn_to_jobs_that_have_waited_too_long() {
    let mut queues = queues(1);
    for waited in [TOO_LONG, TOO_LONG, NOW, TOO_LONG] {
        queues.get_mut(SignIns).jobs.push(ONE, job(waited));
    }
    let (_, next) = queues.pop().unwrap();
    assert!(next.queued_at.elapsed() < MAX_QUEUE_WAIT);
    assert!(queues.pop().is_none());
    assert_eq!(queues.get(SignIns).jobs.len(), 0);
}

#[test]
fn queues_get_equal_time_and_slow_jobs_half_of_the_threads() {
    let mut queues = queues(4);
    for queue in [SignIns, SignUps, SlowSignIns] {
        add(&mut queues, queue, ONE, 100);
    }
    let mut served = Vec::new();
    for _ in 0..85 {
        let (queue, _) = queues.pop().unwrap();
        served.push(queue);
        queues.ended(queue, None);
    }
    let number = |name| served.iter().filter(|queue| **queue == name).count();
    assert_eq!([SignIns, SignUps, SlowSignIns].map(number), [40, 40, 5]);
    let running = std::iter::from_fn(|| queues.pop());
    let running: Vec<_> = running.map(|(queue, _)| queue).collect();
    let slow = running.iter().filter(|queue| **queue == SlowSignIns);
    assert_eq!((slow.count(), running.len()), (2, 122));
    queues.ended(SlowSignIns, None);
    assert_eq!(queues.pop().map(|(queue, _)| queue), Some(SlowSignIns));
}

#[test]
fn a_queue_that_was_empty_does_not_make_up_for_it() {
    let mut queues = queues(1);
    add(&mut queues, SignIns, ONE, 200);
    for _ in 0..100 {
        queues.pop().unwrap();
    }
    for _ in 0..50 {
        queues.add(SignUps, ONE, job(NOW)).unwrap();
    }
    let next: Vec<_> = std::iter::from_fn(|| queues.pop()).take(20).collect();
    let sign_ups = next.iter().filter(|(queue, _)| *queue == SignUps).count();
    assert!((9..=11).contains(&sign_ups), "{sign_ups}");
}

/// A hasher of one thread, which is busy until the sender is dropped.
async fn busy() -> (PasswordHasher, mpsc::Sender<()>) {
    let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
    let (release, released) = mpsc::channel();
    let (begin, began) = oneshot::channel();
    let block = HashJob {
        task: Box::new(move |_| {
            let _ = begin.send(());
            released.recv().is_ok()
        }),
        queued_at: Instant::now(),
    };
    hasher
        .pool
        .shared
        .queues
        .lock()
        .add(SignIns, ONE, block)
        .unwrap();
    hasher.pool.shared.changed.notify_one();
    began.await.unwrap();
    (hasher, release)
}

#[tokio::test]
async fn a_job_that_could_start_within_two_seconds_is_admitted_and_no_other() {
    let (hasher, release) = busy().await;
    let mean = |micros| {
        let mut queues = hasher.pool.shared.queues.lock();
        for queue in [SignIns, SignUps] {
            queues.get_mut(queue).mean = Duration::from_micros(micros);
        }
    };
    for queue in [SignIns, SignUps] {
        add(&mut hasher.pool.shared.queues.lock(), queue, ONE, 1);
    }
    assert_eq!(hasher.queued(), (1, 1));
    // Two are ahead on one thread.
    mean(1_000_001);
    let refused = hasher.submit(SignIns, ONE, |_| ()).await;
    assert_eq!(refused, Err(HashError::Overloaded));
    mean(1_000_000);
    let (admitted, ()) = tokio::join!(hasher.submit(SignIns, ONE, |_| ()), async {
        assert_eq!(hasher.queued(), (2, 1));
        drop(release);
    });
    assert_eq!(admitted, Ok(()));
}

#[tokio::test]
async fn a_job_that_has_waited_too_long_is_not_begun() {
    let (hasher, release) = busy().await;
    let (begin, began) = mpsc::channel();
    let stale = HashJob {
        task: Box::new(move |workspace| begin.send(workspace.is_some()).is_ok()),
        queued_at: Instant::now().checked_sub(TOO_LONG).unwrap(),
    };
    hasher
        .pool
        .shared
        .queues
        .lock()
        .add(SignIns, ONE, stale)
        .unwrap();
    drop(release);
    assert_eq!(hasher.submit(SignIns, ONE, |_| ()).await, Ok(()));
    assert_eq!(began.try_recv(), Ok(false));
}

#[tokio::test]
async fn a_job_whose_caller_went_away_before_its_turn_is_skipped() {
    let (hasher, release) = busy().await;
    let (begin, began) = mpsc::channel();
    let abandoned = hasher.submit(SignIns, ONE, move |_| begin.send(()));
    assert!(abandoned.now_or_never().is_none());
    drop(release);
    assert_eq!(hasher.submit(SignIns, ONE, |_| ()).await, Ok(()));
    assert!(began.try_recv().is_err());
}

#[tokio::test]
async fn a_job_that_panics_fails_alone() {
    let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
    for queue in [SignIns, SlowSignIns] {
        let panics = |_: &mut Workspace| std::panic::resume_unwind(Box::new("a panic"));
        let failed = hasher.submit(queue, ONE, panics).await;
        assert_eq!(failed, Err::<(), _>(HashError::Failed));
        assert_eq!(hasher.submit(queue, ONE, |_| ()).await, Ok(()));
    }
}

#[test]
fn the_mean_follows_by_an_eighth() {
    let mut queues = queues(1);
    let mean = |queues: &Queues| queues.get(SignIns).mean.as_micros();
    assert_eq!(mean(&queues), 20_000);
    queues.ended(SignIns, Some(Duration::from_micros(20_000 + 800)));
    assert_eq!(mean(&queues), 20_100);
}

#[test]
fn the_estimate_counts_a_turn_of_each_client_and_other_queues_only_for_as_long() {
    let mut queues = queues(2);
    add(&mut queues, SignUps, ONE, 500);
    assert_eq!(queues.wait(SignIns, ONE), Duration::ZERO);
    add(&mut queues, SignIns, ONE, 10);
    assert_eq!(queues.wait(SignIns, ONE), Duration::from_millis(200));
    // One of client 1, and as long of the sign-ups.
    assert_eq!(queues.wait(SignIns, another()), Duration::from_millis(20));
    queues.get_mut(SignUps).jobs = Turns::default();
    assert_eq!(queues.wait(SignIns, ONE), Duration::from_millis(100));
    add(&mut queues, SlowSignIns, another(), 100);
    assert_eq!(queues.wait(SignIns, another()), Duration::from_millis(20));
}
