//! SIGKILL at any moment: what was answered is kept. The moments are drawn anew in
//! each run; where in its work they meet the server is not repeatable.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::long::times;
use crate::seed::seed;
use crate::support::{Connection, Server, command, credentials, folder, number, sql};

/// An answer that a client got before the server was gone.
enum Told {
    Registered { name: String, password: String },
    SignedIn { name: String },
}

/// Registers names and signs in with each, until the connection ends.
fn client(addr: SocketAddr, round: usize, number: u8, told: &Sender<Told>) {
    // A quota of its own in each round.
    let [high, low] = u16::try_from(round).unwrap().to_be_bytes();
    let source = Ipv4Addr::new(127, 10 + number, high, low.max(1));
    let Some(mut connection) = Connection::try_from_address(addr, source) else {
        return;
    };
    for n in 0.. {
        let name = format!("r{round}c{number}n{n}");
        let body = format!(r#"{{"username":"{name}","email":"{name}@t.invalid"}}"#);
        let Some(reply) = connection.try_post("/register", body.as_bytes()) else {
            return;
        };
        // A busy machine hashes slowly.
        if reply.status == 503 {
            continue;
        }
        assert_eq!(reply.status, 201, "{}", reply.text());
        let password = reply.json()["password"].as_str().unwrap().to_owned();
        let body = credentials(&name, &password);
        let registered = Told::Registered {
            name: name.clone(),
            password,
        };
        told.send(registered).unwrap();
        let Some(reply) = connection.try_post("/auth", &body) else {
            return;
        };
        match reply.status {
            200 => told.send(Told::SignedIn { name }).unwrap(),
            // Ten within a second are possible.
            429 | 503 => {}
            other => panic!("{other}: {}", reply.text()),
        }
    }
}

fn integrity(dir: &Path) -> String {
    let broken = "SELECT count(*) FROM pragma_foreign_key_check";
    assert_eq!(number(dir, broken), 0);
    sql(dir)
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn nothing_that_was_answered_is_lost_by_any_of_many_kills() {
    const CLIENTS: u8 = 4;
    let rounds = times(16, 200);
    let dir = folder("");
    let mut random = StdRng::seed_from_u64(seed("KILL_SEED"));
    let mut passwords = HashMap::new();
    let mut sign_ins: HashMap<String, i64> = HashMap::new();
    for round in 0..rounds {
        let mut server = Server::start(dir.path(), &[]);
        let addr = server.addr;
        let (tell, told) = mpsc::channel();
        let mut heard = Vec::new();
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let tell = tell.clone();
                scope.spawn(move || client(addr, round, number, &tell));
            }
            drop(tell);
            // After none to seven answers, and then at any moment of the next.
            for _ in 0..round % 8 {
                heard.extend(told.recv());
            }
            std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
            server.child.kill().unwrap();
        });
        server.child.wait().unwrap();
        heard.extend(told);
        for event in heard {
            match event {
                Told::Registered { name, password } => drop(passwords.insert(name, password)),
                Told::SignedIn { name } => *sign_ins.entry(name).or_default() += 1,
            }
        }
    }
    // Of eight rounds seven wait for an answer, and three for five or more, of which
    // four clients cannot all have had a sign-up only.
    assert!(passwords.len() >= rounds / 2 && sign_ins.len() >= rounds / 4);
    assert_eq!(integrity(dir.path()), "ok");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().json()["keys"].as_array().unwrap().len(), 1);
    assert_all_sign_in(server.addr, &passwords);
    // It is answered when the expired key is there.
    let name = passwords.keys().next().unwrap();
    let expired = server.sign_in("/auth?expired", name, &passwords[name]);
    assert_eq!(expired.status, 200, "{}", expired.text());
    assert!(server.stop().success());
    assert_eq!(integrity(dir.path()), "ok");
    let conn = sql(dir.path());
    let mut rows = conn
        .prepare(
            "SELECT count(*) FROM auth_logs JOIN users ON users.id = user_id WHERE username = ?",
        )
        .unwrap();
    for name in passwords.keys() {
        let logged: i64 = rows.query_row([name], |row| row.get(0)).unwrap();
        let answered = sign_ins.get(name).unwrap_or(&0) + 1;
        assert!(logged >= answered, "{name}: {logged} of {answered}");
    }
    assert_eq!(number(dir.path(), "SELECT count(*) FROM keys"), 2);
}

fn assert_all_sign_in(addr: SocketAddr, passwords: &HashMap<String, String>) {
    let all: Vec<_> = passwords.iter().collect();
    std::thread::scope(|scope| {
        for (part, some) in all.chunks(all.len().div_ceil(4)).enumerate() {
            scope.spawn(move || {
                // Ten from each address, so that none meets its quota.
                for (n, ten) in some.chunks(10).enumerate() {
                    let last = u8::try_from(n % 250 + 1).unwrap();
                    let third = u8::try_from(n / 250).unwrap();
                    let source = [127, 20 + u8::try_from(part).unwrap(), third, last];
                    let mut connection = Connection::from_address(addr, source.into());
                    for (name, password) in ten {
                        let body = credentials(name, password);
                        let reply = connection.try_post("/auth", &body).unwrap();
                        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
                    }
                }
            });
        }
    });
}

#[test]
fn a_start_that_is_killed_at_any_moment_leaves_what_the_next_can_use() {
    let mut random = StdRng::seed_from_u64(seed("KILL_SEED"));
    for round in 0..times(3, 20) {
        let dir = folder("");
        for _ in 0..5 {
            let mut command = command(dir.path());
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(random.random_range(0..120_000)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let server = Server::start(dir.path(), &["--demo-user", "demo:secret"]);
        let expired = server.sign_in("/auth?expired", "demo", "secret");
        assert_eq!(expired.status, 200, "{}", expired.text());
        assert_eq!(server.key_set().json()["keys"].as_array().unwrap().len(), 1);
        assert!(server.stop().success());
        assert_eq!(integrity(dir.path()), "ok");
        let keys = number(dir.path(), "SELECT count(*) FROM keys");
        assert_eq!(keys, 2, "round {round}");
    }
}

#[test]
fn a_start_that_is_killed_while_it_makes_the_schema_leaves_what_the_next_can_use() {
    let mut random = StdRng::seed_from_u64(seed("KILL_SEED"));
    for _ in 0..times(8, 60) {
        let dir = folder("");
        let mut command = command(dir.path());
        command.env("RUST_LOG", "jwks_server=info,refinery_core=debug");
        let server = Server::start_command(&mut command);
        server.wait_for_log("schema history table is empty");
        std::thread::sleep(Duration::from_micros(random.random_range(0..4_000)));
        drop(server);
        let server = Server::start(dir.path(), &[]);
        server.register("alice");
    }
}
