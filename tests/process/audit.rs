//! The `audit` commands beside a running service.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::long::times;
use crate::seed::seed;
use crate::support::{Server, command, number, refusal, sql, used_folder};

/// Adds sign-ins of an account from long ago.
fn add_old(dir: &Path, rows: u32) {
    let insert = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
        SELECT '192.0.2.' || (i % 250), datetime(1000000000 + i, 'unixepoch'), 1 FROM n";
    let conn = sql(dir);
    conn.busy_timeout(Duration::from_secs(60)).unwrap();
    conn.execute(insert, [rows]).unwrap();
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines.map(|it| serde_json::from_str(it).unwrap()).collect()
}

fn output(dir: &Path, args: &[&str]) -> String {
    let out = command(dir).arg("audit").args(args).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{args:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// The sign-ins in the database, as text by id.
fn stored(dir: &Path) -> BTreeMap<i64, String> {
    let conn = sql(dir);
    let mut rows = conn
        .prepare("SELECT id, request_ip, strftime('%s', request_timestamp) FROM auth_logs")
        .unwrap();
    rows.query_map([], |row| {
        let (client, at): (String, String) = (row.get(1)?, row.get(2)?);
        Ok((row.get(0)?, format!("{client} {at}")))
    })
    .unwrap()
    .map(Result::unwrap)
    .collect()
}

#[test]
fn no_sign_in_is_lost_or_kept_twice_when_pruning_is_killed_at_any_moment() {
    let dir = used_folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    let password = server.register("alice");
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    let mut all = stored(dir);
    let mut random = StdRng::seed_from_u64(seed("KILL_SEED"));
    let prune = [
        "audit",
        "prune",
        "--before",
        "2010-01-01",
        "--keep-file",
        "kept",
    ];
    for _ in 0..times(8, 100) {
        add_old(dir, 1500);
        all.extend(stored(dir));
        let mut command = command(dir);
        let mut child = command
            .args(prune)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(random.random_range(0..150_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // A line that is cut off does not count yet.
        let text = fs::read_to_string(dir.join("kept")).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut found = stored(dir);
        let mut kept = BTreeMap::new();
        for line in lines(&text[..whole]) {
            let id = line["id"].as_i64().unwrap();
            let row = format!(
                "{} {}",
                line["client"].as_str().unwrap(),
                line["at"]["epoch"]
            );
            assert_eq!(line["username"], "alice");
            assert!(kept.insert(id, row).is_none(), "{id} is there twice");
        }
        found.extend(kept);
        assert!(found == all);
    }
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    output(dir, &prune[1..]);
    assert_eq!(number(dir, "SELECT count(*) FROM auth_logs"), 2);
    let kept = lines(&fs::read_to_string(dir.join("kept")).unwrap());
    assert_eq!(kept.len(), all.len() - 1);
}

#[test]
fn only_a_file_of_sign_ins_is_written_to_and_a_cut_off_line_is_written_again() {
    let dir = used_folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    server.register("alice");
    add_old(dir, 3);
    let prune = ["audit", "prune", "--before", "3650d", "--keep-file", "kept"];
    let kept = dir.join("kept");
    for foreign in ["a letter", "a letter\n", "{\"id\":1}\n"] {
        fs::write(&kept, foreign).unwrap();
        let said = refusal(command(dir).args(prune), &[]);
        assert!(said.contains("name another"), "{said}");
        assert_eq!(fs::read_to_string(&kept).unwrap(), foreign);
    }
    // Rows of another database are not taken for those of this one.
    let other =
        r#"{"id":1,"at":{"time":"","epoch":5},"client":"192.0.2.1","user_id":1,"username":"bob"}"#;
    fs::write(&kept, format!("{other}\n{}", &other[..20])).unwrap();
    output(dir, &prune[1..]);
    let text = fs::read_to_string(&kept).unwrap();
    assert!(text.starts_with(&format!("{other}\n")), "{text}");
    assert_eq!(lines(&text).len(), 4, "{text}");
    let asks = refusal(command(dir).args(["audit", "prune", "--before", "1d"]), &[]);
    assert!(asks.contains("--yes"), "{asks}");
    assert!(asks.contains("would be deleted"), "{asks}");
    let turned = ["audit", "list", "--since", "1d", "--until", "2d"];
    let turned = refusal(command(dir).args(turned), &[]);
    assert!(turned.contains("--since is not before --until"), "{turned}");
    let bad = refusal(command(dir).args(["audit", "list", "--since", "x"]), &[]);
    assert!(bad.contains("--since is a time"), "{bad}");
}

#[test]
fn what_a_keep_file_says_deletes_no_sign_in_that_is_young_or_another() {
    let dir = used_folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    let password = server.register("alice");
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    add_old(dir, 1);
    let all = output(dir, &["export", "--json"]);
    // As an export of all sign-ins, and one that says another account signed in.
    fs::write(dir.join("all"), &all).unwrap();
    fs::write(dir.join("forged"), all.replace("alice", "mallory")).unwrap();
    output(
        dir,
        &["prune", "--before", "3650d", "--keep-file", "forged"],
    );
    let forged = fs::read_to_string(dir.join("forged")).unwrap();
    assert_eq!(
        forged.lines().filter(|line| line.contains("alice")).count(),
        1
    );
    assert_eq!(number(dir, "SELECT count(*) FROM auth_logs"), 1);
    output(dir, &["prune", "--before", "3650d", "--keep-file", "all"]);
    assert_eq!(number(dir, "SELECT count(*) FROM auth_logs"), 1);
}

#[test]
fn a_row_whose_address_cannot_be_written_as_text_stays_when_others_are_pruned() {
    let dir = used_folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    server.register("alice");
    add_old(dir, 3);
    sql(dir)
        .execute_batch("UPDATE auth_logs SET request_ip = CAST(x'C0FF' AS TEXT) WHERE id = 2")
        .unwrap();
    let said = output(dir, &["prune", "--before", "3650d", "--keep-file", "kept"]);
    assert!(
        said.contains("\n1 whose time or address cannot be read is left.\n"),
        "{said}"
    );
    let kept = lines(&fs::read_to_string(dir.join("kept")).unwrap());
    assert_eq!(kept.len(), 2);
    assert_eq!(number(dir, "SELECT count(*) FROM auth_logs"), 1);
    assert_eq!(number(dir, "SELECT id FROM auth_logs"), 2);
}

#[test]
fn sign_ins_are_listed_and_exported_by_account_address_and_time() {
    let dir = used_folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    let password = server.register("alice");
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    let bob = server.register("bob");
    assert_eq!(server.sign_in("/auth", "bob", &bob).status, 200);
    add_old(dir, 6000);
    let ids = |args: &[&str]| -> Vec<i64> {
        let text = output(dir, &[&["export", "--json"], args].concat());
        lines(&text)
            .iter()
            .map(|it| it["id"].as_i64().unwrap())
            .collect()
    };
    // More than one page.
    assert_eq!(ids(&[]), (1..=6002).collect::<Vec<_>>());
    assert_eq!(ids(&["--user", "bob"]), [2]);
    assert_eq!(ids(&["--since", "1h"]), [1, 2]);
    assert_eq!(ids(&["--until", "2001-09-09T01:46:43Z"]), [3, 4]);
    assert_eq!(
        ids(&["--address", "192.0.2.7", "--until", "2001-09-09T02:00:00Z"]).len(),
        4
    );
    let csv = output(dir, &["export", "--user", "bob"]);
    assert!(
        csv.starts_with("id,time,client,user_id,username\n2,"),
        "{csv}"
    );
    assert!(csv.ends_with("\"127.0.0.1\",2,\"bob\"\n"), "{csv}");
    let page = |args: &[&str]| -> Value {
        let text = output(dir, &[&["list", "--limit", "2", "--json"], args].concat());
        serde_json::from_str(&text).unwrap()
    };
    let newest = page(&[]);
    assert_eq!(newest["sign_ins"][0]["id"], 6002);
    assert_eq!(
        page(&["--below", "2"])["sign_ins"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(newest["next_below"], 6001);
}

#[test]
fn a_service_deletes_sign_ins_that_are_older_than_audit_retention() {
    let dir = used_folder("");
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    let password = server.register("alice");
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    sql(dir)
        .execute_batch("UPDATE sqlite_sequence SET seq = 5000 WHERE name = 'auth_logs'")
        .unwrap();
    add_old(dir, 2500);
    // They come before the new one in the order of ids.
    sql(dir)
        .execute_batch("UPDATE auth_logs SET id = 9000 WHERE id = 1")
        .unwrap();
    assert!(server.stop().success());
    let server = Server::start(dir, &[]);
    assert_eq!(server.key_set().status, 200);
    assert!(server.stop().success());
    // Times that cannot be read come before them.
    sql(dir)
        .execute_batch(
            "UPDATE auth_logs SET id = id + 5000;
             INSERT INTO auth_logs (id, request_ip, request_timestamp, user_id)
             SELECT id - 5000, request_ip, 'x', user_id FROM auth_logs WHERE id < 15000",
        )
        .unwrap();
    assert_eq!(number(dir, "SELECT count(*) FROM auth_logs"), 5002);
    let server = Server::start_command(command(dir).env("AUDIT_RETENTION", "30d"));
    server.wait_for_log("pruned old sign-ins");
    assert_eq!(number(dir, "SELECT count(*) FROM auth_logs"), 2502);
}
