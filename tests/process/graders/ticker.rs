//! The third grader's look at the limit: ten sign-ins on a ticker, and one more.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::visit::{Ask, Visit};
use crate::support::Reply;

const TICK: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// When the eleventh call is sent at the latest, counted from the first.
const LATEST: Duration = Duration::from_millis(950);

pub struct Ticked {
    /// The status of each of the ten.
    pub ten: Vec<u16>,
    pub eleventh: Reply,
    /// Whether all eleven calls lie within one second, as the client sees it.
    pub within_a_second: bool,
}

/// After a second of quiet, signs in ten times 100 ms apart, and once more right
/// after the tenth answer. Where hashing is so slow that this answer comes after
/// the first call's second, the eleventh does not wait for it: the limit is
/// promised for a second, however long the calls take.
pub fn tick(visit: &Visit, ask: &Ask) -> Ticked {
    let mut conn = visit.connect();
    let mut spare = visit.connect();
    // The grader's own pause, so that earlier calls do not count.
    thread::sleep(SECOND);

    let first = Instant::now();
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
        let _ = answer.recv_timeout(left);
        let eleventh = visit.send(&mut spare, ask);
        let within_a_second = first.elapsed() < SECOND;
        ten.push(tenth.join().unwrap());
        Ticked {
            ten,
            eleventh,
            within_a_second,
        }
    })
}
