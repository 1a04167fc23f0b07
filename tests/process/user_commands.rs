//! The `users` commands beside a running service.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{Server, command, database, files, folder, refusal};

fn users(dir: &Path, args: &[&str]) -> Output {
    command(dir).arg("users").args(args).output().unwrap()
}

/// What a command prints with --json.
fn json(dir: &Path, args: &[&str]) -> Value {
    let out = users(dir, &[args, &["--json"]].concat());
    assert_eq!(out.status.code(), Some(0), "{args:?}: {out:?}");
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn a_running_server_follows_each_command_at_once() {
    let dir = folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    // Waits for the database.
    assert_eq!(server.key_set().status, 200);
    let status = |password: &str| server.sign_in("/auth", "alice", password).status;
    let made = json(dir, &["add", "alice", "--email", "a@example.com"]);
    let first = made["password"].as_str().unwrap();
    assert_eq!(status(first), 200);
    let shown = json(dir, &["show", "alice"]);
    assert_eq!(shown["email"], "a@example.com");
    assert!(shown["tokens_until"].is_object(), "{shown}");
    json(dir, &["disable", "alice", "--reason", "left"]);
    assert_eq!(status(first), 401);
    server.wait_for_log("sign-in refused: unknown username");
    assert_eq!(
        json(dir, &["list", "--disabled"])["users"][0]["reason"],
        "left"
    );
    json(dir, &["enable", "alice"]);
    assert_eq!(status(first), 200);
    let reset = json(dir, &["reset", "alice"]);
    assert_eq!(status(first), 401);
    assert_eq!(status(reset["password"].as_str().unwrap()), 200);
    json(dir, &["delete", "alice", "--yes"]);
    assert_eq!(status(reset["password"].as_str().unwrap()), 401);
    assert_eq!(json(dir, &["list"])["users"].as_array().unwrap().len(), 0);
}

#[test]
fn a_password_of_ones_own_comes_from_standard_input_and_is_not_printed() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let mut add = command(dir.path());
    add.args(["users", "add", "bob", "--password-stdin"]);
    let mut child = add
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"correct horse\r\n")
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(out.stdout).unwrap(),
        "Account bob is there.\n"
    );
    assert_eq!(server.sign_in("/auth", "bob", "correct horse").status, 200);
    // An empty one, as from /dev/null.
    let empty = ["users", "reset", "bob", "--password-stdin"];
    assert!(refusal(command(dir.path()).args(empty), &[]).contains("password is empty"));
}

#[test]
fn what_cannot_be_done_is_refused_in_a_line_that_helps() {
    let dir = folder("");
    let there = Server::start(dir.path(), &[]);
    there.register("alice");
    for (args, part) in [
        (&["show", "nobody"][..], "no account of this name"),
        (&["delete", "alice"], "--yes"),
        (&["delete", "nobody", "--yes"], "no account of this name"),
        (&["disable", "alice"], "--reason"),
        (
            &["disable", "alice", "--reason", " "],
            "--reason is one line",
        ),
        (&["enable", "alice"], "not disabled"),
        (&["add", "alice"], "already registered"),
        (&["add", "a b"], "username has characters"),
        (&["add", "bob", "--email", "x"], "email is not"),
        (&["list", "--limit", "0"], "--limit"),
    ] {
        let said = refusal(command(dir.path()).arg("users").args(args), &[]);
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

#[test]
fn accounts_of_the_earlier_server_are_shown_without_a_change_of_any_file() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/earlier_server.db");
    let dir = folder("");
    fs::copy(&fixture, database(dir.path())).unwrap();
    let before = files(dir.path());
    let listed = json(dir.path(), &["list"]);
    let users = listed["users"].as_array().unwrap();
    assert!(!users.is_empty());
    for user in users {
        assert_eq!(user["password_hash"], "argon2id m=65536,t=3,p=2", "{user}");
        assert!(user["registered_at"].is_object(), "{user}");
    }
    assert!(fs::read(database(dir.path())).unwrap() == fs::read(&fixture).unwrap());
    assert_eq!(files(dir.path()), before);
    // Pages end where there are no more.
    let page = json(dir.path(), &["list", "--limit", "1"]);
    assert_eq!(page["next_after"].is_null(), users.len() == 1);
}
