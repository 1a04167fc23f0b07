//! Many at once: what stays quick, and what it costs.

use std::fs;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::standstill::{Stopwatch, patiently};
use crate::support::{Connection, JSON, JWKS, Server, credentials, folder};
use crate::support::{number, sql};

/// Far more than an answer takes, far less than a queue behind a flood.
const QUICK: Duration = Duration::from_secs(2);

/// A line of /proc/PID/status, KiB.
fn memory_kib(server: &Server, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// The time that all its threads together have had on a core.
fn computed(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    // Fields 14 and 15 of proc(5) in hundredths of a second; the second may have spaces.
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let times = rest.split_whitespace().skip(11).take(2);
    let hundredths: u64 = times.map(|time| time.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * hundredths)
}

fn register(addr: SocketAddr, name: &str) -> u16 {
    let body = format!(r#"{{"username":"{name}","email":"{name}@t.invalid"}}"#);
    let mut connection = Connection::open(addr);
    let reply = connection.send("POST", "/register", &[JSON], body.as_bytes());
    match reply.status {
        201 => {}
        503 => assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1),
        other => panic!("{other}: {}", reply.text()),
    }
    reply.status
}

/// Each answer is quick, also one that sends the client away.
fn quick_sign_in(server: &Server, password: &str) {
    let body = credentials("alice", password);
    let reply = patiently(|| {
        let watch = Stopwatch::start();
        let reply = server.send("POST", "/auth", &[JSON], &body);
        assert!(watch.elapsed() < QUICK, "{:?}", watch.elapsed());
        Some(reply)
    });
    assert_eq!(reply.unwrap().status, 200);
}

#[test]
fn fr_03_a_flood_of_sign_ups_leaves_the_key_set_quick_and_memory_small() {
    const FLOOD: usize = 200;
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let addr = server.addr;
    let (ready, answered) = (Barrier::new(FLOOD + 1), AtomicUsize::new(0));
    let made = std::thread::scope(|scope| {
        let flood: Vec<_> = (0..FLOOD)
            .map(|n| {
                let (ready, answered) = (&ready, &answered);
                scope.spawn(move || {
                    ready.wait();
                    let status = register(addr, &format!("user{n}"));
                    answered.fetch_add(1, Ordering::Relaxed);
                    status
                })
            })
            .collect();
        ready.wait();
        let mut fetches = 0;
        while answered.load(Ordering::Relaxed) < FLOOD || fetches < 20 {
            let watch = Stopwatch::start();
            let mut connection = Connection::open(addr);
            assert_eq!(connection.send("GET", JWKS, &[], b"").status, 200);
            assert!(watch.elapsed() < QUICK, "{:?}", watch.elapsed());
            fetches += 1;
        }
        let statuses = flood.into_iter().map(|thread| thread.join().unwrap());
        statuses.filter(|&status| status == 201).count()
    });
    let peak = memory_kib(&server, "VmHWM:");
    assert!(peak < 200 * 1024, "{peak} KiB");
    assert!(server.stop().success());
    let rows = number(dir.path(), "SELECT count(*) FROM users");
    // As many accounts as answers of 201, and none of those that were refused.
    assert_eq!(usize::try_from(rows).unwrap(), made);
    assert!(made > 0);
}

#[test]
fn fr_03_a_flood_of_sign_ups_does_not_starve_sign_ins() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    let addr = server.addr;
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..60)
            .map(|n| scope.spawn(move || register(addr, &format!("user{n}"))))
            .collect();
        for _ in 0..5 {
            quick_sign_in(&server, &password);
        }
        for thread in flood {
            thread.join().unwrap();
        }
    });
}

/// What a password costs is computing, which a busy machine makes no more of.
#[test]
fn fr_33_passwords_cost_no_less_than_the_floor_and_a_sign_in_no_more_than_a_moment() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    assert!(computed(&server) < 5 * QUICK, "{:?}", computed(&server));
    for _ in 0..8 {
        let before = computed(&server);
        assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
        let cost = computed(&server) - before;
        assert!(cost < QUICK, "{cost:?}");
    }
    let hash: String = sql(dir.path())
        .query_row("SELECT password_hash FROM users", [], |row| row.get(0))
        .unwrap();
    let costs = "$argon2id$v=19$m=19456,t=2,p=1$";
    assert!(hash.starts_with(costs), "{hash}");
}

/// A row that asks for the most that is computed costs its own sign-in at most.
#[test]
fn a_hash_for_which_there_is_no_memory_is_busy_and_stops_nothing() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    sql(dir.path())
        .execute_batch(
            "INSERT INTO users (username, password_hash) VALUES ('greedy',
             '$argon2id$v=19$m=262144,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA')",
        )
        .unwrap();
    let most = (memory_kib(&server, "VmSize:") + 128 * 1024) * 1024;
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    prlimit(Some(Pid::from_child(&server.child)), Resource::As, limit).unwrap();
    let refused = [(); 3].map(|()| server.sign_in("/auth", "greedy", "x").status);
    assert_eq!(refused, [503; 3]);
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
}
