//! A change of the keys by another process, as clients of running servers see it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::alone;
use crate::standstill::Stopwatch;
use crate::support::{Connection, JWKS, PATIENCE, Server, command, credentials, folder};
use crate::token::{Token, kids};

/// As the help of `keys` promises.
const FOLLOWS: Duration = Duration::from_secs(1);
const LEAD: Duration = Duration::from_secs(3);
/// Most that whole seconds add to the lead: two that are added to it, and one of the clock.
const ROUNDED: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(5);
const SERVERS: usize = 2;

/// Moments at which clients saw each kid.
#[derive(Default)]
struct Seen {
    /// By server: when the last key set without it was asked for.
    missing: HashMap<(usize, String), Instant>,
    /// By server: when it was first in a key set.
    published: HashMap<(usize, String), Instant>,
    /// Arrival of the first of its tokens, from any server.
    signed: HashMap<String, Instant>,
}

/// Fetches the key set and signs in, over and over.
fn watch(who: usize, addr: SocketAddr, body: &[u8], seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut connection = Connection::open(addr);
    let mut last_asked = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let set = kids(&connection.send("GET", JWKS, &[], b"").json());
        let came = Instant::now();
        let reply = connection.try_post("/auth", body).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let signer = Token::of(&reply).unwrap().kid();
        let mut seen = seen.lock().unwrap();
        seen.signed.entry(signer).or_insert_with(Instant::now);
        for kid in set {
            let key = (who, kid);
            seen.missing.entry(key.clone()).or_insert(last_asked);
            seen.published.entry(key).or_insert(came);
        }
        drop(seen);
        last_asked = asked;
        thread::sleep(PAUSE);
    }
}

/// Ends the watching also when a test fails, which would wait for it forever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has a process of its own add a key, and returns its kid.
fn rotate(dir: &Path) -> String {
    let mut command = command(dir);
    let out = command.args(["keys", "rotate", "--json"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let added: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    added["kid"].as_str().unwrap().to_owned()
}

fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(PAUSE);
    }
}

/// Two servers on one database, and keys that a third process adds. Both publish
/// them within a second, and on a busy machine each within two, less the time for
/// which the machine stood still. Neither signs with one before it has been in the key
/// set of both for the lead: counted from before a set without it was asked for
/// until after a token of it had come, so the wait can only seem longer than it was.
#[test]
fn running_servers_follow_within_a_second_and_sign_no_sooner_than_the_lead_after_that() {
    const KEYS: usize = 8;
    let _alone = alone();
    let lead = LEAD.as_secs();
    let dir = folder(&format!(
        "KEY_LIFETIME=90s\nKEY_LEAD={lead}s\nJWKS_MAX_AGE={lead}s\nTOKEN_LIFETIME=5s\nCLOCK_SKEW=1s\nAUTH_RATE=1000\nDEMO_USER=u:p"
    ));
    let servers: [Server; SERVERS] = [(); SERVERS].map(|()| Server::start(dir.path(), &[]));
    // Before there is a first key, one that is added signs at once.
    for server in &servers {
        assert_eq!(server.key_set().status, 200);
    }
    let (body, seen, stop) = (
        credentials("u", "p"),
        Mutex::default(),
        AtomicBool::new(false),
    );
    let (added, mut late) = thread::scope(|scope| {
        let _stop = Stop(&stop);
        for (who, server) in servers.iter().enumerate() {
            let (addr, body, seen, stop) = (server.addr, &body, &seen, &stop);
            scope.spawn(move || watch(who, addr, body, seen, stop));
        }
        let find = |kid: &String, who| {
            let seen: &Seen = &seen.lock().unwrap();
            seen.published.get(&(who, kid.clone())).copied()
        };
        let (mut added, mut late) = (Vec::new(), Vec::new());
        for _ in 0..KEYS {
            let kid = rotate(dir.path());
            let watch = Stopwatch::start();
            let (since, mut latest) = (Instant::now(), Duration::ZERO);
            for who in 0..SERVERS {
                let came = wait_for("a server does not follow", || find(&kid, who));
                let after = came.saturating_duration_since(since);
                latest = latest.max(after);
                late.push(after.saturating_sub(watch.standstill()));
            }
            added.push((kid, latest));
        }
        // Of keys that begin to sign in the same second any one may sign, so no
        // certain key is waited for, but the moment at which the last ones have begun.
        let all_sign = Instant::now() + LEAD + ROUNDED;
        wait_for("none of the keys signs", || {
            let seen: &Seen = &seen.lock().unwrap();
            let signs = added.iter().any(|(kid, _)| seen.signed.contains_key(kid));
            (signs && Instant::now() > all_sign).then_some(())
        });
        (added, late)
    });
    late.sort_unstable();
    assert!(
        late[late.len() / 2] <= FOLLOWS && late[late.len() - 1] <= 2 * FOLLOWS,
        "they followed after {late:?}"
    );
    let seen = seen.into_inner().unwrap();
    let mut leads = Vec::new();
    // A key that a server followed later than promised cannot be published for its whole lead.
    for (kid, _) in added.iter().filter(|(_, latest)| *latest <= FOLLOWS) {
        let missing = (0..SERVERS).map(|who| seen.missing[&(who, kid.clone())]);
        let unpublished = missing.max().unwrap();
        // A key that is followed within a second of its turn may sign nothing.
        if let Some(signed) = seen.signed.get(kid) {
            leads.push(signed.saturating_duration_since(unpublished));
        }
    }
    assert!(leads.len() >= KEYS / 4, "{} of {KEYS} signed", leads.len());
    let shortest = leads.iter().min().unwrap();
    assert!(
        *shortest >= LEAD,
        "a key signed after {shortest:?}: {leads:?}"
    );
}
