//! Messages to a service manager, over a socket as systemd opens it.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use crate::support::{PATIENCE, Server, command, used_folder};

fn start(dir: &Path, socket: &str, watchdog: Option<&str>) -> Server {
    let mut command = command(dir);
    command.env("NOTIFY_SOCKET", socket);
    command.envs(watchdog.map(|micros| ("WATCHDOG_USEC", micros)));
    Server::start_command(&mut command)
}

/// The lines of the next message.
fn next(manager: &UnixDatagram) -> Vec<String> {
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut message = [0; 1024];
    let length = loop {
        match manager.recv(&mut message) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            received => break received.unwrap(),
        }
    };
    let text = std::str::from_utf8(&message[..length]).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn is_ready_and_stops(manager: &UnixDatagram, server: Server) {
    assert_eq!(next(manager)[0], "READY=1");
    // From then on no request waits for the first key.
    assert_eq!(server.send("GET", "/readyz", &[], b"").status, 200);
    assert_eq!(server.key_set().status, 200);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(next(manager)[0], "STOPPING=1");
    assert!(server.wait().0.success());
}

#[test]
fn a_socket_with_a_path_is_told_when_it_is_ready_and_when_it_stops() {
    let dir = used_folder("");
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let server = start(dir.path(), path.to_str().unwrap(), None);
    is_ready_and_stops(&manager, server);
}

#[test]
fn an_abstract_socket_is_told_the_same() {
    let dir = used_folder("");
    let name = format!("jwks-server-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    let server = start(dir.path(), &format!("@{name}"), None);
    is_ready_and_stops(&manager, server);
}

#[test]
fn with_a_watchdog_there_are_signs_of_life_until_it_stops() {
    let dir = used_folder("");
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let server = start(dir.path(), path.to_str().unwrap(), Some("100000"));
    assert_eq!(next(&manager)[0], "READY=1");
    for _ in 0..5 {
        assert_eq!(next(&manager), ["WATCHDOG=1"]);
    }
    server.signal(rustix::process::Signal::TERM);
    while next(&manager)[0] != "STOPPING=1" {}
    assert!(server.wait().0.success());
}

#[test]
fn a_manager_that_is_gone_is_warned_of_and_delays_nothing() {
    let dir = used_folder("");
    let server = start(dir.path(), "/nonexistent/notify", Some("100000"));
    server.wait_for_log("the service manager was not told");
    assert_eq!(server.key_set().status, 200);
    assert!(server.stop().success());
}

#[test]
fn a_socket_of_another_kind_is_warned_of() {
    let dir = used_folder("");
    let log = start(dir.path(), "vsock:2:1", None).stop_for_log();
    assert!(log.contains("NOTIFY_SOCKET is neither"), "{log}");
}
