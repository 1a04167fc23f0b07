//! Machines stand still for seconds at a time, virtual ones above all, while the
//! clock goes on. What a test measures is taken less such times.

use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use crate::support::Reply;

const TICK: Duration = Duration::from_millis(50);
/// A tick that comes so late was held up by the machine.
const LEAST: Duration = Duration::from_millis(500);
/// For how long afterwards the server may think that hashes are slow, since one
/// of them seemed to be.
const AFTERMATH: Duration = Duration::from_secs(10);
/// How often the queue for passwords is asked again.
const AGAIN: usize = 3;

static NOTED: LazyLock<Mutex<Noted>> = LazyLock::new(|| {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(TICK);
            NOTED.lock().unwrap().tick(Instant::now());
        }
    });
    Mutex::new(Noted {
        last: Instant::now(),
        spans: Vec::new(),
    })
});

struct Noted {
    /// When it ticked last.
    last: Instant,
    /// When standstills began and ended.
    spans: Vec<(Instant, Instant)>,
}

impl Noted {
    fn tick(&mut self, now: Instant) {
        if now.duration_since(self.last) > LEAST {
            self.spans.push((self.last + TICK, now));
        }
        self.last = now;
    }

    fn since(&self, began: Instant) -> Duration {
        let spans = self.spans.iter();
        spans
            .map(|&(from, to)| to.saturating_duration_since(from.max(began)))
            .sum()
    }
}

/// For how long the machine has stood still since `began`, which a `Stopwatch` gave.
fn standstill_since(began: Instant) -> Duration {
    let mut noted = NOTED.lock().unwrap();
    // Whoever asks may be the first to go on.
    noted.tick(Instant::now());
    noted.since(began)
}

/// Measures a time, less what the machine stood still.
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        LazyLock::force(&NOTED);
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        let elapsed = self.0.elapsed();
        elapsed.saturating_sub(self.standstill())
    }

    pub fn standstill(&self) -> Duration {
        standstill_since(self.0)
    }
}

/// The answer to `ask`. A password that has waited for two seconds is refused, so
/// when the machine stood still, and only then, such a refusal is asked again.
pub fn patiently(mut ask: impl FnMut() -> Option<Reply>) -> Option<Reply> {
    for _ in 0..AGAIN {
        let watch = Stopwatch::start();
        let reply = ask()?;
        let began = watch.0.checked_sub(AFTERMATH).unwrap_or(watch.0);
        if !is_queue_full(&reply) || standstill_since(began).is_zero() {
            return Some(reply);
        }
        let seconds = reply.header("retry-after").parse().unwrap();
        std::thread::sleep(Duration::from_secs(seconds));
    }
    ask()
}

fn is_queue_full(reply: &Reply) -> bool {
    reply.status == 503 && reply.text().contains("too many passwords")
}

#[test]
fn only_a_late_tick_is_a_standstill_and_only_what_comes_after_the_beginning_counts() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut noted = Noted {
        last: start,
        spans: Vec::new(),
    };
    for ms in [50, 550, 600, 3600, 3650] {
        noted.tick(after(ms));
    }
    assert_eq!(noted.since(start), Duration::from_millis(2950));
    assert_eq!(noted.since(after(1600)), Duration::from_secs(2));
    assert_eq!(noted.since(after(3600)), Duration::ZERO);
}
