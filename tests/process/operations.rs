//! Operating the keys of a server that goes on signing people in.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Connection;
use crate::long::times;
use crate::support::{
    JWKS, PATIENCE, Server, command, folder, own_address, refusal, run, sql, used_folder,
};
use crate::token::{Token, kids};

/// Runs `jwks-server keys ...` in the folder and returns what it printed.
fn keys(dir: &Path, args: &[&str]) -> String {
    let out = command(dir).arg("keys").args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert!(out.status.success(), "{args:?}: {}", text(out.stderr));
    text(out.stdout)
}

fn keys_json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&keys(dir, &[args, &["--json"]].concat())).unwrap()
}

fn kid_in(stage: &str, dir: &Path) -> String {
    let list = keys_json(dir, &["list"]);
    let mut keys = list["keys"].as_array().unwrap().iter();
    let key = keys.find(|key| key["state"] == stage);
    key.unwrap_or_else(|| panic!("none {stage}: {list:#}"))["kid"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A client that signs in and verifies, over and over, until it is stopped.
struct Client {
    /// Of the server of the moment, which keeps its address.
    port: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
    tokens: Arc<Mutex<Vec<(Token, bool)>>>,
    thread: JoinHandle<()>,
}

impl Client {
    fn start(server: &Server) -> Self {
        let mut addr = server.addr;
        let port = Arc::new(AtomicU16::new(addr.port()));
        let stop = Arc::new(AtomicBool::new(false));
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let thread = std::thread::spawn({
            let (port, stop, tokens) = (port.clone(), stop.clone(), tokens.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    addr.set_port(port.load(Ordering::Relaxed));
                    // A server that restarts answers nothing for a moment.
                    if let Some(seen) = round(addr) {
                        tokens.lock().unwrap().push(seen);
                    }
                }
            }
        });
        Self {
            port,
            stop,
            tokens,
            thread,
        }
    }

    fn seen(&self) -> usize {
        self.tokens.lock().unwrap().len()
    }

    /// Returns when the client has gone round `n` times more.
    fn wait_for(&self, n: usize) {
        let goal = self.seen() + n;
        while self.seen() < goal {
            assert!(!self.thread.is_finished(), "the client has died");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(self) -> Vec<(Token, bool)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.tokens.lock().unwrap())
    }
}

/// Signs in, fetches the key set, and says whether the token verified.
fn round(addr: SocketAddr) -> Option<(Token, bool)> {
    let mut connection = Connection::try_from_address(addr, Ipv4Addr::LOCALHOST)?;
    let body = br#"{"username":"u","password":"p"}"#;
    let signed_in = connection.try_post("/auth", body)?;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text());
    let token = Token::of(&signed_in).unwrap();
    let set = connection.try_send("GET", JWKS, &[], b"")?.json();
    let verified = token.verifies_against(&set);
    Some((token, verified))
}

/// Waits until the server publishes what `wanted` says.
fn wait_for_set(server: &Server, wanted: impl Fn(&[String]) -> bool) {
    let begun = Instant::now();
    while !wanted(&kids(&server.key_set().json())) {
        assert!(begun.elapsed() < PATIENCE, "the key set stays as it is");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Takes the key set away from under running clients in every way there is. A
/// token is to verify if and only if its key was not revoked.
#[test]
fn live_tokens_verify_through_every_operation_unless_their_key_was_revoked() {
    // Clients call while nobody listens; no other test's server may answer them.
    let host = own_address();
    let dir = folder(&format!("AUTH_RATE=1000\nDEMO_USER=u:p\nHOST={host}"));
    let here = dir.path();
    let mut server = Server::start(here, &[]);
    let clients = [Client::start(&server), Client::start(&server)];
    let rounds = times(6, 20);
    let go_round = || clients.iter().for_each(|client| client.wait_for(rounds));
    go_round();

    let announced = keys_json(here, &["rotate"])["kid"]
        .as_str()
        .unwrap()
        .to_owned();
    wait_for_set(&server, |kids| kids.contains(&announced));
    go_round();

    let signer = kid_in("signing", here);
    keys(here, &["revoke", &signer, "--reason", "drill"]);
    wait_for_set(&server, |kids| !kids.contains(&signer));
    go_round();

    let replaced = keys_json(here, &["rotate", "--now", "--reason", "drill", "--yes"]);
    wait_for_set(&server, |kids| kids == [replaced["kid"].as_str().unwrap()]);
    go_round();

    let old = fs::read_to_string(here.join(".env")).unwrap();
    let old_key = old
        .lines()
        .next()
        .unwrap()
        .strip_prefix("NOT_MY_KEY=")
        .unwrap();
    let new_key = String::from_utf8(command(here).arg("keygen").output().unwrap().stdout).unwrap();
    let new_key = new_key.trim();
    let both = old.replace(old_key, &format!("{new_key},{old_key}"));
    fs::write(here.join(".env"), &both).unwrap();
    // The running server knows the old key only.
    assert_eq!(keys_json(here, &["reencrypt"])["unreadable"], 0);
    server.wait_for_log("stays in use as it was loaded before");
    go_round();

    for env in [both, old.replace(old_key, new_key)] {
        fs::write(here.join(".env"), env).unwrap();
        assert!(server.stop().success());
        server = Server::start(here, &[]);
        for client in &clients {
            client.port.store(server.addr.port(), Ordering::Relaxed);
        }
        go_round();
    }

    let seen: Vec<_> = clients.into_iter().flat_map(Client::finish).collect();
    let history = keys_json(here, &["history"]);
    let events = history["events"].as_array().unwrap().iter();
    let revoked: HashSet<_> = events
        .filter(|event| event["event"] == "revoked")
        .map(|event| event["kid"].as_str().unwrap())
        .collect();
    let set = server.key_set().json();
    // Two that were published, and the one that was made expired.
    assert_eq!(revoked.len(), 3);
    assert!(seen.len() >= 2 * 7 * rounds);
    for (token, verified) in seen {
        let is_revoked = revoked.contains(token.kid().as_str());
        assert!(
            verified || is_revoked,
            "a good token of key {} was refused",
            token.kid()
        );
        assert_eq!(
            token.verifies_against(&set),
            !is_revoked,
            "key {}",
            token.kid()
        );
    }
}

#[test]
fn what_is_refused_says_why_and_changes_no_key() {
    let dir = used_folder("");
    let here = dir.path();
    let before = keys(here, &["history"]);
    let signing = kid_in("signing", here);
    for (args, needle) in [
        (&["rotate", "--now", "--reason", "drill"][..], "Add --yes"),
        (
            &["rotate", "--now", "--reason", " ", "--yes"],
            "--reason is one line",
        ),
        (
            &["revoke", &signing, "--reason", "a\nb"],
            "--reason is one line",
        ),
        (
            &["revoke", &signing, "--reason", "drill"],
            "is the only one",
        ),
        (&["revoke", "7", "--reason", "drill"], "there is no key 7"),
    ] {
        let said = refusal(command(here).arg("keys").args(args), &[]);
        assert!(said.contains(needle), "{args:?}: {said}");
    }
    assert_eq!(keys(here, &["history"]), before);
}

#[test]
fn a_row_that_no_key_opens_is_left_and_reported_when_the_rest_is_encrypted_again() {
    let dir = used_folder("");
    let here = dir.path();
    sql(here)
        .execute("INSERT INTO keys (kid, key, exp) VALUES (9, 'x', 1)", [])
        .unwrap();
    let ended = run(command(here).args(["keys", "reencrypt"]));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("1 keys open under no entry"),
        "{}",
        ended.stderr
    );
}
