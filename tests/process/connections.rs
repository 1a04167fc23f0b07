//! Connections that waste time, are kept, or speak no HTTP.

use std::time::{Duration, Instant};

use crate::support::{Connection, JSON, JWKS, Reply, Server, credentials, used_folder};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame (RFC 9113 section 6.5).
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

#[test]
fn whoever_sends_no_whole_header_section_or_body_is_closed_after_about_ten_seconds() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let addr = server.addr;
    let key_set = format!("GET {JWKS} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let settled = [PREFACE, SETTINGS].concat();
    let again = [key_set.as_bytes(), b"GET /"].concat();
    let slow: [(&str, &[u8]); 7] = [
        ("nothing", b""),
        ("half a request line", b"POST /auth HT"),
        ("a head without its end", b"GET / HTTP/1.1\r\nHost: x\r\n"),
        ("half an HTTP/2 preface", b"PRI * HT"),
        ("an HTTP/2 preface alone", PREFACE),
        ("HTTP/2 without a request", &settled),
        ("a whole request and half of one", &again),
    ];
    std::thread::scope(|scope| {
        let cut_off = slow.map(|(what, bytes)| {
            scope.spawn(move || {
                let mut connection = Connection::open(addr);
                connection.write(bytes);
                let began = Instant::now();
                connection.read_to_end();
                let took = began.elapsed();
                assert!(took > Duration::from_secs(5), "{what}: {took:?}");
                assert!(took < Duration::from_secs(30), "{what}: {took:?}");
                took
            })
        });
        let answered = scope.spawn(move || {
            let mut connection = Connection::open(addr);
            let head = "POST /register HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{";
            connection.write(head.as_bytes());
            let began = Instant::now();
            let reply = connection.read_reply("POST");
            assert_eq!(reply.status, 408, "{}", reply.text());
            assert!(reply.json()["error"].is_string());
            let took = began.elapsed();
            assert!(took > Duration::from_secs(5));
            assert!(connection.read_to_end().is_empty());
            took
        });
        // Meanwhile nobody else waits.
        for _ in 0..10 {
            assert_eq!(server.key_set().status, 200);
        }
        // The rest of a body that is too slow is not waited for.
        let cut_off = cut_off.map(|thread| thread.join().unwrap());
        let latest = cut_off.into_iter().max().unwrap_or_default();
        let answered = answered.join().unwrap();
        assert!(answered < latest + Duration::from_secs(1), "{answered:?}");
    });
    assert!(server.stop().success());
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    let mut connection = Connection::open(server.addr);
    let body = credentials("alice", &password);
    for _ in 0..2 {
        let reply = connection.send("GET", JWKS, &[], b"");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
        let head = connection.send("HEAD", JWKS, &[], b"");
        assert_eq!(head.status, 200);
        let but_its_own = |reply: &Reply| {
            let mut headers = reply.headers.clone();
            headers.retain(|(name, _)| name != "x-request-id" && name != "date");
            headers.sort();
            headers
        };
        assert_eq!(but_its_own(&head), but_its_own(&reply));
        let reply = connection.send("POST", "/auth", &[JSON], &body);
        assert_eq!(reply.status, 200);
        // Neither do refusals end it.
        assert_eq!(connection.send("GET", "/nope", &[], b"").status, 404);
        assert_eq!(connection.send("POST", "/auth", &[JSON], b"{").status, 400);
    }
}

#[test]
fn requests_that_are_sent_ahead_are_answered_in_their_order() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let mut connection = Connection::open(server.addr);
    for path in [JWKS, "/nope", JWKS] {
        connection.write_request("GET", path, &[], b"");
    }
    let statuses = [200, 404, 200].map(|_| connection.read_reply("GET").status);
    assert_eq!(statuses, [200, 404, 200]);
}

#[test]
fn a_header_section_may_have_16_kib_and_100_fields() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let long = |size: usize| format!("Host: x\r\nX: {}\r\n", "x".repeat(size));
    let many = |fields: usize| format!("Host: x\r\n{}", "X: x\r\n".repeat(fields - 1));
    for (what, fields, status) in [
        ("16 kB", long(16_000), 200),
        ("17 kB", long(17_000), 431),
        ("a hundred fields", many(100), 200),
        ("one more", many(101), 431),
        ("no field at all", "nonsense\r\n".to_owned(), 400),
    ] {
        let mut connection = Connection::open(server.addr);
        // The refusal of the last comes after the answer to the first.
        let head = format!("GET /healthz HTTP/1.1\r\n{fields}\r\n");
        connection.write(format!("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{head}").as_bytes());
        assert_eq!(connection.read_reply("GET").status, 200, "{what}");
        let reply = connection.read_reply("GET");
        assert_eq!(reply.status, status, "{what}");
        assert_ne!(reply.header("date"), "", "{what}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{what}");
        if status != 200 {
            assert!(reply.json()["error"].is_string(), "{what}");
            assert_eq!(reply.header("connection"), "close", "{what}");
            assert!(connection.read_to_end().is_empty());
        }
    }
}

#[test]
fn a_request_that_rfc_9112_forbids_is_refused_with_a_reason() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    for (head, status) in [
        ("HTTP/1.1\r\n", 400),
        ("HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        (
            "HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n",
            400,
        ),
        (
            "HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n",
            431,
        ),
        ("HTTP/1.1\r\nHost: a b\r\n", 400),
        ("HTTP/1.1\r\nHost: u@x\r\n", 400),
        ("HTTP/1.1\r\nHost: x/y\r\n", 400),
        ("HTTP/1.1\r\nHost: x:port\r\n", 400),
        ("HTTP/1.1\r\nConnection: close\r\nHost:\r\n", 200),
        ("HTTP/1.1\r\nConnection: close\r\nHost: [::1]:8080\r\n", 200),
        (
            "HTTP/1.1\r\nConnection: close\r\nHost: 127.0.0.1:80\r\n",
            200,
        ),
        (
            "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            501,
        ),
        (
            "HTTP/1.1\r\nConnection: close\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n",
            200,
        ),
        (
            "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n",
            501,
        ),
        ("HTTP/1.0\r\n", 200),
    ] {
        let mut connection = Connection::open(server.addr);
        connection.write(format!("GET /healthz {head}\r\n").as_bytes());
        let reply = connection.read_reply("GET");
        assert_eq!(reply.status, status, "{head}");
        assert!(status == 200 || reply.json()["error"].is_string());
        assert!(status != 431 || reply.text().contains("Content-Length"));
        assert!(connection.read_to_end().is_empty());
    }
}

#[test]
fn a_connection_goes_on_after_a_refusal_with_a_body() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let mut connection = Connection::open(server.addr);
    let body = vec![b' '; 1024 * 1024];
    for n in 0..14 {
        let (path, status) = [("/nope", 404), ("/healthz", 405), ("/auth", 413)][n % 3];
        let reply = connection.send("POST", path, &[JSON], &body[..body.len() >> n]);
        assert!(
            [status, 400].contains(&reply.status),
            "{n}: {}",
            reply.status
        );
        assert_eq!(reply.header("connection"), "", "{n}");
    }
}

#[test]
fn what_follows_on_a_kept_connection_of_http_1_0_is_refused_with_a_reason_too() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let mut connection = Connection::open(server.addr);
    let first = b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    connection.write(&[&first[..], b"nonsense\r\n\r\n"].concat());
    assert_eq!(connection.read_reply("GET").status, 200);
    let reply = connection.read_reply("GET");
    assert_eq!(reply.status, 400);
    assert!(reply.json()["error"].is_string());
    assert_eq!(reply.header("connection"), "close");
    assert!(connection.read_to_end().is_empty());
}

#[test]
fn bytes_that_are_no_http_end_only_their_own_connection() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let mut kept = Connection::open(server.addr);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET \x1b[31m HTTP/1.1\r\n\r\n",
        &[
            b"GET / HTTP/1.1\r\nX: ",
            "x".repeat(100_000).as_bytes(),
            b"\r\n\r\n",
        ]
        .concat(),
        &[PREFACE, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"].concat(),
    ] {
        let mut connection = Connection::open(server.addr);
        connection.write(bytes);
        connection.read_to_end();
        assert_eq!(kept.send("GET", JWKS, &[], b"").status, 200);
    }
    assert!(!server.stop_for_log().contains("panic"));
}
