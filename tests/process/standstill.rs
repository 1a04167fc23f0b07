//! Virtual machines stand still for seconds at a time while the clock goes on.
//! Such standstills are subtracted from measured times.
//!
//! They are recognised from outside the server: a clock thread was late, and meanwhile no
//! core worked for anyone, as /proc/stat counts it (time that the hypervisor stole
//! is not work). A server that takes all cores makes the clock thread late as well,
//! but that is work, and no excuse.

use std::fs;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use crate::support::Reply;

const TICK: Duration = Duration::from_millis(50);
/// A shorter standstill is not told from an ordinary late tick.
const LEAST: Duration = Duration::from_millis(500);
/// For how long afterwards the server may think that hashes are slow, since one
/// of them seemed to be.
const AFTERMATH: Duration = Duration::from_secs(10);
/// Most repetitions of a request that the hashing queue refused.
const AGAIN: usize = 3;

static NOTED: LazyLock<Mutex<Noted>> = LazyLock::new(|| {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(TICK);
            NOTED.lock().unwrap().tick(Instant::now(), worked());
        }
    });
    Mutex::new(Noted {
        last: (Instant::now(), worked()),
        spans: Vec::new(),
    })
});

/// The time that all cores together have worked since the machine was started.
fn worked() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    // proc(5): user, nice, system, idle, iowait, irq, softirq, steal; hundredths of a second.
    let fields = stat.lines().next().unwrap().split_whitespace().skip(1);
    let hundredths: Vec<u64> = fields.map(|field| field.parse().unwrap()).collect();
    let working = [0, 1, 2, 5, 6].map(|field| hundredths[field]);
    Duration::from_millis(10 * working.iter().sum::<u64>())
}

struct Noted {
    /// The last tick, and the work of all cores until then.
    last: (Instant, Duration),
    /// Ends of standstills, and their lengths.
    spans: Vec<(Instant, Duration)>,
}

impl Noted {
    fn tick(&mut self, now: Instant, worked: Duration) {
        let late = now.duration_since(self.last.0).saturating_sub(TICK);
        let stood = late.saturating_sub(worked.saturating_sub(self.last.1));
        if stood > LEAST {
            self.spans.push((now, stood));
        }
        self.last = (now, worked);
    }

    fn since(&self, began: Instant) -> Duration {
        let spans = self.spans.iter();
        spans
            .map(|&(end, stood)| stood.min(end.saturating_duration_since(began)))
            .sum()
    }
}

/// For how long the machine has stood still since `began`, which a `Stopwatch` gave.
fn standstill_since(began: Instant) -> Duration {
    let mut noted = NOTED.lock().unwrap();
    // This thread may be the first to run again.
    noted.tick(Instant::now(), worked());
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
fn only_a_late_tick_without_work_is_a_standstill_and_only_what_comes_after_the_beginning_counts() {
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    let mut noted = Noted {
        last: (start, Duration::ZERO),
        spans: Vec::new(),
    };
    // The clock, and the work of all cores until then, in milliseconds.
    for (ms, worked) in [(50, 40), (550, 40), (600, 140), (3600, 190), (3650, 190)] {
        noted.tick(after(ms), Duration::from_millis(worked));
    }
    assert_eq!(noted.since(start), Duration::from_millis(2900));
    assert_eq!(noted.since(after(1600)), Duration::from_secs(2));
    assert_eq!(noted.since(after(3600)), Duration::ZERO);
    // Late by three seconds in which two cores worked.
    noted.tick(after(6700), Duration::from_millis(6190));
    assert_eq!(noted.since(after(3600)), Duration::ZERO);
}
