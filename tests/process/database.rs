//! The database file: its mode, what is refused, and other programs at it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{
    Connection, DATABASE, JSON, Server, clear_env, command, database, files, folder, fresh_key,
    number, program, refusal, run, sql, used_folder,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn under_umask_022(dir: &Path) -> Command {
    let mut command = Command::new("sh");
    clear_env(&mut command)
        .args(["-c", "umask 022; exec \"$0\""])
        .arg(program())
        .current_dir(dir);
    command
}

/// The last line of a start that was refused, and left the file as it is.
fn refused_unchanged(dir: &Path) -> String {
    let before = fs::read(database(dir)).unwrap();
    let ended = run(&mut command(dir));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(fs::read(database(dir)).unwrap() == before);
    assert_eq!(files(dir), [".env", DATABASE]);
    let last = ended.stderr.lines().last().unwrap().to_owned();
    assert!(
        last.starts_with("jwks-server: ") && last.contains(DATABASE),
        "{last}"
    );
    last
}

#[test]
fn fr_21_database_and_side_files_are_for_their_owner_alone_under_umask_022() {
    let dir = folder("");
    let server = Server::start_command(&mut under_umask_022(dir.path()));
    server.register("alice");
    let side = |end| format!("{DATABASE}{end}");
    let all = [side(""), side("-reserve"), side("-shm"), side("-wal")];
    assert_eq!(files(dir.path())[1..], all);
    for name in all {
        assert_eq!(mode(&dir.path().join(&name)), 0o600, "{name}");
    }
}

#[test]
fn fr_21_a_file_that_others_may_read_is_closed_to_them() {
    let dir = folder("");
    assert!(Server::start(dir.path(), &[]).stop().success());
    fs::set_permissions(database(dir.path()), fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::start_command(&mut under_umask_022(dir.path()));
    server.register("alice");
    for end in ["", "-shm", "-wal"] {
        let path = dir.path().join(format!("{DATABASE}{end}"));
        assert_eq!(mode(&path), 0o600, "{end}");
    }
}

#[test]
fn fr_21_side_files_that_others_may_read_are_closed_to_them_also_beside_a_link() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    server.register("alice");
    drop(server);
    let log = dir.path().join(format!("{DATABASE}-wal"));
    fs::set_permissions(&log, fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink(DATABASE, dir.path().join("link.db")).unwrap();
    let server = Server::start_command(command(dir.path()).env("DATABASE_URL", "sqlite:link.db"));
    server.register("bob");
    assert_eq!(mode(&log), 0o600);
}

#[test]
fn an_empty_file_is_taken_as_a_new_database() {
    let dir = folder("");
    fs::write(database(dir.path()), b"").unwrap();
    let server = Server::start_command(&mut under_umask_022(dir.path()));
    let password = server.register("alice");
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    assert_eq!(mode(&database(dir.path())), 0o600);
}

#[test]
fn a_database_whose_migrations_have_a_gap_is_refused_and_left_as_it_is() {
    let dir = used_folder("");
    let conn = sql(dir.path());
    conn.execute(
        "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
         VALUES (99, 'of_the_future', '2030-01-01T00:00:00Z', '1')",
        [],
    )
    .unwrap();
    drop(conn);
    let said = refused_unchanged(dir.path());
    assert!(said.contains("V99__of_the_future is where V"), "{said}");
}

#[test]
fn a_database_with_other_columns_is_refused_and_left_as_it_is() {
    for (table, columns) in [
        (
            "keys",
            "kid INTEGER PRIMARY KEY, key BLOB, exp INTEGER, alg TEXT",
        ),
        ("keys", "kid INTEGER PRIMARY KEY, exp INTEGER, key BLOB"),
        ("users", "id INTEGER PRIMARY KEY, name TEXT"),
        ("auth_logs", "id INTEGER PRIMARY KEY, user_id INTEGER"),
    ] {
        let dir = folder("");
        let conn = sql(dir.path());
        conn.execute_batch(&format!("CREATE TABLE {table} ({columns})"))
            .unwrap();
        drop(conn);
        let said = refused_unchanged(dir.path());
        assert!(said.contains(&format!("its table {table} has")), "{said}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let dir = folder("");
    fs::write(database(dir.path()), "not a database, ".repeat(100)).unwrap();
    refused_unchanged(dir.path());
}

/// A stopped database of the earlier server's journal mode, as a kill within a
/// commit leaves it: with all mail addresses overwritten in the file, and what
/// undoes that in the journal.
fn killed_within_a_commit() -> TempDir {
    let (at_work, dir) = (used_folder(""), folder(""));
    let server = Server::start(at_work.path(), &[]);
    server.register("alice");
    assert!(server.stop().success());
    let conn = sql(at_work.path());
    conn.execute_batch(
        "PRAGMA journal_mode = DELETE;
         INSERT INTO users (username, password_hash, email)
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 500)
             SELECT 'user' || n, 'none', 'user' || n || '@example.com' FROM n;
         BEGIN;
         UPDATE users SET email = 'lost' || id;",
    )
    .unwrap();
    conn.cache_flush().unwrap();
    for name in [DATABASE, &format!("{DATABASE}-journal"), ".env"] {
        fs::copy(at_work.path().join(name), dir.path().join(name)).unwrap();
    }
    let file = fs::read(database(dir.path())).unwrap();
    assert!(file.windows(7).any(|part| part == b"lost100"));
    dir
}

#[test]
fn fr_40_a_database_whose_writer_was_killed_within_a_commit_is_opened_as_it_was_before() {
    let dir = killed_within_a_commit();
    let report = command(dir.path()).arg("doctor").output().unwrap();
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(report.contains("a hot journal lies beside it"), "{report}");
    let journal = format!("{DATABASE}-journal");
    assert_eq!(files(dir.path()), [".env", DATABASE, &journal]);
    let server = Server::start(dir.path(), &[]);
    server.register("bob");
    assert!(server.stop().success());
    assert_eq!(files(dir.path()), [".env", DATABASE]);
    let lost = "SELECT count(*) FROM users WHERE email LIKE 'lost%'";
    assert_eq!(number(dir.path(), lost), 0);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM users"), 502);
}

#[test]
fn a_start_that_is_refused_rolls_back_an_unfinished_commit_and_changes_nothing_else() {
    let dir = killed_within_a_commit();
    let ended = run(command(dir.path()).env("NOT_MY_KEY", fresh_key()));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let said = "NOT_MY_KEY opens none of the published keys";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert_eq!(files(dir.path()), [".env", DATABASE]);
    let lost = "SELECT count(*) FROM users WHERE email LIKE 'lost%'";
    assert_eq!(number(dir.path(), lost), 0);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM users"), 501);
}

#[test]
fn a_path_at_which_no_database_can_be_is_refused_by_name() {
    for url in ["sqlite:missing/keys.db", "sqlite:."] {
        let dir = folder("");
        // One line: it is refused before it listens.
        let line = refusal(command(dir.path()).env("DATABASE_URL", url), &[]);
        assert!(line.contains(&url["sqlite:".len()..]), "{line}");
        assert_eq!(files(dir.path()), [".env"]);
    }
}

#[test]
fn fr_40_after_a_clean_stop_the_file_alone_is_complete() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    for n in 0..5 {
        let name = format!("user{n}");
        let password = server.register(&name);
        assert_eq!(server.sign_in("/auth", &name, &password).status, 200);
    }
    assert!(server.stop().success());
    assert_eq!(files(dir.path()), [".env", DATABASE]);
    let copy = tempfile::tempdir().unwrap();
    fs::copy(database(dir.path()), database(copy.path())).unwrap();
    for (table, rows) in [
        ("users", 5),
        ("auth_logs", 5),
        ("keys", 2),
        ("key_times", 2),
    ] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(number(copy.path(), &count), rows, "{table}");
    }
}

#[test]
fn fr_40_another_program_reads_and_writes_while_it_runs() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    assert_eq!(server.key_set().status, 200);
    let other = sql(dir.path());
    // Nothing waits: what a reader or writer meets, it meets at once.
    other.busy_timeout(Duration::ZERO).unwrap();
    for n in 0..20 {
        server.register(&format!("user{n}"));
        let users: i64 = other
            .query_row("SELECT count(*) FROM users", [], |row| row.get(0))
            .unwrap();
        assert_eq!(users, n + 2);
    }
    let added = "INSERT INTO users (username, password_hash) SELECT 'twin', password_hash FROM users WHERE username = 'alice'";
    assert_eq!(other.execute(added, []).unwrap(), 1);
    assert_eq!(server.sign_in("/auth", "twin", &password).status, 200);
    let gone = "DELETE FROM users WHERE username = 'alice'";
    assert_eq!(other.execute(gone, []).unwrap(), 1);
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 401);
}

#[test]
fn fr_15_while_another_program_writes_reads_go_on_and_writes_wait() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    let other = sql(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Connection::open(server.addr);
    let body = br#"{"username":"alice","email":"alice@example.com"}"#;
    waiting.write_request("POST", "/register", &[JSON], body);
    assert_eq!(server.key_set().status, 200);
    assert_eq!(server.sign_in("/auth", "nobody", "x").status, 401);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(waiting.read_reply("POST").status, 201);
}

#[test]
fn fr_15_a_lock_that_stays_is_a_503_that_says_when_to_come_back() {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    assert_eq!(server.key_set().status, 200);
    let other = sql(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reply = server.sign_in("/auth", "alice", &password);
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1);
    assert!(reply.json()["error"].is_string());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
}
