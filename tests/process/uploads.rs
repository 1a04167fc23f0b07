//! Bodies that are too large, over real sockets: the client learns why.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::{Connection, JSON, PATIENCE, Server, used_folder};

/// Answered from the start, also before there is a key.
const HEALTH: &str = "/healthz";
const LARGE: usize = 1_000_000;
const MIB: usize = 1024 * 1024;

fn head(more: &str) -> Vec<u8> {
    format!("POST /register HTTP/1.1\r\nHost: x\r\n{more}\r\n\r\n").into_bytes()
}

#[test]
fn whoever_sends_a_megabyte_reads_why_it_is_refused_and_may_go_on() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let mut connection = Connection::open(server.addr);
    let large = vec![b'x'; LARGE];
    let chunked = [
        head("Transfer-Encoding: chunked"),
        format!("{LARGE:x}\r\n").into_bytes(),
        large.clone(),
        b"\r\n0\r\n\r\n".to_vec(),
    ]
    .concat();
    for path in ["/register", "/auth"] {
        let reply = connection.send("POST", path, &[JSON], &large);
        assert_eq!(reply.status, 413, "{path}: {}", reply.text());
        assert!(reply.json()["error"].is_string());
        assert_eq!(connection.send("GET", HEALTH, &[], b"").status, 200);
    }
    connection.write(&chunked);
    assert_eq!(connection.read_reply("POST").status, 413);
    assert_eq!(connection.send("GET", HEALTH, &[], b"").status, 200);
}

#[test]
fn whoever_asks_first_is_not_told_to_go_ahead() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let mut connection = Connection::open(server.addr);
    let asks = format!("Expect: 100-continue\r\nContent-Length: {LARGE}");
    connection.write(&head(&asks));
    let reply = connection.read_reply("POST");
    assert_eq!(reply.status, 413);
    assert!(reply.json()["error"].is_string());
    assert_eq!(reply.header("connection"), "close");
    assert!(connection.read_to_end().is_empty());
}

#[test]
fn whoever_sends_far_too_much_before_reading_reads_why_it_is_refused() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let body = vec![b'x'; 16 * MIB];
    for path in ["/register", "/nope"] {
        let mut connection = Connection::open(server.addr);
        let reply = connection.send("POST", path, &[JSON], &body);
        assert!([413, 404].contains(&reply.status));
        assert_eq!(reply.header("connection"), "close");
        assert!(connection.read_to_end().is_empty());
    }
}

#[test]
fn what_never_comes_is_not_waited_for_and_holds_up_nobody() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let begun = [head(&format!("Content-Length: {LARGE}")), b"x".to_vec()].concat();
    let mut slow: Vec<_> = (0..50).map(|_| Connection::open(server.addr)).collect();
    for connection in &mut slow {
        connection.write(&begun);
    }
    assert_eq!(server.send("GET", HEALTH, &[], b"").status, 200);
    server.register("alice");
    // As slow as may be, a body that fits would be 408.
    for mut connection in slow {
        assert_eq!(connection.read_reply("POST").status, 413);
        assert!(connection.read_to_end().is_empty());
    }
}

#[test]
fn what_never_ends_is_cut_off() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let chunk = [
        format!("{MIB:x}\r\n").into_bytes(),
        vec![b'x'; MIB],
        b"\r\n".to_vec(),
    ]
    .concat();
    for length in [
        "Transfer-Encoding: chunked",
        "Content-Length: 1000000000000",
    ] {
        let mut stream = TcpStream::connect(server.addr).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&head(length)).unwrap();
        // Sent bytes may wait in the sockets of both sides.
        let sent = (0..64).take_while(|_| stream.write_all(&chunk).is_ok());
        assert!(sent.count() < 64, "{length}: it is still read");
        let _ = stream.read_to_end(&mut Vec::new());
        assert_eq!(server.send("GET", HEALTH, &[], b"").status, 200);
    }
}
