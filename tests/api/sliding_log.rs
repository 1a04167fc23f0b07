//! The sliding log against its definition, to the nanosecond.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jwks_server::client_key::ClientKey;
use jwks_server::clock::{Clock as _, UnixTime};
use jwks_server::http::SlidingLog;
use proptest::prelude::*;

use crate::manual_clock::ManualClock;

const WINDOW: Duration = Duration::from_secs(1);

fn log(rate: u32) -> (SlidingLog, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(UnixTime::from_secs(0)));
    let rate = NonZeroU32::new(rate).unwrap();
    (SlidingLog::new(rate, Arc::clone(&clock) as _), clock)
}

fn client(n: u32) -> ClientKey {
    ClientKey::of(IpAddr::V4(Ipv4Addr::from_bits(n)))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn ten_spaced_a_tenth_apart_are_let_in_and_an_eleventh_at_once_is_not() {
    let (log, clock) = log(10);
    for _ in 0..9 {
        assert_eq!(log.admit(client(1)), Ok(()));
        clock.advance(ms(100));
    }
    assert_eq!(log.admit(client(1)), Ok(()));
    assert_eq!(log.admit(client(1)), Err(ms(100)));
    clock.advance(ms(99));
    assert_eq!(log.admit(client(1)), Err(ms(1)));
    assert_eq!(log.admit(client(2)), Ok(()));
    clock.advance(ms(1));
    assert_eq!(log.admit(client(1)), Ok(()));
}

#[test]
fn of_many_at_once_exactly_the_rate_is_let_in() {
    let (log, _clock) = log(10);
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..100).filter(|_| log.admit(client(1)).is_ok()).count()))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(admitted, 10);
}

#[test]
fn idle_clients_are_removed_with_and_without_traffic() {
    let (log, clock) = log(10);
    for n in 0..100_000 {
        log.admit(client(n)).unwrap();
    }
    assert_eq!(log.clients(), 100_000);
    clock.advance(WINDOW);
    for n in 0..100_000 {
        log.admit(client(1 << 20 | n)).unwrap();
        clock.advance(Duration::from_micros(100));
    }
    assert!(log.clients() < 40_000, "{}", log.clients());
    clock.advance(WINDOW);
    log.sweep();
    assert_eq!(log.clients(), 0);
}

#[test]
fn a_client_is_removed_when_its_last_call_counts_no_more() {
    let (log, clock) = log(10);
    log.admit(client(1)).unwrap();
    clock.advance(WINDOW - Duration::from_nanos(1));
    log.sweep();
    assert_eq!(log.clients(), 1);
    clock.advance(Duration::from_nanos(1));
    log.sweep();
    assert_eq!(log.clients(), 0);
}

proptest! {
    /// Against the definition, call by call: let in if and only if fewer
    /// than the rate were let in during the second before.
    #[test]
    fn it_agrees_with_the_definition(gaps in prop::collection::vec(0_u64..400, 1..300), rate in 1_u32..12) {
        let (log, clock) = log(rate);
        let mut admitted: Vec<Duration> = Vec::new();
        for gap in gaps {
            clock.advance(ms(gap));
            let now = clock.monotonic();
            let within: Vec<_> = admitted.iter().filter(|&&at| now - at < WINDOW).collect();
            let expected = if within.len() < rate as usize {
                admitted.push(now);
                Ok(())
            } else {
                Err(**within.first().unwrap() + WINDOW - now)
            };
            prop_assert_eq!(log.admit(client(1)), expected);
        }
    }
}
