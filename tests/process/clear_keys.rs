//! Files of an earlier stage of the earlier server, whose keys are not encrypted.

use std::time::{SystemTime, UNIX_EPOCH};

use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rusqlite::params;

use crate::support::{Server, command, database, folder, number, run, sql};
use crate::token::kids;

fn key() -> rsa::PrivateKey {
    rsa::PrivateKey::new(&mut rand::rngs::SysRng, 2048).unwrap()
}

fn in_an_hour() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + 3600
}

#[test]
fn fr_60_keys_in_the_clear_are_encrypted_while_the_file_is_taken_over_and_go_on() {
    let dir = folder("");
    let db = sql(dir.path());
    db.execute_batch(
        "CREATE TABLE keys(kid INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, exp INTEGER NOT NULL)",
    )
    .unwrap();
    let pkcs1 = key().to_pkcs1_pem(LineEnding::LF).unwrap();
    let pkcs8 = key().to_pkcs8_pem(LineEnding::LF).unwrap();
    let end = in_an_hour();
    let insert = "INSERT INTO keys (key, exp) VALUES (?, ?), (?, ?)";
    let rows = params![pkcs1.as_bytes(), end, pkcs8.as_str(), end - 7200];
    db.execute(insert, rows).unwrap();
    drop(db);
    let server = Server::start(dir.path(), &[]);
    server.wait_for_log("2 private keys lay in the clear");
    let published = kids(&server.key_set().json());
    assert_eq!(published[0], "1");
    let password = server.register("alice");
    let expired = server.sign_in("/auth?expired", "alice", &password);
    assert_eq!(expired.status, 200);
    assert!(server.stop().success());
    let encrypted = "SELECT count(*) FROM keys WHERE CAST(key AS TEXT) LIKE 'gAAAA%'";
    let all = "SELECT count(*) FROM keys";
    assert_eq!(number(dir.path(), encrypted), number(dir.path(), all));
    let file = std::fs::read(database(dir.path())).unwrap();
    let text = String::from_utf8_lossy(&file);
    assert!(
        !text.contains("PRIVATE KEY-----"),
        "it is left in a free page"
    );
}

#[test]
fn keys_in_the_clear_are_refused_in_production_and_by_commands() {
    let dir = folder("");
    let pem = key().to_pkcs8_pem(LineEnding::LF).unwrap();
    let db = sql(dir.path());
    db.execute_batch("CREATE TABLE keys(kid INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, exp INTEGER NOT NULL)")
        .unwrap();
    let row = params![pem.as_bytes(), in_an_hour()];
    db.execute("INSERT INTO keys (key, exp) VALUES (?, ?)", row)
        .unwrap();
    drop(db);
    let tables = "SELECT count(*) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'";
    let secret = pem.lines().nth(1).unwrap();
    let mut start = command(dir.path());
    start.env("APP_ENV", "production");
    let mut add = command(dir.path());
    add.args(["users", "add", "alice"]);
    for mut command in [start, add] {
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let advice = "start once with APP_ENV=development";
        assert!(ended.stderr.contains(advice), "{}", ended.stderr);
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
        assert_eq!(number(dir.path(), "SELECT count(*) FROM keys"), 1);
        assert_eq!(number(dir.path(), tables), 1);
    }
}

#[test]
fn fr_60_a_key_in_the_clear_that_came_later_is_not_used() {
    let dir = folder("");
    assert!(Server::start(dir.path(), &[]).stop().success());
    let pem = key().to_pkcs8_pem(LineEnding::LF).unwrap();
    let insert = "INSERT INTO keys (kid, key, exp) VALUES (9, ?, ?)";
    let row = params![pem.as_bytes(), in_an_hour()];
    sql(dir.path()).execute(insert, row).unwrap();
    let server = Server::start(dir.path(), &[]);
    server.wait_for_log("it is not encrypted");
    assert!(!kids(&server.key_set().json()).contains(&"9".to_owned()));
}
