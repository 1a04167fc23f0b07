//! The store by itself: files that it opens and refuses, inspection without a
//! change, and the mapping of SQLite's errors.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt as _;
use jwks_server::clock::{Clock, UnixTime};
use jwks_server::lifecycle::Kid;
use jwks_server::store::{
    Inspection, KeyChange, KeyRows, KeySelection, SchemaState, SqliteStore, Store, StoreError,
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{START, TestApp};

/// A stopped database after one sign-in at [`START`], and its path.
async fn stopped() -> (TempDir, PathBuf) {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    app.token("/auth", "alice", &password).await;
    let path = app.database();
    (app.stop().await, path)
}

/// A file as the earlier server makes one, with one key.
fn earlier() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    let columns = "CREATE TABLE keys (kid INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, exp INTEGER NOT NULL);
        INSERT INTO keys VALUES (7, 'sealed', 42);";
    execute(&path, columns);
    (dir, path)
}

fn execute(path: &Path, statements: &str) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(statements).unwrap();
}

/// Looks at a file, and sees that this leaves no trace.
#[track_caller]
fn inspect(path: &Path) -> Inspection {
    let (bytes, files) = (fs::read(path).unwrap(), names(path));
    let found = SqliteStore::inspect(path).unwrap().unwrap();
    assert_eq!((fs::read(path).unwrap(), names(path)), (bytes, files));
    found
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Why opening and looking refuse the schema, which must be the same.
#[track_caller]
fn refusal(path: &Path) -> String {
    let SchemaState::Unusable(told) = inspect(path).schema else {
        panic!("it is usable");
    };
    let refused = Store::open(path).err().unwrap();
    assert_eq!(told.to_string(), refused.to_string());
    refused.to_string()
}

#[tokio::test]
async fn a_stopped_database_is_reported_as_it_is() {
    let (_dir, path) = stopped().await;
    let found = inspect(&path);
    assert!(matches!(found.schema, SchemaState::Current));
    assert_eq!(found.damages, Vec::<String>::new());
    assert_eq!(found.last_sign_in, Some(START));
    let KeyRows { rows, bad, .. } = &found.keys;
    assert_eq!((rows.len(), bad.len()), (2, 0));
    assert!(rows.iter().all(|key| key.times.signs_from.is_some()));
    assert_eq!(SqliteStore::peek_keys(&path).unwrap(), found.keys);
}

#[tokio::test]
async fn a_running_database_is_reported_with_what_is_in_its_side_files() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    app.token("/auth", "alice", &password).await;
    let found = SqliteStore::inspect(&app.database()).unwrap().unwrap();
    assert!(matches!(found.schema, SchemaState::Current));
    let found = (found.keys.rows.len(), found.last_sign_in);
    assert_eq!(found, (2, Some(START)));
    let modes = SqliteStore::file_modes(&app.database()).unwrap();
    let modes: Vec<_> = modes
        .into_iter()
        .map(|(path, mode)| (path.file_name().unwrap().to_owned(), mode))
        .collect();
    let expected = ["keys.db", "keys.db-wal", "keys.db-shm"].map(|name| (name.into(), 0o600));
    assert_eq!(modes, expected);
}

#[test]
fn what_is_missing_or_empty_is_no_database_and_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    assert!(SqliteStore::inspect(&path).unwrap().is_none());
    assert!(SqliteStore::peek_keys(&path).unwrap().rows.is_empty());
    assert!(SqliteStore::file_modes(&path).unwrap().is_empty());
    assert_eq!(names(&path), Vec::<String>::new());
    fs::write(&path, "").unwrap();
    assert!(SqliteStore::inspect(&path).unwrap().is_none());
    assert_eq!(fs::read(&path).unwrap(), b"");
    fs::write(&path, "not a database").unwrap();
    let not_one = "SQLite cannot use it: file is not a database";
    assert_eq!(
        SqliteStore::inspect(&path).unwrap_err().to_string(),
        not_one
    );
    assert_eq!(
        SqliteStore::peek_keys(&path).unwrap_err().to_string(),
        not_one
    );
    let folder = SqliteStore::inspect(dir.path()).unwrap_err().to_string();
    assert!(folder.ends_with(" is not a regular file"), "{folder}");
    SqliteStore::inspect(&path.join("below")).unwrap_err();
    SqliteStore::file_modes(&path.join("below")).unwrap_err();
}

#[tokio::test]
async fn a_file_of_the_earlier_server_is_older_until_it_is_opened() {
    let (_dir, path) = earlier();
    let found = inspect(&path);
    let SchemaState::Older { has, needs } = found.schema else {
        panic!("{:?}", found.schema);
    };
    let files = fs::read_dir("migrations").unwrap();
    let all = files
        .filter(|file| file.as_ref().unwrap().path().is_file())
        .count();
    assert_eq!((has, needs), (0, all));
    assert_eq!(found.last_sign_in, None);
    assert_eq!(found.keys, SqliteStore::peek_keys(&path).unwrap());
    let keys = found.keys.rows;
    assert_eq!(keys[0].times.kid.as_i64(), 7);
    assert_eq!(keys[0].sealed, b"sealed");
    Store::open(&path).unwrap().close().await;
    let found = inspect(&path);
    assert!(matches!(found.schema, SchemaState::Current));
    assert_eq!(found.keys.rows.len(), 1);
}

#[test]
fn an_older_file_without_keys_is_reported_without() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    execute(&path, "CREATE TABLE notes (text)");
    let found = inspect(&path);
    assert!(matches!(found.schema, SchemaState::Older { has: 0, .. }));
    assert_eq!(found.keys, KeyRows::default());
    assert!(SqliteStore::peek_keys(&path).unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_column_too_many_is_reported_and_refused_alike() {
    let (_dir, path) = stopped().await;
    execute(&path, "ALTER TABLE keys ADD COLUMN note TEXT");
    let needle =
        "its table keys has the columns (kid,key,exp,note) where this service needs (kid,key,exp)";
    assert_eq!(refusal(&path), needle);
}

#[tokio::test]
async fn a_step_that_was_another_one_and_a_table_that_is_gone_are_reported() {
    for (change, needle) in [
        (
            "UPDATE refinery_schema_history SET checksum = '5' WHERE version = 2",
            "its schema cannot be brought up to date: its step V2__key_times was another one",
        ),
        (
            "DROP TABLE auth_logs",
            "its table auth_logs has the columns (none) where this service needs (id,request_ip,request_timestamp,user_id)",
        ),
    ] {
        let (_dir, path) = stopped().await;
        execute(&path, change);
        let SchemaState::Unusable(told) = inspect(&path).schema else {
            panic!("{change}");
        };
        assert_eq!(told.to_string(), needle);
    }
}

/// Later steps may alter what an older file has, so only its own steps say how that is.
#[tokio::test]
async fn a_file_is_held_to_the_steps_that_it_knows_of() {
    let (_dir, path) = stopped().await;
    execute(
        &path,
        "DELETE FROM refinery_schema_history WHERE version > 2;
         DROP TABLE key_events; DROP TABLE withdrawn_keys; DROP TABLE earlier_keys;
         DROP TABLE service_settings; DROP TABLE disabled_accounts;
         DROP TABLE enabled_accounts; DROP TABLE adopted_keys; DROP TABLE adopted_key_events;",
    );
    let older = inspect(&path).schema;
    assert!(matches!(older, SchemaState::Older { has: 2, .. }));
    execute(
        &path,
        include_str!("../../migrations/V6__disabled_accounts.sql"),
    );
    let told = refusal(&path);
    assert!(told.contains("disabled_accounts"), "{told}");
    execute(&path, "DROP TABLE disabled_accounts");
    Store::open(&path).unwrap().close().await;
    assert!(matches!(inspect(&path).schema, SchemaState::Current));
}

#[tokio::test]
async fn a_table_or_index_that_changes_what_is_written_is_refused() {
    let users = |username: &str, more: &str| {
        format!(
            "DROP TABLE auth_logs; DROP TABLE users;
             CREATE TABLE users (id INTEGER PRIMARY KEY, username {username},
                password_hash TEXT NOT NULL, email TEXT UNIQUE, date_registered TIMESTAMP,
                last_login TIMESTAMP{more});
             CREATE TABLE auth_logs (id INTEGER PRIMARY KEY, request_ip TEXT,
                request_timestamp TIMESTAMP, user_id INTEGER)"
        )
    };
    for change in [
        &*users("TEXT UNIQUE ON CONFLICT REPLACE", ""),
        &users("TEXT UNIQUE COLLATE NOCASE", ""),
        &users("TEXT UNIQUE", ", CHECK (username <> 'alice')"),
        &users("TEXT UNIQUE", ", secret AS (password_hash)"),
        &users("TEXT", ""),
        "CREATE UNIQUE INDEX one ON auth_logs (request_ip)",
        "CREATE UNIQUE INDEX one ON users (last_login)",
        "CREATE INDEX one ON keys (abs(exp))",
        "CREATE INDEX one ON keys (exp) WHERE exp > 0",
        "CREATE UNIQUE INDEX one ON key_events (event) WHERE event = 'revoked'",
        "CREATE UNIQUE INDEX one ON withdrawn_keys ((1))",
        "DROP INDEX key_events_once",
        "DROP TABLE withdrawn_keys; CREATE TABLE withdrawn_keys (id INTEGER PRIMARY KEY, kid INTEGER UNIQUE ON CONFLICT IGNORE, at INTEGER)",
    ] {
        let (_dir, path) = stopped().await;
        execute(&path, change);
        let told = refusal(&path);
        assert!(
            told.contains("may change what is written"),
            "{change}: {told}"
        );
    }
}

#[tokio::test]
async fn shared_tables_that_say_the_same_in_other_words_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    execute(
        &path,
        "CREATE TABLE \"keys\" (\n\tkid INTEGER NOT NULL, \n\t\"key\" BLOB NOT NULL, \n\texp INTEGER NOT NULL, \n\tPRIMARY KEY (kid)\n);
         create table Users(id integer primary key,username varchar(255) not null,
            password_hash varchar not null,email varchar,date_registered datetime,
            last_login datetime,unique(username));
         CREATE UNIQUE INDEX ix_users_email ON Users (email);
         CREATE INDEX ix_exp ON keys (exp);
         CREATE TABLE auth_logs (id INTEGER NOT NULL, request_ip VARCHAR NOT NULL,
            request_timestamp DATETIME, user_id INTEGER, PRIMARY KEY (id),
            FOREIGN KEY(user_id) REFERENCES users (id));",
    );
    Store::open(&path).unwrap().close().await;
    assert!(matches!(inspect(&path).schema, SchemaState::Current));
    Store::open(&path).unwrap().close().await;
}

#[tokio::test]
async fn a_damaged_page_is_reported() {
    let (_dir, path) = stopped().await;
    let root: u32 = Connection::open(&path)
        .unwrap()
        .query_row(
            "SELECT rootpage FROM sqlite_master WHERE name = 'key_events'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let page = (root as usize - 1) * 4096;
    bytes[page + 8..page + 64].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let damages = inspect(&path).damages;
    assert!(!damages.is_empty() && !damages.iter().any(|line| line == "ok"));
}

#[tokio::test]
async fn a_file_that_others_may_read_is_taken_from_them() {
    let (_dir, path) = earlier();
    for (before, after) in [
        (0o644, 0o600),
        (0o604, 0o600),
        (0o660, 0o600),
        (0o700, 0o600),
        (0o400, 0o600),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
        Store::open(&path).unwrap().close().await;
        assert_eq!(mode(&path), after, "{before:o}");
    }
    let dir = tempfile::tempdir().unwrap();
    let refused = Store::open(dir.path()).err().unwrap().to_string();
    assert!(refused.ends_with(" is not a regular file"), "{refused}");
}

#[tokio::test]
async fn a_write_ahead_log_of_another_time_is_refused_and_the_right_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.db");
    let log = dir.path().join("keys.db-wal");
    Store::open(&path).unwrap().close().await;
    let store = Store::open(&path).unwrap();
    // As a crash would leave them; the rows are the same, so nothing is damaged.
    let mut states = Vec::new();
    for _ in 0..4 {
        states.push((fs::read(&path).unwrap(), fs::read(&log).unwrap()));
        store.checkpoint().await.unwrap();
    }
    store.close().await;
    for (file_of, (file_bytes, _)) in states.iter().enumerate() {
        for (log_of, (_, log_bytes)) in states.iter().enumerate() {
            fs::write(&path, file_bytes).unwrap();
            fs::write(&log, log_bytes).unwrap();
            let opened = Store::open(&path);
            // The second: the log has been moved into the file, and no other begun.
            let is_right = file_of == log_of || file_of == log_of + 1;
            assert_eq!(opened.is_ok(), is_right, "file {file_of}, log {log_of}");
            match opened {
                Ok(store) => store.close().await,
                Err(e) => assert_eq!(fs::read(&log).unwrap(), *log_bytes, "{e}"),
            }
        }
    }
}

#[test]
fn an_error_of_sqlite_is_mapped_by_what_may_be_done() {
    let conn = Connection::open_in_memory().unwrap();
    let run = |sql: &str| StoreError::from(conn.execute_batch(sql).unwrap_err());
    conn.execute_batch(
        "PRAGMA foreign_keys = ON;
         CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
         CREATE TABLE b (a INTEGER REFERENCES a(id));
         INSERT INTO a VALUES (1, 'x');",
    )
    .unwrap();
    for taken in [
        "INSERT INTO a VALUES (1, 'y')",
        "INSERT INTO a VALUES (2, 'x')",
    ] {
        assert!(matches!(run(taken), StoreError::AlreadyExists), "{taken}");
    }
    for wrong in [
        "INSERT INTO a VALUES (2, NULL)",
        "INSERT INTO b VALUES (9)",
        "SELECT nothing",
    ] {
        assert!(matches!(run(wrong), StoreError::Refused(_)), "{wrong}");
    }
    conn.execute_batch("PRAGMA query_only = ON").unwrap();
    assert!(matches!(run("DELETE FROM a"), StoreError::Unavailable(_)));
}

#[tokio::test]
async fn a_row_of_the_wrong_type_counts_nowhere_and_is_named() {
    let app = TestApp::start().await;
    app.execute("INSERT INTO keys (kid, key, exp) VALUES (9, 'x', 'never'), (8, 5, 1900000000)");
    let (around, all) = (
        app.store.keys_at(START, 9).await,
        app.store.all_keys().await,
    );
    for found in [around.unwrap(), all.unwrap()] {
        assert_eq!(found.rows.len(), 2);
        let bad: Vec<_> = found.bad.iter().map(ToString::to_string).collect();
        let told = |column: &str, row: u8| {
            format!("column {column} of table keys holds a value of the wrong type in row {row}")
        };
        assert_eq!(bad, [told("key", 8), told("exp", 9)]);
    }
}

#[tokio::test]
async fn an_expired_row_of_the_wrong_type_does_not_hide_the_last_good_one() {
    let app = TestApp::start().await;
    app.execute("INSERT INTO keys (kid, key, exp) VALUES (8, 5, 1799999999)");
    let found = app.store.keys_at(START, 1).await.unwrap();
    assert_eq!((found.rows.len(), found.bad.len()), (2, 0));
}

/// A column that is missing is no row of the wrong type: nothing may be dropped
/// for it, or any `NOT_MY_KEY` would fit.
#[tokio::test]
async fn a_query_of_keys_that_misses_a_column_fails() {
    let app = TestApp::start().await;
    app.execute("ALTER TABLE key_times RENAME COLUMN signs_from TO other");
    let refused = |found: Result<KeyRows, StoreError>| {
        let error = found.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    };
    refused(app.store.keys_at(START, 9).await);
    refused(app.store.all_keys().await);
    SqliteStore::peek_keys(&app.database()).unwrap_err();
}

#[tokio::test]
async fn only_what_is_past_its_retention_can_be_pruned_and_is() {
    let app = TestApp::start().await;
    app.execute("INSERT INTO keys (kid, key, exp) VALUES (8, 'x', 100), (9, 'x', 200)");
    let (before, keep) = (UnixTime::from_secs(200), Some(Kid::from_row(8)));
    assert!(!app.store.can_prune_keys(before, keep).await.unwrap());
    assert_eq!(app.store.prune_keys(before, keep, START).await.unwrap(), 0);
    assert!(app.store.can_prune_keys(before, None).await.unwrap());
    assert_eq!(app.store.prune_keys(before, None, START).await.unwrap(), 1);
    assert_eq!(app.rows("SELECT kid FROM keys WHERE kid < 10"), ["9"]);
}

#[tokio::test]
async fn a_planned_change_is_written_whole_with_its_events_or_not_at_all() {
    let app = TestApp::start().await;
    app.execute(
        "DELETE FROM keys; DELETE FROM key_events;
        INSERT INTO keys (kid, key, exp) VALUES (1, 'a', 9), (2, 'b', 1900000000), (3, 'c', 9)",
    );
    let plan = |keys: &KeyRows, now| {
        assert_eq!((keys.rows.len(), now), (3, START));
        let change = KeyChange {
            revoke: vec![Kid::from_row(1), Kid::from_row(2)],
            reason: "lost".to_owned(),
            reencrypt: vec![(Kid::from_row(3), b"new".to_vec())],
            ..KeyChange::default()
        };
        (change, 7)
    };
    let clock = app.clock.clone() as Arc<dyn Clock>;
    let refuse = move |keys: &KeyRows, now| {
        plan(keys, now);
        Err::<(KeyChange, u8), _>(StoreError::AlreadyExists)
    };
    let refused = app
        .store
        .change_keys(KeySelection::All, &clock, refuse)
        .await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists)));
    assert_eq!(app.rows("SELECT count(*) FROM key_events"), ["0"]);
    let accept = move |keys: &KeyRows, now| Ok::<_, StoreError>(plan(keys, now));
    let made = app
        .store
        .change_keys(KeySelection::All, &clock, accept)
        .await;
    assert_eq!(made.unwrap(), 7);
    assert_eq!(
        app.rows("SELECT kid, key, exp FROM keys ORDER BY kid"),
        ["1|a|9", "2|b|1800000000", "3|new|9"]
    );
    assert_eq!(
        app.rows("SELECT kid, event, reason FROM key_events ORDER BY id"),
        ["1|revoked|lost", "2|revoked|lost", "3|reencrypted|"]
    );
}

#[tokio::test]
async fn the_change_counter_grows_and_old_events_of_deleted_keys_are_forgotten() {
    let app = TestApp::start().await;
    let counter = async || app.store.change_counter().await.unwrap();
    assert_eq!(counter().await, 2);
    // A revocation counts for as long as a copy of the row may come back.
    app.execute("INSERT INTO key_events (kid, event, at) VALUES (8, 'revoked', 0)");
    app.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001)
         INSERT INTO key_events (kid, event, at) SELECT 9, 'deleted', 0 FROM n",
    );
    assert_eq!(counter().await, 10_004);
    assert!(app.store.ended().now_or_never().is_none());
    let before = UnixTime::from_secs(0);
    app.store.prune_keys(before, None, START).await.unwrap();
    let left = app.rows("SELECT kid = 9, count(*), min(id) FROM key_events GROUP BY 1 ORDER BY 1");
    assert_eq!(left, ["0|3|1", "1|10000|5"]);
}

#[test]
fn another_table_with_the_name_of_one_of_ours_is_refused() {
    let (_dir, path) = earlier();
    execute(&path, "CREATE TABLE key_times (other)");
    let refused = refusal(&path);
    assert!(
        refused.starts_with("its table key_times, or an index of it, is not"),
        "{refused}"
    );
}
