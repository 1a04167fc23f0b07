//! Keys that a program publishes which can write the database, but does not know
//! `NOT_MY_KEY`.

use std::path::Path;

use crate::support::{Server, command, folder, number, sql, used_folder};
use crate::token::{Token, kids};

const SIGNER: &str = "SELECT max(kid) FROM keys WHERE exp > unixepoch()";
/// Servers load the keys again when they find an event.
const EVENT: &str = "INSERT INTO key_events (kid, event, at) VALUES (5, 'created', 0)";

fn plant(dir: &Path, statements: &str) {
    sql(dir)
        .execute_batch(&format!("BEGIN; {statements}; {EVENT}; COMMIT"))
        .unwrap();
}

fn neither_publishes_nor_signs(server: &Server, kid: &str, n: &str, password: &str) {
    let set = server.key_set().json();
    let keys = set["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    assert!(
        keys.iter().all(|jwk| jwk["kid"] != kid && jwk["n"] != n),
        "{set}"
    );
    let reply = server.sign_in("/auth", "alice", password);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(Token::of(&reply).unwrap().verifies_against(&set));
}

#[test]
fn a_key_is_not_published_past_its_life_when_another_program_sets_a_later_exp() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    let jwk = server.key_set().json()["keys"][0].clone();
    let (kid, n) = (jwk["kid"].as_str().unwrap(), jwk["n"].as_str().unwrap());
    assert!(server.stop().success());
    let a_day_ago = format!(
        "UPDATE keys SET exp = exp - 86400 WHERE kid = {kid};
         UPDATE key_times SET created_at = created_at - 86400, signs_from = signs_from - 86400
         WHERE kid = {kid}"
    );
    plant(dir.path(), &a_day_ago);
    let server = Server::start(dir.path(), &[]);
    neither_publishes_nor_signs(&server, kid, n, &password);
    let ten_years = "UPDATE keys SET exp = unixepoch() + 315360000";
    plant(dir.path(), &format!("{ten_years} WHERE kid = {kid}"));
    let line = server.wait_for_log("made the exp of a key later");
    assert!(line.contains(kid), "{line}");
    neither_publishes_nor_signs(&server, kid, n, &password);
    assert!(server.stop().success());
    let server = Server::start(dir.path(), &[]);
    neither_publishes_nor_signs(&server, kid, n, &password);
    let list = command(dir.path()).args(["keys", "list"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let line = list.lines().find(|line| line.starts_with(kid)).unwrap();
    assert!(line.contains("expired"), "{line}");
}

#[test]
fn a_shorter_key_lifetime_takes_no_key_out_of_the_set() {
    let dir = folder("");
    let start = |life| Server::start_command(command(dir.path()).env("KEY_LIFETIME", life));
    let server = start("24h");
    let made = kids(&server.key_set().json());
    assert!(server.stop().success());
    // Two starts: the first must leave what it found recorded.
    for _ in 0..2 {
        let back = "UPDATE keys SET exp = exp - 7200; UPDATE key_times SET created_at = created_at - 7200, signs_from = signs_from - 7200";
        plant(dir.path(), back);
        let server = start("1h");
        assert!(kids(&server.key_set().json()).contains(&made[0]));
        assert!(server.stop().success());
    }
}

#[test]
fn a_copy_of_a_revoked_key_is_neither_published_nor_signs_also_in_a_running_service() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    let n = server.key_set().json()["keys"][0]["n"].clone();
    let n = n.as_str().unwrap();
    let leaked = number(dir.path(), SIGNER);
    let rotate = ["keys", "rotate", "--now", "--yes", "--reason", "leak"];
    assert!(
        command(dir.path())
            .args(rotate)
            .output()
            .unwrap()
            .status
            .success()
    );
    let copy = |kid: &str| {
        format!("INSERT INTO keys SELECT {kid}, key, 4000000000 FROM keys WHERE kid = {leaked}")
    };
    plant(dir.path(), &copy("5"));
    server.wait_for_log("another program added it");
    plant(
        dir.path(),
        &format!("INSERT INTO earlier_keys (kid) VALUES (6); {}", copy("6")),
    );
    server.wait_for_log("another program added it");
    neither_publishes_nor_signs(&server, "6", n, &password);
    assert!(server.stop().success());
    plant(
        dir.path(),
        &format!("INSERT INTO earlier_keys (kid) VALUES (7); {}", copy("7")),
    );
    let server = Server::start(dir.path(), &[]);
    neither_publishes_nor_signs(&server, "7", n, &password);
}

#[test]
fn a_copy_of_a_published_key_is_not_taken_for_one_of_the_earlier_server() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let made = kids(&server.key_set().json());
    assert!(server.stop().success());
    plant(
        dir.path(),
        &format!(
            "INSERT INTO earlier_keys VALUES (6, NULL), (7, {kid});
             INSERT INTO keys SELECT 6, key, 4000000000 FROM keys WHERE kid = {kid};
             INSERT INTO keys SELECT 7, key, 4000000000 FROM keys WHERE kid = {kid}",
            kid = made[0]
        ),
    );
    let server = Server::start(dir.path(), &[]);
    server.wait_for_log("another program added it");
    assert_eq!(kids(&server.key_set().json()), made);
}
