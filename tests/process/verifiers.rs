//! Verifiers that others wrote, at work on the live key set: before, during and
//! after a rotation, each one process with a warm cache that holds a key set for
//! as long as the server allows and does not ask again for a kid that it lacks.
//!
//! The first test that needs one has `tests/verifiers/install.sh` install it. Where
//! Python or Node is missing, or the packages cannot be had, the tests say that they
//! were skipped; with `REQUIRE_VERIFIERS=1` they fail.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::left_out::left_out;
use crate::rotation::{Times, now};
use crate::standstill::Stopwatch;
use crate::support::{JWKS, PATIENCE, Server};
use crate::token::{Token, kids};

/// The next key comes while a verifier holds the set that it fetched at the
/// start, so that one which signs at once is not known to it.
const TIMES: Times = Times {
    lead: 5,
    max_age: 3,
    token: 3,
    skew: 2,
};
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "tests";
/// Pause between two tokens that the client asks for.
const PACE: Duration = Duration::from_millis(250);

/// The words with which a verifier refuses.
struct Words {
    bad_signature: &'static str,
    unknown_key: &'static str,
    expired: &'static str,
}

/// Side by side, since each mostly waits for the rotation of its server.
#[test]
fn pyjwt_and_jose_verify_every_token_through_a_rotation() {
    std::thread::scope(|scope| {
        scope.spawn(pyjwt_verifies);
        scope.spawn(jose_verifies);
    });
}

fn pyjwt_verifies() {
    let Some(mut command) = python() else { return };
    command.arg(script("pyjwt_verifier.py"));
    rotate_under(
        command,
        &Words {
            bad_signature: "InvalidSignatureError",
            unknown_key: "PyJWKClientError: Unable to find a signing key",
            expired: "ExpiredSignatureError",
        },
    );
}

fn jose_verifies() {
    let Some(mut command) = node() else { return };
    command.arg(script("jose_verifier.mjs"));
    rotate_under(
        command,
        &Words {
            bad_signature: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
            unknown_key: "ERR_JWKS_NO_MATCHING_KEY",
            expired: "ERR_JWT_EXPIRED",
        },
    );
}

fn rotate_under(command: Command, words: &Words) {
    let dir = TIMES.folder(&format!("ISSUER={ISSUER}\nAUDIENCE={AUDIENCE}"));
    let (server, password) = TIMES.start(dir.path());
    let mut verifier = Verifier::start(command, &server);
    let ask = |path| Token::of(&server.sign_in(path, "alice", &password)).unwrap();

    // Its start takes as long as it takes; a token lives for three seconds.
    let junk = verifier.verdict("junk");
    assert!(junk.starts_with("refused "), "{junk}");

    let watch = Stopwatch::start();
    let stood_still = || !watch.standstill().is_zero();
    let first = verifier.accepted(|| ask("/auth"));
    let tampered = verifier.verdict(&tampered(&first.0));
    assert!(tampered.contains(words.bad_signature), "{tampered}");
    let of_expired_key = verifier.verdict(&ask("/auth?expired").0);
    assert!(
        of_expired_key.contains(words.unknown_key),
        "{of_expired_key}"
    );

    let started = Instant::now();
    let old = first.kid();
    let mut seen = HashSet::from([old.clone()]);
    let mut latest_of_old = Token(first.0.clone());
    let (mut of_old_after_turn, mut outlived) = (0, false);
    while kids(&server.key_set().json()).contains(&old) {
        assert!(started.elapsed() < PATIENCE, "the first key is still there");
        std::thread::sleep(PACE);
        let fresh = verifier.accepted(|| ask("/auth"));
        if seen.insert(fresh.kid()) {
            assert_eq!(seen.len(), 2, "one rotation only");
        }
        if fresh.kid() == old {
            latest_of_old = fresh;
        } else {
            let verdict = verifier.verdict(&latest_of_old.0);
            if now() < expiry(&latest_of_old) {
                assert_eq!(verdict, "ok", "a token of the key that signed before");
                of_old_after_turn += 1;
            }
        }
        if !outlived && now() >= expiry(&first) {
            let verdict = verifier.verdict(&first.0);
            // The key may have gone too while all stood still.
            let is_gone = stood_still() && verdict.contains(words.unknown_key);
            assert!(is_gone || verdict.contains(words.expired), "{verdict}");
            outlived = true;
        }
    }
    verifier.accepted(|| ask("/auth"));
    // After a standstill a state of some seconds may be over before it is tried.
    if !stood_still() {
        assert_eq!((seen.len(), outlived), (2, true));
        assert!(
            of_old_after_turn > 0,
            "no old token was tried after the turn"
        );
    }
}

/// The same token with another first letter in its signature.
fn tampered(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{message}.{other}{}", &signature[1..])
}

fn expiry(token: &Token) -> Duration {
    Duration::from_secs(token.claims()["exp"].as_u64().unwrap())
}

/// A verifier's process: a token a line in, a verdict a line out.
struct Verifier {
    child: Child,
    tokens: ChildStdin,
    verdicts: BufReader<ChildStdout>,
}

impl Verifier {
    fn start(mut command: Command, server: &Server) -> Self {
        let mut child = command
            .arg(format!("http://{}{JWKS}", server.addr))
            .arg(TIMES.max_age.to_string())
            .args([ISSUER, AUDIENCE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            tokens: child.stdin.take().unwrap(),
            verdicts: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// A fresh token, which must verify; another if it had expired before the verdict.
    fn accepted(&mut self, ask: impl Fn() -> Token) -> Token {
        for _ in 0..5 {
            let token = ask();
            let verdict = self.verdict(&token.0);
            if verdict == "ok" {
                return token;
            }
            assert!(now() >= expiry(&token), "key {}: {verdict}", token.kid());
        }
        panic!("each token had expired before it was looked at");
    }

    fn verdict(&mut self, token: &str) -> String {
        writeln!(self.tokens, "{token}").unwrap();
        let mut line = String::new();
        assert_ne!(
            self.verdicts.read_line(&mut line).unwrap(),
            0,
            "it has ended"
        );
        line.trim_end().to_owned()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python with the packages of `requirements.txt`, unless they cannot be had.
pub fn python() -> Option<Command> {
    static READY: LazyLock<Result<(), String>> = LazyLock::new(|| install("python"));
    ready("Python", &READY)?;
    Some(Command::new(installed("venv/bin/python")))
}

fn node() -> Option<Command> {
    static READY: LazyLock<Result<(), String>> = LazyLock::new(|| install("node"));
    ready("Node", &READY)?;
    let mut command = Command::new("node");
    command.current_dir(installed("node"));
    Some(command)
}

fn ready(name: &str, installed: &Result<(), String>) -> Option<()> {
    match installed {
        Ok(()) => Some(()),
        Err(why) => {
            let required = std::env::var_os("REQUIRE_VERIFIERS").is_some_and(|value| value == "1");
            assert!(!required, "{name}: {why}");
            left_out(&format!("what needs {name}"), why);
            None
        }
    }
}

/// Installs the verifiers for `tool`, which takes a moment when they are there.
fn install(tool: &str) -> Result<(), String> {
    let done = Command::new("sh")
        .arg(script("install.sh"))
        .arg(tool)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&done.stderr);
    let last = said
        .lines()
        .last()
        .unwrap_or("install.sh failed")
        .to_owned();
    done.status.success().then_some(()).ok_or(last)
}

pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/verifiers")
        .join(name)
}

fn installed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/verifiers")
        .join(path)
}
