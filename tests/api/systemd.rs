//! Messages to a service manager, by a clock that moves on by itself.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::sync::Arc;
use std::time::Duration;

use jwks_server::clock::SystemClock;
use jwks_server::lifecycle::{Policy, PolicyParts};
use jwks_server::systemd::{Reporter, SEND_TIMEOUT, Supervision};
use tokio_util::sync::CancellationToken;

fn reporter() -> (Reporter, StdDatagram, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = StdDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let minute = Duration::from_secs(60);
    let reporter = Reporter {
        supervision: supervision(&[("NOTIFY_SOCKET", path.to_str().unwrap())]),
        keys: Arc::default(),
        policy: Policy::new(PolicyParts {
            key_lifetime: 4 * minute,
            token_lifetime: minute,
            lead: minute,
            skew: minute,
            retention: minute,
        })
        .unwrap(),
        clock: Arc::new(SystemClock::new()),
        heartbeat: Arc::default(),
    };
    (reporter, manager, dir)
}

fn supervision(variables: &[(&str, &str)]) -> Supervision {
    let get = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    Supervision::from_parts(get, 7)
}

fn received(manager: &StdDatagram) -> Vec<String> {
    let mut buf = [0; 256];
    let next = || {
        let length = manager.recv(&mut buf).ok()?;
        Some(String::from_utf8(buf[..length].to_vec()).unwrap())
    };
    std::iter::from_fn(next).collect()
}

#[tokio::test(start_paused = true)]
async fn without_a_key_it_is_never_ready() {
    let (reporter, manager, _dir) = reporter();
    let stop = CancellationToken::new();
    let running = tokio::spawn(reporter.run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(600)).await;
    stop.cancel();
    running.await.unwrap();
    let messages = received(&manager);
    assert_eq!(
        messages,
        ["STOPPING=1\nSTATUS=answering the last requests\n"]
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_rotation_hangs_the_watchdog_is_told_nothing() {
    let (reporter, manager, _dir) = reporter();
    let heartbeat = Arc::clone(&reporter.heartbeat);
    let running = tokio::spawn(async move {
        reporter.keep_alive(Duration::from_secs(30)).await;
    });
    // At 0, 15, 30 and 45 seconds; then there was no beat for a minute.
    tokio::time::sleep(Duration::from_secs(605)).await;
    assert_eq!(received(&manager), ["WATCHDOG=1\n"; 4]);
    heartbeat.beat();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(received(&manager), ["WATCHDOG=1\n"]);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_does_not_read_delays_nothing_for_long() {
    let (reporter, _manager, _dir) = reporter();
    let began = tokio::time::Instant::now();
    for _ in 0..1000 {
        reporter.notify("WATCHDOG=1\n").await;
        if began.elapsed() >= SEND_TIMEOUT {
            assert!(began.elapsed() < 2 * SEND_TIMEOUT);
            return;
        }
    }
    panic!("the queue of a socket is longer than a thousand");
}

#[test]
fn sockets_are_paths_or_abstract_names() {
    for (named, is_socket) in [
        ("/run/notify", true),
        ("@notify", true),
        ("vsock:2:1", false),
        ("notify", false),
        ("@", false),
        ("", false),
    ] {
        let found = supervision(&[("NOTIFY_SOCKET", named)]);
        let socket = found.socket.as_ref();
        assert_eq!(socket.is_some(), is_socket);
        let name = socket.and_then(SocketAddr::as_abstract_name);
        assert_eq!(name.is_some(), named == "@notify");
    }
}

#[test]
fn the_watchdog_is_for_the_process_that_it_names() {
    let socket = ("NOTIFY_SOCKET", "/run/notify");
    let usec = ("WATCHDOG_USEC", "30000000");
    for (variables, seconds) in [
        (&[socket, usec][..], Some(30)),
        (&[socket, usec, ("WATCHDOG_PID", "7")], Some(30)),
        (&[socket, usec, ("WATCHDOG_PID", "8")], None),
        (&[socket, usec, ("WATCHDOG_PID", "x")], None),
        (&[socket, ("WATCHDOG_USEC", "0")], None),
        (&[usec], None),
    ] {
        let watchdog = supervision(variables).watchdog;
        assert_eq!(watchdog, seconds.map(Duration::from_secs), "{variables:?}");
    }
}
