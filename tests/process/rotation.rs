//! A rotation as clients see it, soon after a start: the stored end of the
//! signing key is moved so near that its successor is due in a moment.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::support::{Connection, JWKS, PATIENCE, Server, folder, sql};
use crate::token::{Token, kids};

/// Seconds from the start until the next key is due, about.
const UNTIL_DUE: u64 = 2;

/// The short times of such a server, in seconds.
pub struct Times {
    pub lead: u64,
    pub max_age: u64,
    pub token: u64,
    pub skew: u64,
}

impl Times {
    /// A folder whose settings have these times and no limit that a test meets.
    pub fn folder(&self, more: &str) -> TempDir {
        let Self {
            lead,
            max_age,
            token,
            skew,
        } = self;
        // The least that the others and a signing window of a minute allow.
        let life = lead + token + skew + 60;
        folder(&format!(
            "KEY_LIFETIME={life}s\nKEY_LEAD={lead}s\nTOKEN_LIFETIME={token}s\nCLOCK_SKEW={skew}s\nJWKS_MAX_AGE={max_age}s\nAUTH_RATE=1000\n{more}"
        ))
    }

    /// Starts a server in `dir` and registers alice; returns her password too.
    pub fn start(&self, dir: &Path) -> (Server, String) {
        let password = self.prepare(dir).0;
        (Server::start(dir, &[]), password)
    }

    /// Prepares a database a moment before the next key is due, with alice, whose
    /// password is returned, and one published key, which is returned too.
    fn prepare(&self, dir: &Path) -> (String, Vec<String>) {
        let server = Server::start(dir, &[]);
        let password = server.register("alice");
        let published = kids(&server.key_set().json());
        assert!(server.stop().success());
        let left = self.lead + self.token + self.skew + UNTIL_DUE;
        let moved = sql(dir).execute(
            "UPDATE keys SET exp = unixepoch() + ? WHERE exp > unixepoch()",
            [i64::try_from(left).unwrap()],
        );
        assert_eq!(moved.unwrap(), 1);
        (password, published)
    }
}

pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Counted so that the wait can only seem longer than it was: from before a key
/// set without the key was asked for, until after a token of the key had come.
#[test]
fn a_key_is_published_for_its_whole_lead_before_it_signs() {
    let times = Times {
        lead: 2,
        max_age: 2,
        token: 2,
        skew: 1,
    };
    let dir = times.folder("");
    let (password, first) = times.prepare(dir.path());
    let mut unpublished = Instant::now();
    let server = Server::start(dir.path(), &[]);
    let body = serde_json::json!({"username": "alice", "password": password}).to_string();
    let (mut sets, mut tokens) = (Connection::open(server.addr), Connection::open(server.addr));
    let started = Instant::now();

    loop {
        assert!(started.elapsed() < PATIENCE, "no other key came");
        let asked = Instant::now();
        if kids(&sets.send("GET", JWKS, &[], b"").json()) == first {
            unpublished = asked;
        }
        // Two connections, as a sign-in is slow and the key set is not.
        if unpublished == asked {
            continue;
        }
        let reply = tokens.try_post("/auth", body.as_bytes()).unwrap();
        if !first.contains(&Token::of(&reply).unwrap().kid()) {
            break;
        }
    }
    let lead = unpublished.elapsed();
    assert!(lead >= Duration::from_secs(times.lead), "only {lead:?}");
}
