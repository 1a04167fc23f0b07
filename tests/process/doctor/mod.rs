//! `doctor` on folders and services in all states, of which it changes none.

mod damage;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Server, command, database, folder, sql};

const WELL: i32 = 0;
const FAILED: i32 = 1;

/// Output of `doctor --json`.
struct Visit {
    code: i32,
    findings: Vec<Value>,
    text: String,
}

impl Visit {
    /// The results of a check: more than one when it has more to say.
    fn results(&self, check: &str) -> Vec<&str> {
        let of_check = self.findings.iter().filter(|f| f["check"] == check);
        of_check.map(|f| f["result"].as_str().unwrap()).collect()
    }

    /// Text and advice of a check with this result.
    fn said(&self, check: &str, result: &str) -> String {
        let found = self
            .findings
            .iter()
            .find(|f| f["check"] == check && f["result"] == result);
        assert!(found.is_some(), "no {check} {result}: {}", self.text);
        let found = found.unwrap();
        format!("{} -> {}", found["found"], found["advice"])
    }
}

fn doctor(dir: &Path, env: &[(&str, &str)]) -> Visit {
    let output = command(dir)
        .args(["doctor", "--json"])
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let code = output.status.code().unwrap();
    assert_eq!(report["result"] == "fail", code == FAILED, "{text}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr.lines().count(),
        usize::from(code != WELL),
        "{stderr}"
    );
    Visit {
        code,
        findings: report["findings"].as_array().unwrap().clone(),
        text,
    }
}

/// A folder whose `.env` only its owner can read.
fn closed_folder(env: &str) -> TempDir {
    let dir = folder(env);
    chmod(&dir.path().join(".env"), 0o600);
    dir
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder with the database of a service that ran and stopped.
fn used_folder(env: &str) -> TempDir {
    let dir = closed_folder(env);
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    for path in ["/auth", "/auth?expired"] {
        assert_eq!(server.sign_in(path, "alice", &password).status, 200);
    }
    assert!(server.stop().success());
    dir
}

/// Every file with its content and mode, but for the index that all readers of
/// a database share.
fn files(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            let content = match name.ends_with("-shm") {
                true => Vec::new(),
                false => fs::read(entry.path()).unwrap(),
            };
            (name, (mode, content))
        })
        .collect()
}

fn port_of(server: &Server) -> String {
    server.addr.port().to_string()
}

#[test]
fn a_fresh_folder_is_well_and_stays_as_it_is() {
    let dir = closed_folder("");
    let before = files(dir.path());
    let visit = doctor(dir.path(), &[]);
    assert_eq!(visit.code, WELL, "{}", visit.text);
    assert!(visit.said("database", "ok").contains("first start"));
    assert_eq!(files(dir.path()), before);
    fs::write(database(dir.path()), "").unwrap();
    let visit = doctor(dir.path(), &[]);
    assert_eq!(
        visit.results("database"),
        ["ok"],
        "an empty file is none yet"
    );
}

#[test]
fn each_wrong_value_has_a_line_and_no_secret_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let visit = doctor(
        dir.path(),
        &[
            ("NOT_MY_KEY", "c2VjcmV0c2VjcmV0"),
            ("PORT", "x"),
            ("KEY_LEAD", "soon"),
            ("DEMO_USER", "alice:hunter2 hunter3"),
            ("ISSUER", "ftp://x"),
        ],
    );
    assert_eq!(visit.code, FAILED);
    assert_eq!(visit.results("configuration"), ["fail"; 5]);
    for secret in ["c2VjcmV0", "hunter"] {
        assert!(!visit.text.contains(secret), "{}", visit.text);
    }
    let visit = doctor(dir.path(), &[]);
    assert!(
        visit
            .said("configuration", "fail")
            .contains("NOT_MY_KEY is not set")
    );
    fs::write(dir.path().join(".env"), "no such line\n").unwrap();
    let visit = doctor(dir.path(), &[]);
    assert!(visit.said("configuration", "fail").contains("line 1"));
}

#[test]
fn a_running_service_is_well_and_notices_nothing() {
    let dir = closed_folder("");
    let server = Server::start(dir.path(), &["--demo-user", "bob:hunter2"]);
    // The expired key is the last one that is made, and the log row of its
    // token is the last thing that is written.
    assert_eq!(
        server.sign_in("/auth?expired", "bob", "hunter2").status,
        200
    );
    // The service's own write probe writes a page now, and not again for ten seconds.
    assert_eq!(server.send("GET", "/readyz", &[], b"").status, 200);
    let before = files(dir.path());
    let visit = doctor(dir.path(), &[("PORT", &port_of(&server))]);
    assert_eq!(visit.code, WELL, "{}", visit.text);
    for check in [
        "configuration",
        ".env",
        "file modes",
        "database",
        "schema",
        "keys",
        "encryption",
        "signing",
        "rotation",
        "port",
        "key set",
        "headers",
        "sign-in",
        "service clock",
        "clock",
    ] {
        assert_eq!(visit.results(check), ["ok"], "{check}: {}", visit.text);
    }
    assert_eq!(
        visit.results("disk").len() + visit.results("password hash").len(),
        2
    );
    assert_eq!(files(dir.path()), before);
    let logs: i64 = sql(dir.path())
        .query_row("SELECT count(*) FROM auth_logs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(logs, 1);
    let env = fs::read_to_string(dir.path().join(".env")).unwrap();
    let key = env
        .lines()
        .next()
        .unwrap()
        .trim_start_matches("NOT_MY_KEY=");
    assert!(!visit.text.contains(key));
}

#[test]
fn a_stopped_or_killed_service_leaves_what_the_doctor_leaves() {
    let dir = used_folder("");
    let before = files(dir.path());
    let visit = doctor(dir.path(), &[]);
    assert_eq!((visit.code, visit.results("keys")), (WELL, vec!["ok"]));
    assert_eq!(files(dir.path()), before);

    let mut server = Server::start(dir.path(), &[]);
    server.register("carol");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let before = files(dir.path());
    assert!(before.keys().any(|name| name.ends_with("-wal")));
    assert_eq!(doctor(dir.path(), &[]).code, WELL);
    assert_eq!(files(dir.path()), before);
}

#[test]
fn files_that_others_can_read_are_warned_of() {
    let dir = used_folder("");
    chmod(&database(dir.path()), 0o644);
    chmod(&dir.path().join(".env"), 0o640);
    let visit = doctor(dir.path(), &[]);
    assert_eq!(visit.code, WELL);
    assert!(visit.said("file modes", "warn").contains("mode 644"));
    assert!(visit.said(".env", "warn").contains("chmod 600 .env"));
    let other = dir.path().join("other.env");
    fs::rename(dir.path().join(".env"), &other).unwrap();
    let named = command(dir.path())
        .args(["doctor", "--env-file", "other.env"])
        .output()
        .unwrap();
    let text = String::from_utf8(named.stdout).unwrap();
    assert!(text.contains("chmod 600 other.env"), "{text}");
}

#[test]
fn keys_under_an_older_entry_are_counted_until_they_are_encrypted_again() {
    let dir = used_folder("");
    let env = fs::read_to_string(dir.path().join(".env")).unwrap();
    let old = env
        .lines()
        .next()
        .unwrap()
        .trim_start_matches("NOT_MY_KEY=");
    let fresh = command(dir.path()).arg("keygen").output().unwrap();
    let fresh = String::from_utf8(fresh.stdout).unwrap();
    let fresh = fresh.trim();
    let both = format!("{fresh},{old}");
    let both = [("NOT_MY_KEY", both.as_str())];
    let visit = doctor(dir.path(), &both);
    assert_eq!(visit.code, WELL);
    let said = visit.said("encryption", "warn");
    assert!(
        said.contains("2 of 2") && said.contains("keys reencrypt"),
        "{said}"
    );
    let alone = doctor(dir.path(), &[("NOT_MY_KEY", fresh)]);
    assert_eq!(
        (alone.code, alone.results("keys")),
        (FAILED, vec!["fail", "warn"])
    );

    let done = command(dir.path())
        .args(["keys", "reencrypt"])
        .envs(both)
        .status();
    assert!(done.unwrap().success());
    let alone = doctor(dir.path(), &[("NOT_MY_KEY", fresh)]);
    assert_eq!(alone.results("encryption"), ["ok"], "{}", alone.text);
    assert_eq!(alone.code, WELL);
}

#[test]
fn a_service_on_another_database_is_distinguished_from_ours() {
    let (ours, theirs) = (used_folder(""), closed_folder(""));
    let server = Server::start(theirs.path(), &[]);
    server.key_set();
    let port = port_of(&server);
    let said = doctor(ours.path(), &[("PORT", &port)]).said("key set", "fail");
    assert!(said.contains("that this database does not"), "{said}");
    let none = closed_folder("");
    let said = doctor(none.path(), &[("PORT", &port)]).said("key set", "fail");
    assert!(said.contains("no database here"), "{said}");
    let other_age = [("PORT", port.as_str()), ("JWKS_MAX_AGE", "1m")];
    let visit = doctor(theirs.path(), &other_age);
    assert_eq!(
        (visit.code, visit.results("settings")),
        (WELL, vec!["warn"])
    );
    assert_eq!(visit.results("headers"), ["ok"]);
}

#[test]
fn a_port_that_something_else_has_is_reported() {
    let dir = closed_folder("");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            drop(stream);
        }
    });
    let visit = doctor(dir.path(), &[("PORT", &port)]);
    assert_eq!((visit.code, visit.results("port")), (FAILED, vec!["fail"]));
    assert_eq!(visit.results("sign-in"), [""; 0]);
    let nowhere = doctor(dir.path(), &[("PORT", "1"), ("HOST", "192.0.2.1")]);
    assert!(
        nowhere
            .said("port", "fail")
            .contains("cannot be listened on")
    );
}

#[test]
fn the_table_has_a_line_a_finding_also_when_nobody_reads_on() {
    let dir = closed_folder("");
    let output = command(dir.path()).arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let findings = doctor(dir.path(), &[]).findings.len();
    assert_eq!(text.lines().count(), findings);
    assert!(
        text.lines()
            .all(|line| line.starts_with("ok ") || line.starts_with("warn "))
    );
    let mut closed = command(dir.path())
        .arg("doctor")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(closed.stdout.take());
    std::thread::sleep(Duration::from_millis(1));
    assert!(closed.wait().unwrap().success());
}

/// In the first minute of a database with a short lead.
#[test]
fn a_new_service_with_a_short_lead_is_well() {
    let dir = used_folder("KEY_LIFETIME=80s\nKEY_LEAD=5s\nTOKEN_LIFETIME=10s\nCLOCK_SKEW=5s");
    let visit = doctor(dir.path(), &[]);
    assert_eq!(visit.results("rotation"), ["ok"]);
}

#[test]
fn a_proxy_that_is_not_trusted_is_warned_of() {
    let dir = closed_folder("");
    let server = Server::start(dir.path(), &[]);
    let port = [("PORT", &*port_of(&server))];
    assert_eq!(server.key_set().status, 200);
    assert_eq!(doctor(dir.path(), &port).results("readiness"), ["ok"]);
    let header = [("X-Forwarded-For", "203.0.113.5")];
    assert_eq!(server.send("GET", "/healthz", &header, b"").status, 200);
    let visit = doctor(dir.path(), &port);
    assert_eq!(visit.code, WELL, "{}", visit.text);
    assert_eq!(visit.results("readiness"), ["warn"], "{}", visit.text);
    assert!(visit.text.contains("TRUSTED_PROXIES"), "{}", visit.text);
}
