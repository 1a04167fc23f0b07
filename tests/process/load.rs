//! Memory under a flood of sign-ups, and when a hash asks for too much of it.

use std::fs;
use std::net::SocketAddr;
use std::sync::Barrier;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{Connection, JSON, Server, number, sql, used_folder};

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

/// `elapsed` measures how quick the key set and sign-ins are meanwhile.
#[test]
fn fr_03_a_flood_of_sign_ups_takes_little_memory_and_makes_the_accounts_it_answers() {
    const FLOOD: usize = 200;
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let (addr, ready) = (server.addr, Barrier::new(FLOOD));
    let made = std::thread::scope(|scope| {
        let flood: Vec<_> = (0..FLOOD)
            .map(|n| {
                let ready = &ready;
                scope.spawn(move || {
                    ready.wait();
                    register(addr, &format!("user{n}"))
                })
            })
            .collect();
        let statuses = flood.into_iter().map(|thread| thread.join().unwrap());
        statuses.filter(|&status| status == 201).count()
    });
    let peak = memory_kib(&server, "VmHWM:");
    assert!(peak < 200 * 1024, "{peak} KiB");
    assert!(server.stop().success());
    let rows = number(dir.path(), "SELECT count(*) FROM users");
    // None of those that were refused has an account.
    assert_eq!(usize::try_from(rows).unwrap(), made);
    assert!(made > 0);
}

/// A row that asks for the most that is computed costs its own sign-in at most.
#[test]
fn a_hash_for_which_there_is_no_memory_is_busy_and_stops_nothing() {
    let dir = used_folder("");
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
