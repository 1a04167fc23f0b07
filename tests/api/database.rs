//! The database file as other programs see it: its shape, its rows, and what
//! happens while one of them holds it.

use std::cell::Cell;
use std::time::Duration;

use axum::http::StatusCode;
use jwks_server::crypto::password::{MIN_MEMORY_KIB, MIN_PASSES};
use rusqlite::Connection;

use crate::support::{JSON, Reply, TestApp};

#[tokio::test]
async fn fr_40_the_tables_of_the_contract_have_just_their_columns() {
    let app = TestApp::start().await;
    for (table, columns) in [
        ("keys", "kid INTEGER 0 1, key BLOB 1 0, exp INTEGER 1 0"),
        (
            "users",
            "id INTEGER 0 1, username TEXT 1 0, password_hash TEXT 1 0, email TEXT 0 0, \
             date_registered TIMESTAMP 0 0, last_login TIMESTAMP 0 0",
        ),
        (
            "auth_logs",
            "id INTEGER 0 1, request_ip TEXT 1 0, request_timestamp TIMESTAMP 0 0, user_id INTEGER 0 0",
        ),
    ] {
        let found = app.rows(&format!(
            "SELECT group_concat(name || ' ' || type || ' ' || \"notnull\" || ' ' || pk, ', ')
             FROM (SELECT * FROM pragma_table_info('{table}') ORDER BY cid)"
        ));
        assert_eq!(found, [columns], "{table}");
        let sql = app.rows(&format!(
            "SELECT sql FROM sqlite_master WHERE name = '{table}'"
        ));
        assert!(sql[0].contains("PRIMARY KEY AUTOINCREMENT"), "{table}");
    }
    assert_eq!(
        app.rows(
            "SELECT dflt_value FROM pragma_table_info('auth_logs') WHERE name = 'request_timestamp'"
        ),
        ["CURRENT_TIMESTAMP"]
    );
    assert_eq!(app.rows("PRAGMA journal_mode"), ["wal"]);
}

#[tokio::test]
async fn fr_40_keys_are_sealed_text_and_times_are_utc_text() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    app.advance(Duration::from_secs(1861));
    app.token("/auth", "alice", &password).await;
    for key in app.rows("SELECT key FROM keys") {
        assert!(key.starts_with("gAAAA"), "{key}");
        let pem = app.sealing_keys.open(key.as_bytes()).unwrap();
        assert!(pem.starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
    }
    assert_eq!(
        app.rows("SELECT typeof(kid), typeof(exp), exp > 1800000000 FROM keys ORDER BY exp"),
        ["integer|integer|0", "integer|integer|1"]
    );
    assert_eq!(
        app.rows("SELECT typeof(date_registered), date_registered, typeof(last_login), last_login FROM users"),
        ["text|2027-01-15 08:00:00|text|2027-01-15 08:31:01"]
    );
    assert_eq!(
        app.rows("SELECT * FROM auth_logs"),
        ["1|192.0.2.1|2027-01-15 08:31:01|1"]
    );
}

#[tokio::test]
async fn fr_40_another_program_writes_while_the_service_runs() {
    let app = TestApp::start().await;
    let other = app.sql();
    other.busy_timeout(Duration::ZERO).unwrap();
    let password = app.register("alice").await;
    for n in 1..=5 {
        app.token("/auth", "alice", &password).await;
        let seen: i64 = other
            .query_row("SELECT count(*) FROM auth_logs", [], |row| row.get(0))
            .unwrap();
        assert_eq!(seen, n);
        other
            .execute("UPDATE users SET last_login = NULL", [])
            .unwrap();
    }
}

#[tokio::test]
async fn fr_40_after_a_clean_stop_the_file_alone_is_complete() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    app.token("/auth", "alice", &password).await;
    let dir = app.stop().await;
    let copy = dir.path().join("copy.db");
    std::fs::copy(dir.path().join("keys.db"), &copy).unwrap();
    let conn = Connection::open(copy).unwrap();
    for (table, rows) in [("keys", 2), ("users", 1), ("auth_logs", 1)] {
        let sql = format!("SELECT count(*) FROM {table}");
        let found: i64 = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(found, rows, "{table}");
    }
}

#[tokio::test]
async fn a_plain_copy_of_the_file_in_use_has_what_was_there_at_the_last_new_key() {
    let mut app = TestApp::start().await;
    app.register("alice").await;
    let keys = || app.rows("SELECT count(*) FROM keys").remove(0);
    let before = keys();
    app.advance(Duration::from_secs(20 * 60));
    app.rotate().await;
    let keys = app.rows("SELECT count(*) FROM keys").remove(0);
    assert_ne!(keys, before);
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    std::fs::copy(app.database(), &copy).unwrap();
    let copy = Connection::open(copy).unwrap();
    let found: String = copy
        .query_row(
            "SELECT (SELECT count(*) FROM keys) || username FROM users",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(found, keys + "alice");
}

#[tokio::test]
async fn fr_41_every_200_leaves_one_row_and_nothing_else_does() {
    let app = TestApp::start().await;
    app.register("bob").await;
    let password = app.register("alice").await;
    for path in ["/auth", "/auth?expired", "/auth"] {
        app.advance(Duration::from_secs(1));
        app.token(path, "alice", &password).await;
    }
    let before = app.rows("SELECT * FROM auth_logs");
    assert_eq!(
        before,
        [
            "1|192.0.2.1|2027-01-15 08:00:01|2",
            "2|192.0.2.1|2027-01-15 08:00:02|2",
            "3|192.0.2.1|2027-01-15 08:00:03|2",
        ]
    );
    assert_eq!(
        app.rows("SELECT username, last_login FROM users ORDER BY id"),
        ["bob|", "alice|2027-01-15 08:00:03"]
    );
    app.advance(Duration::from_secs(1));
    let good = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    let xml = ("content-type", "text/xml");
    let large = format!("{good}{}", " ".repeat(16_384));
    for (method, header, body, status) in [
        ("POST", JSON, r#"{"username":"alice","password":"x"}"#, 401),
        ("POST", JSON, r#"{"username":"carol","password":"x"}"#, 401),
        ("POST", JSON, "{", 400),
        ("PUT", JSON, &good, 405),
        ("POST", xml, &good, 415),
        ("POST", JSON, &large, 413),
        ("POST", JSON, "{}", 400),
        ("POST", JSON, "{}", 400),
        ("POST", JSON, "{}", 400),
        ("POST", JSON, "{}", 400),
        ("POST", JSON, "{}", 400),
        ("POST", JSON, &good, 429),
        ("POST", JSON, &good, 429),
    ] {
        let reply = app.send(method, "/auth", &[header], body.to_owned()).await;
        assert_eq!(reply.status.as_u16(), status, "{method} {body}");
    }
    assert_eq!(app.rows("SELECT * FROM auth_logs"), before);
    assert_eq!(
        app.rows("SELECT last_login FROM users WHERE username = 'alice'"),
        ["2027-01-15 08:00:03"]
    );
}

const BOB: &str = r#"{"username":"bob","email":"bob@example.com"}"#;

#[track_caller]
fn is_busy(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.header("retry-after"), "2");
    assert_eq!(reply.error(), "the database is not available at the moment");
}

/// Takes the five seconds that a statement waits for a lock.
#[tokio::test]
async fn fr_15_while_another_program_holds_the_file_auth_is_503_and_the_key_set_answers() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let other = app.sql();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut waiting = std::pin::pin!(app.sign_in("/auth", "alice", &password));
    let mut fetched = 0;
    let signing_in = loop {
        tokio::select! {
            reply = &mut waiting => break reply,
            reply = app.key_set() => assert_eq!(reply.status, StatusCode::OK),
        }
        fetched += 1;
        if fetched > 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    is_busy(&signing_in);
    assert!(fetched >= 10, "{fetched} key sets came before the refusal");
    // Reading goes on, so what is wrong is still told so.
    let reply = app.sign_in("/auth", "alice", "x").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["0"]);
    assert_eq!(app.rows("SELECT last_login FROM users"), [""]);
    app.token("/auth", "alice", &password).await;
    assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["1"]);
}

/// Takes the five seconds that a statement waits for a lock.
#[tokio::test]
async fn fr_15_while_another_program_holds_the_file_register_is_503_and_takes_no_name() {
    let app = TestApp::start().await;
    let other = app.sql();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    is_busy(&app.send("POST", "/register", &[JSON], BOB).await);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["0"]);
    let reply = app.send("POST", "/register", &[JSON], BOB).await;
    assert_eq!(reply.status, StatusCode::CREATED);
}

/// A short lock is waited for, and while another program holds it nothing can be
/// committed: an answer that came meanwhile would not be on disk.
#[tokio::test]
async fn fr_15_a_sign_in_and_a_sign_up_are_answered_after_their_commit_and_not_before() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let hashed = app.state.accounts.hasher.computed_cost();
    let other = app.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let is_released = Cell::new(false);
    let (signing_in, registering, ()) = tokio::join!(
        async {
            let reply = app.sign_in("/auth", "alice", &password).await;
            (reply.status, is_released.get())
        },
        async {
            let reply = app.send("POST", "/register", &[JSON], BOB).await;
            (reply.status, is_released.get())
        },
        async {
            let work = u64::from(MIN_MEMORY_KIB) * u64::from(MIN_PASSES);
            while app.state.accounts.hasher.computed_cost() < hashed + 2 * work {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // The passwords are hashed; an answer that waits for nothing else comes now.
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["0"]);
            assert_eq!(app.rows("SELECT count(*) FROM users"), ["1"]);
            is_released.set(true);
            other.execute_batch("COMMIT").unwrap();
        }
    );
    assert_eq!(signing_in, (StatusCode::OK, true));
    assert_eq!(registering, (StatusCode::CREATED, true));
    assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["1"]);
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["2"]);
}

#[tokio::test]
async fn fr_15_a_lost_database_is_503_or_500_and_never_a_verdict_on_the_user() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    app.execute("ALTER TABLE users RENAME TO gone");
    for (path, body) in [
        (
            "/auth",
            format!(r#"{{"username":"alice","password":"{password}"}}"#),
        ),
        ("/auth", r#"{"username":"alice","password":"x"}"#.to_owned()),
        (
            "/register",
            r#"{"username":"alice","email":"alice@example.com"}"#.to_owned(),
        ),
    ] {
        let reply = app.send("POST", path, &[JSON], body).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert_eq!(reply.error(), "something went wrong on the server");
    }
    assert_eq!(app.key_set().await.status, StatusCode::OK);
    app.execute("ALTER TABLE gone RENAME TO users");
    app.token("/auth", "alice", &password).await;
}

#[tokio::test]
async fn fr_15_sign_ups_beside_another_writer_all_succeed() {
    let app = TestApp::start().await;
    let path = app.database();
    let writer = std::thread::spawn(move || {
        let conn = Connection::open(path).unwrap();
        conn.busy_timeout(Duration::from_secs(5)).unwrap();
        for _ in 0..200 {
            conn.execute(
                "INSERT INTO auth_logs (request_ip) VALUES ('198.51.100.1')",
                [],
            )
            .unwrap();
        }
    });
    for n in 0..20 {
        app.register(&format!("u{n}")).await;
    }
    writer.join().unwrap();
    assert_eq!(
        app.rows("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM auth_logs)"),
        ["20|200"]
    );
}

#[tokio::test]
async fn an_empty_file_that_is_there_already_becomes_the_database() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.db"), "").unwrap();
    let mut app = TestApp::without_keys(dir, "");
    app.rotate().await;
    app.register("alice").await;
    assert_eq!(app.rows("SELECT username FROM users"), ["alice"]);
}
