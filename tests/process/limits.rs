//! The quota on sign-ins over real sockets.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::support::{Connection, JSON, JWKS, Reply, Server, used_folder};

const RATE: usize = 10;
/// A body without credentials counts like any other, and no password has to be
/// hashed, so that a burst takes far less than a second.
const NOTHING: &[u8] = b"{}";

/// Sends `calls` sign-ins from `source` at once, each on its own connection,
/// and returns the answers and how long all of it took.
fn burst(server: &Server, source: Ipv4Addr, calls: usize) -> (Vec<Reply>, Duration) {
    let mut connections: Vec<_> = (0..calls)
        .map(|_| Connection::from_address(server.addr, source))
        .collect();
    let began = Instant::now();
    for connection in &mut connections {
        connection.write_request("POST", "/auth", &[JSON], NOTHING);
    }
    let replies = connections.iter_mut().map(|c| c.read_reply("POST"));
    (replies.collect(), began.elapsed())
}

fn is_let_in(status: u16) -> bool {
    assert!([400, 429].contains(&status), "{status}");
    status != 429
}

/// Asserts what a quota of ten allows for calls that came after a second of
/// quiet and within `took`: just ten, unless the machine was so slow that a
/// second began anew.
fn assert_let_in(replies: &[Reply], took: Duration) {
    let let_in = replies.iter().filter(|r| is_let_in(r.status)).count();
    let most = RATE * (1 + usize::try_from(took.as_secs()).unwrap());
    assert!((RATE..=most).contains(&let_in), "{let_in} in {took:?}");
}

#[test]
fn fr_36_all_connections_of_an_address_share_one_quota_and_other_addresses_have_their_own() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    for last in 1..=3 {
        let (replies, took) = burst(&server, Ipv4Addr::new(127, 0, 0, last), 15);
        assert_let_in(&replies, took);
    }
}

#[test]
fn fr_36_many_requests_on_one_connection_count_like_many_connections() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let mut connection = Connection::open(server.addr);
    let began = Instant::now();
    let replies: Vec<_> = (0..15)
        .map(|_| connection.send("POST", "/auth", &[JSON], NOTHING))
        .collect();
    assert_let_in(&replies, began.elapsed());
}

#[test]
fn fr_36_nothing_else_is_limited_and_nothing_else_counts() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    for _ in 0..15 {
        let wrong_method = server.send("GET", "/auth", &[], b"");
        assert_eq!(wrong_method.status, 405);
        assert_eq!(wrong_method.header("allow"), "POST");
    }
    for n in 0..12 {
        server.register(&format!("user{n}"));
    }
    let (replies, took) = burst(&server, Ipv4Addr::LOCALHOST, 15);
    assert_let_in(&replies, took);
    for _ in 0..200 {
        assert_eq!(server.key_set().status, 200);
    }
    for _ in 0..15 {
        assert_eq!(server.send("GET", "/nope", &[], b"").status, 404);
        assert_eq!(server.send("DELETE", "/auth", &[], b"").status, 405);
    }
    server.register("late");
}

#[test]
fn fr_36_two_hundred_key_sets_over_fifty_connections_are_all_200() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let mut connections: Vec<_> = (0..50).map(|_| Connection::open(server.addr)).collect();
    for _ in 0..4 {
        for connection in &mut connections {
            connection.write_request("GET", JWKS, &[], b"");
        }
        for connection in &mut connections {
            assert_eq!(connection.read_reply("GET").status, 200);
        }
    }
}

#[test]
fn fr_05_a_refusal_says_how_long_to_wait_and_waiting_so_long_is_enough() {
    let dir = used_folder("AUTH_RATE=2");
    let server = Server::start(dir.path(), &[]);
    let (replies, _) = burst(&server, Ipv4Addr::LOCALHOST, 12);
    let refused: Vec<_> = replies.iter().filter(|r| r.status == 429).collect();
    assert!(!refused.is_empty());
    for reply in &refused {
        assert_eq!(reply.header("content-type"), "application/json");
        assert!(reply.json()["error"].is_string());
        // A whole second is all that a window of one second can ask for.
        assert_eq!(reply.header("retry-after"), "1");
    }
    std::thread::sleep(Duration::from_secs(1));
    assert!(is_let_in(
        server.send("POST", "/auth", &[JSON], NOTHING).status
    ));
}

#[test]
fn fr_05_after_a_second_of_quiet_all_ten_are_back_again_and_again() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    for round in 0..4 {
        if round > 0 {
            std::thread::sleep(Duration::from_millis(1100));
        }
        let (replies, took) = burst(&server, Ipv4Addr::LOCALHOST, 14);
        assert_let_in(&replies, took);
    }
}

#[test]
fn the_last_hop_of_a_trusted_proxy_is_who_is_counted() {
    let dir = used_folder("TRUSTED_PROXIES=127.0.0.9");
    let server = Server::start(dir.path(), &[]);
    let call = |source: [u8; 4], client: &str| {
        let headers = [JSON, ("X-Forwarded-For", client)];
        let mut connection = Connection::from_address(server.addr, source.into());
        connection.send("POST", "/auth", &headers, NOTHING).status
    };
    // Behind the proxy each client has its own ten; nobody else can claim to be one.
    let proxied: Vec<_> = (0..15)
        .map(|n| is_let_in(call([127, 0, 0, 9], &format!("192.0.2.{n}"))))
        .collect();
    assert_eq!(proxied, [true; 15]);
    let began = Instant::now();
    let claimed = (0..15).filter(|n| is_let_in(call([127, 0, 0, 8], &format!("192.0.2.{n}"))));
    let let_in = claimed.count();
    let most = RATE * (1 + usize::try_from(began.elapsed().as_secs()).unwrap());
    assert!((RATE..=most).contains(&let_in), "{let_in}");
}
