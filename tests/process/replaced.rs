//! Files that are deleted, moved or replaced under the running server: nothing
//! is answered into a file that no later start would find.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use crate::support::{
    Connection, DATABASE, JSON, PATIENCE, Reply, Server, database, files, folder, number, sql,
};

fn side(dir: &Path, end: &str) -> PathBuf {
    dir.join(format!("{DATABASE}{end}"))
}

fn sign_up(server: &Server, name: &str) -> Reply {
    let body = format!(r#"{{"username":"{name}","email":"{name}@example.com"}}"#);
    server.send("POST", "/register", &[JSON], body.as_bytes())
}

/// A sign-up and a sign-in are refused as they should be, and the key set is `set`.
fn assert_refuses(server: &Server, password: &str, set: &str) {
    for reply in [
        sign_up(server, "refused"),
        server.sign_in("/auth", "alice", password),
        // Also what would be wrong is not judged by a file that is gone.
        server.sign_in("/auth", "alice", "x"),
    ] {
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1);
    }
    assert_eq!(server.key_set().text(), set);
}

/// A running server that has both keys, alice's password, and its key set.
fn start(dir: &TempDir) -> (Server, String, String) {
    let server = Server::start(dir.path(), &[]);
    server.wait_for_log("a new expired key is in the database");
    let password = server.register("alice");
    let set = server.key_set().text();
    (server, password, set)
}

/// After a stop all of `names` are there, and nobody else. Returns the log.
fn assert_kept(server: Server, dir: &TempDir, names: &[&str]) -> String {
    let log = server.stop_for_log();
    assert_eq!(files(dir.path())[..2], [".env", DATABASE]);
    let found: String = sql(dir.path())
        .query_row(
            "SELECT group_concat(username, ' ') FROM (SELECT username FROM users ORDER BY id)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(found, names.join(" "));
    let check: String = sql(dir.path())
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    log
}

#[test]
fn while_the_database_is_moved_away_writes_are_503_and_go_on_when_it_is_back() {
    let dir = folder("");
    let (server, password, set) = start(&dir);
    let away = dir.path().join("away.db");
    for round in 0..3 {
        fs::rename(database(dir.path()), &away).unwrap();
        assert_refuses(&server, &password, &set);
        // What was answered before is in the file, wherever that is now.
        let copy = tempfile::tempdir().unwrap();
        fs::copy(&away, database(copy.path())).unwrap();
        let users = number(copy.path(), "SELECT count(*) FROM users");
        assert_eq!(users, 1 + round);
        fs::rename(&away, database(dir.path())).unwrap();
        server.register(&format!("user{round}"));
        assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    }
    assert_kept(server, &dir, &["alice", "user0", "user1", "user2"]);
}

#[test]
fn a_database_that_is_deleted_is_said_once_and_answered_503_until_another_is_there() {
    let dir = folder("");
    let (server, password, set) = start(&dir);
    let backup = dir.path().join("backup.db");
    sql(dir.path())
        .execute("VACUUM INTO ?", [backup.to_str().unwrap()])
        .unwrap();
    server.register("after");
    fs::remove_file(database(dir.path())).unwrap();
    for _ in 0..3 {
        assert_refuses(&server, &password, &set);
    }
    assert!(!database(dir.path()).exists());
    fs::rename(&backup, database(dir.path())).unwrap();
    assert_eq!(server.sign_in("/auth", "after", &password).status, 401);
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    server.register("bob");
    assert_eq!(server.key_set().text(), set);
    let log = assert_kept(server, &dir, &["alice", "bob"]);
    let said = "nothing can be written to the database";
    assert_eq!(log.matches(said).count(), 1, "{log}");
}

#[test]
fn a_backup_that_is_put_over_the_database_is_used_at_once_and_not_mixed_with_the_old_log() {
    let dir = folder("");
    let (server, password, set) = start(&dir);
    let backup = dir.path().join("backup.db");
    sql(dir.path())
        .execute("VACUUM INTO ?", [backup.to_str().unwrap()])
        .unwrap();
    for n in 0..20 {
        server.register(&format!("later{n}"));
    }
    fs::rename(&backup, database(dir.path())).unwrap();
    // The first to notice is a reader here.
    assert_eq!(server.sign_in("/auth", "later0", "x").status, 401);
    server.register("bob");
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    assert_eq!(server.key_set().text(), set);
    // A kill: what was answered is in the files that lie there.
    drop(server);
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().text(), set);
    assert_kept(server, &dir, &["alice", "bob"]);
}

/// The number of users in a copy of the file alone.
fn users_alone(file: &Path) -> i64 {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(file, database(copy.path())).unwrap();
    number(copy.path(), "SELECT count(*) FROM users")
}

/// Another program reads what it finds now, until it is dropped.
fn reader(dir: &Path) -> rusqlite::Connection {
    let conn = sql(dir);
    conn.execute_batch("BEGIN; SELECT count(*) FROM users")
        .unwrap();
    conn
}

#[test]
fn what_another_program_keeps_in_the_log_is_waited_for_before_a_backup_is_used() {
    let dir = folder("");
    let (server, password, _) = start(&dir);
    let backup = dir.path().join("backup.db");
    sql(dir.path())
        .execute("VACUUM INTO ?", [backup.to_str().unwrap()])
        .unwrap();
    let reader = reader(dir.path());
    for n in 0..20 {
        server.register(&format!("user{n}"));
    }
    let kept = dir.path().join("kept.db");
    fs::rename(database(dir.path()), &kept).unwrap();
    fs::rename(&backup, database(dir.path())).unwrap();
    server.ask_until_log("another program still reads the one that was there", || {
        assert_eq!(sign_up(&server, "refused").status, 503);
    });
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 503);
    assert!(fs::metadata(side(dir.path(), "-wal")).unwrap().len() > 0);
    drop(reader);
    server.ask_until_log("was opened anew", || {
        assert!([201, 503, 409].contains(&sign_up(&server, "bob").status));
    });
    assert_eq!(users_alone(&kept), 21);
    fs::remove_file(&kept).unwrap();
    assert_kept(server, &dir, &["alice", "bob"]);
}

#[test]
fn a_log_that_must_stay_beside_the_database_is_named_at_the_end() {
    let dir = folder("");
    let (server, ..) = start(&dir);
    let reader = reader(dir.path());
    server.register("bob");
    let log = server.stop_for_log();
    assert!(log.contains("the write-ahead log stays beside"), "{log}");
    drop(reader);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM users"), 2);
}

#[test]
fn a_link_that_leads_elsewhere_leaves_the_old_database_to_the_others_that_use_it() {
    let dir = folder("DATABASE_URL=sqlite:link.db");
    let link = dir.path().join("link.db");
    let (old, new) = (dir.path().join("old.db"), dir.path().join("new.db"));
    fs::write(&old, b"").unwrap();
    symlink("old.db", &link).unwrap();
    let (server, password, _) = start(&dir);
    let other = rusqlite::Connection::open(&old).unwrap();
    other
        .execute("VACUUM INTO ?", [new.to_str().unwrap()])
        .unwrap();
    other
        .execute_batch("BEGIN; SELECT count(*) FROM users")
        .unwrap();
    server.register("bob");
    symlink("new.db", dir.path().join("link")).unwrap();
    fs::rename(dir.path().join("link"), &link).unwrap();
    // Nobody is waited for.
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    for end in ["-wal", "-shm"] {
        assert!(dir.path().join(format!("old.db{end}")).exists(), "{end}");
    }
    let count = "SELECT count(*) FROM users";
    let seen = |conn: &rusqlite::Connection| -> i64 {
        conn.query_row(count, [], |row| row.get(0)).unwrap()
    };
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(seen(&other), 2);
    assert_eq!(seen(&rusqlite::Connection::open(&old).unwrap()), 2);
    assert_eq!(seen(&rusqlite::Connection::open(&new).unwrap()), 1);
}

#[test]
fn a_database_that_is_moved_away_is_completed_once_nobody_reads_its_log() {
    let dir = folder("");
    let (server, ..) = start(&dir);
    let reader = reader(dir.path());
    for n in 0..20 {
        server.register(&format!("user{n}"));
    }
    let kept = dir.path().join("kept.db");
    fs::rename(database(dir.path()), &kept).unwrap();
    let refused = || assert_eq!(sign_up(&server, "refused").status, 503);
    server.ask_until_log("is not complete yet", refused);
    drop(reader);
    server.ask_until_log("is complete now", refused);
    assert_eq!(users_alone(&kept), 21);
}

#[test]
fn a_database_with_the_keys_of_another_is_not_taken_and_not_touched() {
    let dir = folder("AUTH_RATE=1000");
    let (server, password, set) = start(&dir);
    let other = folder("");
    let (elsewhere, ..) = start(&other);
    assert!(elsewhere.stop().success());
    let kept = dir.path().join("kept.db");
    fs::rename(database(dir.path()), &kept).unwrap();
    for (content, why) in [
        (
            fs::read(database(other.path())).unwrap(),
            "NOT_MY_KEY opens none of its keys",
        ),
        (Vec::new(), "it holds no keys"),
        (b"no database ".repeat(100), "SQLite cannot use it"),
    ] {
        let dropped = dir.path().join("dropped.db");
        fs::write(&dropped, &content).unwrap();
        fs::rename(&dropped, database(dir.path())).unwrap();
        // Another file is looked into twice a second at most.
        let looked_into = format!("another file is in its place, and {why}");
        server.ask_until_log(&looked_into, || assert_refuses(&server, &password, &set));
        assert_eq!(fs::read(database(dir.path())).unwrap(), content);
        assert_eq!(files(dir.path()), [".env", "kept.db", DATABASE]);
    }
    fs::rename(&kept, database(dir.path())).unwrap();
    let began = Instant::now();
    while sign_up(&server, "bob").status == 503 {
        assert!(began.elapsed() < PATIENCE, "bob is not let in");
        assert_eq!(server.key_set().text(), set);
    }
    assert_kept(server, &dir, &["alice", "bob"]);
}

#[test]
fn a_log_that_is_deleted_is_begun_anew_and_loses_nothing() {
    let dir = folder("");
    let (server, password, set) = start(&dir);
    let mut names = vec!["alice".to_owned()];
    for (round, ends) in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]]
        .into_iter()
        .enumerate()
    {
        for end in ends {
            fs::remove_file(side(dir.path(), end)).unwrap();
        }
        let name = format!("user{round}");
        server.register(&name);
        names.push(name);
        assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
        for end in ["-wal", "-shm"] {
            assert!(side(dir.path(), end).exists(), "{ends:?}");
        }
        // Another program sees what was answered.
        let users = number(dir.path(), "SELECT count(*) FROM users");
        assert_eq!(users, i64::try_from(names.len()).unwrap());
    }
    assert_eq!(server.key_set().text(), set);
    drop(server);
    let server = Server::start(dir.path(), &[]);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_kept(server, &dir, &names);
}

#[test]
fn two_servers_go_over_to_the_same_backup() {
    let dir = folder("");
    let (one, password, set) = start(&dir);
    let two = Server::start(dir.path(), &[]);
    assert_eq!(two.sign_in("/auth", "alice", &password).status, 200);
    let backup = dir.path().join("backup.db");
    for round in 0..5 {
        sql(dir.path())
            .execute("VACUUM INTO ?", [backup.to_str().unwrap()])
            .unwrap();
        fs::rename(&backup, database(dir.path())).unwrap();
        let (name, other) = (format!("one{round}"), format!("two{round}"));
        std::thread::scope(|scope| {
            for (addr, name) in [(one.addr, &name), (two.addr, &other)] {
                scope.spawn(move || {
                    let body = format!(r#"{{"username":"{name}","email":"{name}@example.com"}}"#);
                    let mut connection = Connection::open(addr);
                    let reply = connection.send("POST", "/register", &[JSON], body.as_bytes());
                    assert_eq!(reply.status, 201, "{}", reply.text());
                });
            }
        });
        let users = number(dir.path(), "SELECT count(*) FROM users");
        assert_eq!(users, 3 + 2 * round);
    }
    assert_eq!(one.key_set().text(), set);
    assert_eq!(two.key_set().text(), set);
    for server in [one, two] {
        assert!(server.stop().success());
    }
    let check: String = sql(dir.path())
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}
