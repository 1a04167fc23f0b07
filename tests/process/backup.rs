//! `backup` beside a running service.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{Server, command, database, files, folder, fresh_key, refusal, run};

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
