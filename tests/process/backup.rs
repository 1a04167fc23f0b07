//! `backup` beside a running service.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::support::{DATABASE, Server, command, database, files, folder, fresh_key, refusal, run};

fn back_up(dir: &Path) {
    let out = command(dir).args(["backup", "copy.db"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
}

#[test]
fn a_backup_of_a_running_service_has_its_users_and_keys_and_starts_as_they_did() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    let set = server.key_set().text();
    let password = server.register("alice");
    let back_up = ["backup", "copy.db", "--json"];
    let out = command(dir.path()).args(back_up).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let said: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(
        said["keys"].as_u64().unwrap() >= 1 && said["unopened"] == 0,
        "{said}"
    );
    let copy = dir.path().join("copy.db");
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // It overwrites nothing.
    assert!(refusal(command(dir.path()).args(back_up), &[]).contains("exists already"));
    assert!(server.stop().success());
    let restored = folder("");
    fs::copy(dir.path().join(".env"), restored.path().join(".env")).unwrap();
    fs::rename(copy, database(restored.path())).unwrap();
    let server = Server::start(restored.path(), &[]);
    assert_eq!(server.key_set().text(), set);
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
}

#[test]
fn a_backup_whose_keys_do_not_open_says_so_and_one_of_nothing_leaves_no_file() {
    let dir = folder("");
    let nothing = refusal(command(dir.path()).args(["backup", "copy.db"]), &[]);
    assert!(nothing.contains("there is no database"), "{nothing}");
    assert_eq!(files(dir.path()), [".env"]);
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let mut other = command(dir.path());
    let ended = run(other
        .args(["backup", "copy.db"])
        .env("NOT_MY_KEY", fresh_key()));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("no entry of NOT_MY_KEY"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_backup_is_restored_once_nobody_uses_the_database_and_what_was_there_stays() {
    let dir = folder("");
    let at = dir.path();
    let server = Server::start(at, &[]);
    let set = server.key_set().text();
    let password = server.register("alice");
    back_up(at);
    let later = server.register("bob");
    let restore = ["restore", "copy.db", "--yes", "--json"];
    let process = server.child.id();
    let in_use = refusal(command(at).args(restore), &[]);
    assert!(
        in_use.contains(&format!("in use by process {process}")),
        "{in_use}"
    );
    drop(server);
    // It was killed: what it wrote last is in its log.
    assert!(at.join(format!("{DATABASE}-wal")).metadata().unwrap().len() > 0);
    let out = command(at).args(restore).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let said: Value = serde_json::from_slice(&out.stdout).unwrap();
    let server = Server::start(at, &[]);
    assert_eq!(server.key_set().text(), set);
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    assert_eq!(server.sign_in("/auth", "bob", &later).status, 401);
    assert!(server.stop().success());
    // The one before is whole too, with its log.
    let aside = format!("sqlite:{}", said["replaced"].as_str().unwrap());
    let server = Server::start_command(command(at).env("DATABASE_URL", aside));
    assert_eq!(server.sign_in("/auth", "bob", &later).status, 200);
}

#[test]
fn a_backup_that_is_unfit_is_refused_and_changes_nothing() {
    let dir = folder("");
    let at = dir.path();
    let server = Server::start(at, &[]);
    assert_eq!(server.key_set().status, 200);
    server.register("alice");
    back_up(at);
    assert!(server.stop().success());
    let sound = fs::read(at.join("copy.db")).unwrap();
    let mut damaged = sound.clone();
    // Pages of the middle.
    let middle = damaged.len() / 2;
    damaged[4096..middle].fill(7);
    fs::write(at.join("damaged"), damaged).unwrap();
    fs::write(at.join("text"), "no database").unwrap();
    fs::write(at.join("empty"), "").unwrap();
    fs::write(at.join("half"), &sound).unwrap();
    fs::write(at.join("half-wal"), "changes").unwrap();
    let (before, bytes) = (files(at), fs::read(database(at)).unwrap());
    let refused = |path: &str, key: Option<String>| {
        let mut command = command(at);
        command.args(["restore", path, "--yes"]);
        if let Some(key) = key {
            command.env("NOT_MY_KEY", key);
        }
        let said = refusal(&mut command, &[]);
        assert_eq!(files(at), before, "{said}");
        assert!(fs::read(database(at)).unwrap() == bytes, "{said}");
        said
    };
    for (path, part) in [
        ("damaged", "no backup that can be used"),
        ("text", "no backup that can be used"),
        ("empty", "it is empty"),
        ("half", "half-wal is part of it"),
        ("missing", "there is no file"),
        (DATABASE, "is the database itself"),
    ] {
        let said = refused(path, None);
        assert!(said.contains(part), "{path}: {said}");
    }
    let other = refused("copy.db", Some(fresh_key()));
    assert!(other.contains("no entry of NOT_MY_KEY"), "{other}");
    let asks = refusal(command(at).args(["restore", "copy.db"]), &[]);
    assert!(asks.contains("--yes"), "{asks}");
}

#[test]
fn a_start_without_keys_says_that_there_may_have_been_a_database() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let log = server.stop_for_log();
    assert!(
        log.contains("has no keys yet, though NOT_MY_KEY was set before"),
        "{log}"
    );
    let log = Server::start(dir.path(), &[]).stop_for_log();
    assert!(!log.contains("has no keys yet"), "{log}");
    // With --init the key is as new as the database.
    let new = tempfile::tempdir().unwrap();
    let log =
        Server::start_command(command(new.path()).arg("--init").env("PORT", "0")).stop_for_log();
    assert!(!log.contains("has no keys yet"), "{log}");
}
