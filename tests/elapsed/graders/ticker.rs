//! The third grader's test of the limit: ten sign-ins on a ticker, and one more.

use std::fs;
use std::sync::{PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::visit::{Ask, Visit};
use crate::support::Reply;

const TICK: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// Latest time of the eleventh call, counted from the first.
const LATEST: Duration = Duration::from_millis(980);

pub struct Ticked {
    /// The status of each of the ten.
    pub ten: Vec<u16>,
    /// The tenth answer came before the eleventh call had to be sent.
    pub tenth_is_in_time: bool,
    pub eleventh: Reply,
    /// The eleventh answer came within the first call's second, so the limit held.
    pub eleventh_is_in_time: bool,
    /// Something else than the server kept the cores busy, so that times say little.
    pub is_machine_busy: bool,
}

/// After a second of quiet, signs in ten times 100 ms apart, and once more right
/// after the tenth answer, or when the first call's second is nearly over.
pub fn tick(visit: &Visit, server: u32, ask: &Ask) -> Ticked {
    // The grader's own pause, so that earlier calls do not count.
    thread::sleep(SECOND);
    let _alone = super::BUSY.write().unwrap_or_else(PoisonError::into_inner);
    // Not before: a connection that sends nothing is closed after ten seconds.
    let (mut conn, mut spare) = (visit.connect(), visit.connect());
    let (first, before) = (Instant::now(), Load::of(server));
    let mut ten = Vec::new();
    for n in 0..9 {
        thread::sleep((first + n * TICK).saturating_duration_since(Instant::now()));
        ten.push(visit.send(&mut conn, ask).status);
    }
    thread::sleep((first + 9 * TICK).saturating_duration_since(Instant::now()));
    thread::scope(|scope| {
        visit.write(&mut conn, ask);
        let (answered, answer) = mpsc::channel();
        let tenth = scope.spawn(move || {
            let reply = conn.read_reply("POST");
            let _ = answered.send(());
            reply.status
        });
        let left = (first + LATEST).saturating_duration_since(Instant::now());
        let tenth_is_in_time = answer.recv_timeout(left).is_ok();
        let eleventh = visit.send(&mut spare, ask);
        let eleventh_is_in_time = first.elapsed() < SECOND;
        let is_machine_busy = Load::of(server).tells_of_others(&before, first.elapsed());
        ten.push(tenth.join().unwrap());
        Ticked {
            ten,
            tenth_is_in_time,
            eleventh,
            eleventh_is_in_time,
            is_machine_busy,
        }
    })
}

/// Time that programs have waited for a core, and that the server has had one, so far.
struct Load {
    /// For how long some program waited for a core; zero where the kernel does not say.
    waited: Duration,
    /// For how long the server has had a core.
    served: Duration,
}

impl Load {
    fn of(server: u32) -> Self {
        let pressure = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
        let total = pressure
            .lines()
            .next()
            .and_then(|some| some.rsplit_once("total="));
        let micros = total.map_or(0, |(_, micros)| micros.parse().unwrap());
        let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
        // Fields 14 and 15 of proc(5), in hundredths of a second; the second may have spaces.
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let times = rest.split_whitespace().skip(11).take(2);
        let hundredths: u64 = times.map(|time| time.parse::<u64>().unwrap()).sum();
        Self {
            waited: Duration::from_micros(micros),
            served: Duration::from_millis(10 * hundredths),
        }
    }

    /// Cores were waited for in half of the time, though the server took less than half
    /// of one.
    fn tells_of_others(&self, before: &Self, took: Duration) -> bool {
        let (waited, served) = (self.waited - before.waited, self.served - before.served);
        2 * waited > took && 2 * served < took
    }
}
