//! Files that are deleted, moved or replaced under a running server: it stops,
//! and every write that it has answered is in the file that it had open.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Connection;
use crate::support::{
    DATABASE, PATIENCE, Server, credentials, database, files, folder, number, sql, used_folder,
};

const CLIENTS: usize = 3;
/// Accounts that are made under load before the files change.
const BEFORE: usize = 6;
const SAID: &str = "was deleted, moved or replaced while in use";

fn side(dir: &Path, end: &str) -> PathBuf {
    dir.join(format!("{DATABASE}{end}"))
}

fn load_folder() -> TempDir {
    used_folder("AUTH_RATE=1000")
}

/// An account whose sign-up was answered, and how many tokens it was given.
struct Account {
    name: String,
    password: String,
    tokens: i64,
}

/// Signs up and signs in until the server is gone. Answers are 201, 200 and,
/// once the files have changed, 503.
fn load(addr: SocketAddr, client: usize, accounts: &Mutex<Vec<Account>>) {
    let began = Instant::now();
    for n in 0.. {
        assert!(began.elapsed() < 3 * PATIENCE, "it goes on running");
        let Some(mut connection) = Connection::try_from_address(addr, [127, 0, 0, 1].into()) else {
            return;
        };
        let name = format!("user{client}x{n}");
        let body = format!(r#"{{"username":"{name}","email":"{name}@example.com"}}"#);
        let Some(reply) = connection.try_post("/register", body.as_bytes()) else {
            return;
        };
        if reply.status == 503 {
            continue;
        }
        assert_eq!(reply.status, 201, "{}", reply.text());
        let password = reply.json()["password"].as_str().unwrap().to_owned();
        let signed_in = connection.try_post("/auth", &credentials(&name, &password));
        let status = signed_in.map(|reply| reply.status);
        assert!(matches!(status, Some(200 | 503) | None), "{status:?}");
        accounts.lock().unwrap().push(Account {
            name,
            password,
            tokens: i64::from(status == Some(200)),
        });
    }
}

/// Runs `change` on the files of a server under load, and waits until that ends
/// by itself, with one line in the log and exit code 1. Returns what was answered.
fn change_under_load(server: Server, change: impl FnOnce()) -> (Vec<Account>, String) {
    let accounts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (addr, accounts) = (server.addr, &accounts);
            scope.spawn(move || load(addr, client, accounts));
        }
        let began = Instant::now();
        while accounts.lock().unwrap().len() < BEFORE {
            assert!(began.elapsed() < 2 * PATIENCE, "no accounts");
            std::thread::sleep(Duration::from_millis(5));
        }
        change();
    });
    let log = assert_ends(server);
    (accounts.into_inner().unwrap(), log)
}

fn assert_ends(mut server: Server) -> String {
    let began = Instant::now();
    while server.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "it goes on running");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    let errors = log.lines().filter(|line| line.contains("ERROR"));
    assert_eq!(errors.count(), 1, "{log}");
    assert_eq!(log.matches(SAID).count(), 1, "{log}");
    assert!(log.contains("put the right file at the path of the database, then start it"));
    log
}

/// Every account signs in, and every token has its row in `auth_logs`.
fn assert_holds(dir: &Path, accounts: &[Account]) {
    assert!(accounts.len() >= BEFORE);
    for Account { name, tokens, .. } in accounts {
        let rows = format!(
            "SELECT count(*) FROM auth_logs JOIN users ON users.id = user_id WHERE username = '{name}'"
        );
        let rows = number(dir, &rows);
        assert!(rows >= *tokens, "{name}: {rows} of {tokens}");
    }
    let server = Server::start(dir, &[]);
    for Account { name, password, .. } in accounts {
        assert_eq!(
            server.sign_in("/auth", name, password).status,
            200,
            "{name}"
        );
    }
    assert!(server.stop().success());
    let check: String = sql(dir)
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

/// A copy of the database with what it holds now.
fn backup(dir: &Path) -> PathBuf {
    let backup = dir.join("backup.db");
    sql(dir)
        .execute("VACUUM INTO ?", [backup.to_str().unwrap()])
        .unwrap();
    backup
}

#[test]
fn a_database_that_is_moved_away_under_load_is_complete_alone_and_loses_nothing() {
    let dir = load_folder();
    let away = dir.path().join("away.db");
    let server = Server::start(dir.path(), &[]);
    let (accounts, _) = change_under_load(server, || {
        fs::rename(database(dir.path()), &away).unwrap();
    });
    assert_eq!(files(dir.path()), [".env", "away.db"]);
    fs::rename(&away, database(dir.path())).unwrap();
    assert_holds(dir.path(), &accounts);
}

#[test]
fn a_database_that_is_moved_with_its_log_before_a_kill_loses_nothing() {
    let dir = load_folder();
    let away = folder("");
    let server = Server::start(dir.path(), &[]);
    let accounts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (addr, accounts) = (server.addr, &accounts);
            scope.spawn(move || load(addr, client, accounts));
        }
        while accounts.lock().unwrap().len() < BEFORE {
            std::thread::sleep(Duration::from_millis(5));
        }
        for end in ["", "-wal"] {
            fs::rename(side(dir.path(), end), side(away.path(), end)).unwrap();
        }
        server.signal(rustix::process::Signal::KILL);
    });
    drop(server);
    fs::copy(dir.path().join(".env"), away.path().join(".env")).unwrap();
    assert_holds(away.path(), &accounts.into_inner().unwrap());
}

#[test]
fn a_database_that_is_deleted_under_load_is_whole_under_its_other_name() {
    let dir = load_folder();
    let kept = dir.path().join("kept.db");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    fs::hard_link(database(dir.path()), &kept).unwrap();
    let (accounts, _) = change_under_load(server, || {
        fs::remove_file(database(dir.path())).unwrap();
    });
    assert_eq!(files(dir.path()), [".env", "kept.db"]);
    fs::rename(&kept, database(dir.path())).unwrap();
    assert_holds(dir.path(), &accounts);
}

#[test]
fn a_database_that_is_replaced_under_load_is_not_mixed_with_the_other() {
    let dir = load_folder();
    let kept = dir.path().join("kept.db");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    fs::hard_link(database(dir.path()), &kept).unwrap();
    let backup = backup(dir.path());
    let content = fs::read(&backup).unwrap();
    let (accounts, _) = change_under_load(server, || {
        fs::rename(&backup, database(dir.path())).unwrap();
    });
    assert_eq!(files(dir.path()), [".env", "kept.db", DATABASE]);
    assert!(fs::read(database(dir.path())).unwrap() == content);
    // The supervisor starts it again on the replacement.
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    let Account { name, password, .. } = &accounts[0];
    assert_eq!(server.sign_in("/auth", name, password).status, 401);
    assert!(server.stop().success());
    fs::rename(&kept, database(dir.path())).unwrap();
    assert_holds(dir.path(), &accounts);
}

#[test]
fn a_side_file_that_is_deleted_under_load_loses_nothing() {
    for ends in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let dir = load_folder();
        let server = Server::start(dir.path(), &[]);
        let (accounts, _) = change_under_load(server, || {
            for end in ends {
                fs::remove_file(side(dir.path(), end)).unwrap();
            }
        });
        assert_eq!(files(dir.path()), [".env", DATABASE], "{ends:?}");
        assert_holds(dir.path(), &accounts);
    }
}

#[test]
fn an_idle_server_notices_within_about_a_second() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    fs::rename(database(dir.path()), dir.path().join("away.db")).unwrap();
    let began = Instant::now();
    assert_ends(server);
    assert!(began.elapsed() < Duration::from_secs(5), "{began:?}");
}

#[test]
fn two_servers_on_a_file_that_is_replaced_both_end_and_complete_it() {
    let dir = load_folder();
    let kept = dir.path().join("kept.db");
    let (one, two) = (
        Server::start(dir.path(), &[]),
        Server::start(dir.path(), &[]),
    );
    let password = one.register("alice");
    let backup = backup(dir.path());
    let content = fs::read(&backup).unwrap();
    fs::hard_link(database(dir.path()), &kept).unwrap();
    let (accounts, _) = change_under_load(one, || {
        fs::rename(&backup, database(dir.path())).unwrap();
    });
    assert_ends(two);
    assert_eq!(files(dir.path()), [".env", "kept.db", DATABASE]);
    assert!(fs::read(database(dir.path())).unwrap() == content);
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    assert!(server.stop().success());
    fs::rename(&kept, database(dir.path())).unwrap();
    assert_holds(dir.path(), &accounts);
}

/// Another program that reads the state of now until it is dropped.
fn reader(dir: &Path) -> rusqlite::Connection {
    let conn = sql(dir);
    conn.execute_batch("BEGIN; SELECT count(*) FROM users")
        .unwrap();
    conn
}

#[test]
fn a_log_that_could_not_be_emptied_is_set_aside_from_the_replacement() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let backup = backup(dir.path());
    let reader = reader(dir.path());
    let password = server.register("alice");
    let kept = dir.path().join("kept.db");
    fs::hard_link(database(dir.path()), &kept).unwrap();
    fs::rename(&backup, database(dir.path())).unwrap();
    let log = assert_ends(server);
    let inode = fs::metadata(&kept).unwrap().ino();
    let aside = format!("{DATABASE}-wal-of-inode-{inode}");
    assert!(log.contains(&format!("{aside} was not emptied")), "{log}");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 401);
    assert!(server.stop().success());
    drop(reader);
    // With its log beside it again the old one is complete.
    fs::rename(&kept, database(dir.path())).unwrap();
    fs::rename(dir.path().join(aside), side(dir.path(), "-wal")).unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
}

#[test]
fn a_log_that_must_stay_beside_the_database_is_named_at_the_end() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let reader = reader(dir.path());
    server.register("bob");
    let log = server.stop_for_log();
    assert!(log.contains("-wal was not emptied"), "{log}");
    drop(reader);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM users"), 1);
}

#[test]
fn a_link_that_leads_elsewhere_ends_the_server_and_leaves_the_file_to_other_programs() {
    let dir = folder("DATABASE_URL=sqlite:link.db");
    let link = dir.path().join("link.db");
    let (old, new) = (dir.path().join("old.db"), dir.path().join("new.db"));
    fs::write(&old, b"").unwrap();
    symlink("old.db", &link).unwrap();
    let server = Server::start(dir.path(), &[]);
    server.register("alice");
    let other = rusqlite::Connection::open(&old).unwrap();
    other
        .execute("VACUUM INTO ?", [new.to_str().unwrap()])
        .unwrap();
    server.register("bob");
    symlink("new.db", dir.path().join("link")).unwrap();
    fs::rename(dir.path().join("link"), &link).unwrap();
    assert_ends(server);
    for end in ["-wal", "-shm"] {
        assert!(dir.path().join(format!("old.db{end}")).exists(), "{end}");
    }
    let users = |conn: &rusqlite::Connection| -> i64 {
        let count = "SELECT count(*) FROM users";
        conn.query_row(count, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(users(&other), 2);
    assert_eq!(users(&rusqlite::Connection::open(&new).unwrap()), 1);
}
