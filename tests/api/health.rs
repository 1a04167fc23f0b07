//! `/healthz` and `/readyz`: their answers, and their cost for the database.

use std::time::Duration;

use axum::http::StatusCode;

use crate::support::{Reply, TestApp, metrics};

const SECOND: Duration = Duration::from_secs(1);
const NOT_WRITABLE: &str = "the database cannot be written to";
const NO_KEY: &str = "no key can sign";
const ROTATION_FAILS: &str = "the rotation of keys fails";

async fn readyz(app: &TestApp) -> Reply {
    app.send("GET", "/readyz", &[], "").await
}

#[track_caller]
fn is_good(reply: &Reply, status: &str) {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.json(), serde_json::json!({ "status": status }));
}

#[track_caller]
fn is_not_ready(reply: &Reply, faults: &[&str]) {
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.header("retry-after"), "2");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.error(), faults.join("; "));
}

/// Transactions that were committed and that failed.
async fn commits(app: &TestApp) -> (u64, u64) {
    let page = metrics(&app.state).await;
    let number = |outcome: &str| {
        let line = format!("jwks_commits_total{{outcome=\"{outcome}\"}} ");
        let found = page.lines().find_map(|text| text.strip_prefix(&line));
        found.unwrap().parse().unwrap()
    };
    (number("committed"), number("failed"))
}

#[tokio::test]
async fn both_answer_get_and_head_and_no_other_method() {
    let app = TestApp::start().await;
    for (path, status) in [("/healthz", "alive"), ("/readyz", "ready")] {
        is_good(&app.send("GET", path, &[], "").await, status);
        let head = app.send("HEAD", path, &[], "").await;
        assert_eq!((head.status, &*head.text()), (StatusCode::OK, ""));
        assert_eq!(head.header("cache-control"), "no-store");
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let reply = app.send(method, path, &[], "").await;
            assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(reply.header("allow"), "GET, HEAD");
            assert_eq!(reply.header("cache-control"), "no-store");
            assert_eq!(reply.error(), "this path answers only GET, HEAD");
        }
    }
}

#[tokio::test]
async fn a_process_is_alive_also_without_keys_and_without_its_database() {
    let app = TestApp::without_keys(tempfile::tempdir().unwrap(), "");
    let other = app.sql();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    is_good(&app.send("GET", "/healthz", &[], "").await, "alive");
}

#[tokio::test]
async fn asking_leaves_nothing_in_the_database_and_is_one_transaction_a_second() {
    let app = TestApp::start().await;
    app.execute("PRAGMA user_version = 7");
    let content = |app: &TestApp| {
        let tables = app.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1");
        let rows = |table: &String| app.rows(&format!("SELECT * FROM \"{table}\""));
        let all: Vec<_> = tables.iter().map(rows).collect();
        (all, app.rows("PRAGMA user_version"))
    };
    let before = content(&app);
    let (committed, _) = commits(&app).await;
    for second in 1..=3 {
        for _ in 0..20 {
            is_good(&readyz(&app).await, "ready");
        }
        assert_eq!(commits(&app).await, (committed + second, 0));
        app.advance(SECOND);
    }
    let (one, two, three) = tokio::join!(readyz(&app), readyz(&app), readyz(&app));
    for reply in [one, two, three] {
        is_good(&reply, "ready");
    }
    assert_eq!(commits(&app).await, (committed + 4, 0));
    assert_eq!(content(&app), before);
}

/// The first time and after ten seconds a page is written, in between only the
/// lock is taken.
#[tokio::test]
async fn a_page_is_really_written_now_and_then() {
    let app = TestApp::start().await;
    let wal = app.database().with_extension("db-wal");
    let log = || std::fs::read(&wal).unwrap();
    let mut written = Vec::new();
    for _ in 0..21 {
        let before = log();
        is_good(&readyz(&app).await, "ready");
        written.push(log() != before);
        app.advance(SECOND);
    }
    let expected: Vec<_> = (0..21).map(|second| second % 10 == 0).collect();
    assert_eq!(written, expected);
}

#[tokio::test]
async fn while_another_program_holds_the_file_it_is_not_ready_and_says_so_soon() {
    let app = TestApp::start().await;
    let other = app.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (one, two) = tokio::join!(readyz(&app), readyz(&app));
    is_not_ready(&one, &[NOT_WRITABLE]);
    is_not_ready(&two, &[NOT_WRITABLE]);
    other.execute_batch("COMMIT").unwrap();
    // The outcome holds for a second.
    is_not_ready(&readyz(&app).await, &[NOT_WRITABLE]);
    app.advance(SECOND);
    is_good(&readyz(&app).await, "ready");
}

#[tokio::test]
async fn without_a_key_that_signs_it_is_not_ready() {
    let mut app = TestApp::without_keys(tempfile::tempdir().unwrap(), "");
    is_not_ready(&readyz(&app).await, &[NO_KEY]);
    app.rotate().await;
    is_good(&readyz(&app).await, "ready");
    // No tick until all keys are over.
    app.advance(Duration::from_secs(3601));
    is_not_ready(&readyz(&app).await, &[NO_KEY]);
    app.rotate().await;
    is_good(&readyz(&app).await, "ready");
}

#[tokio::test]
async fn while_the_rotation_fails_it_is_not_ready_though_a_key_still_signs() {
    let mut app = TestApp::start().await;
    app.execute("ALTER TABLE key_times RENAME TO gone");
    app.rotation.tick().await.unwrap_err();
    is_not_ready(&readyz(&app).await, &[ROTATION_FAILS]);
    let page = metrics(&app.state).await;
    assert!(
        page.contains("\njwks_rotation_failures_total 1\n"),
        "{page}"
    );
    assert!(page.contains("\njwks_rotation_failing 1\n"), "{page}");
    app.execute("ALTER TABLE gone RENAME TO key_times");
    app.rotate().await;
    is_good(&readyz(&app).await, "ready");
    let page = metrics(&app.state).await;
    assert!(
        page.contains("\njwks_rotation_failures_total 1\n"),
        "{page}"
    );
    assert!(page.contains("\njwks_rotation_failing 0\n"), "{page}");
}

/// The clock of the heartbeat is tokio's; a minute of it is over at once.
#[tokio::test]
async fn while_the_rotation_hangs_it_is_not_ready() {
    let app = TestApp::start().await;
    is_good(&readyz(&app).await, "ready");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    is_not_ready(&readyz(&app).await, &["the rotation of keys hangs"]);
}

#[tokio::test]
async fn everything_that_is_wrong_is_named() {
    let mut app = TestApp::without_keys(tempfile::tempdir().unwrap(), "");
    app.execute("ALTER TABLE key_times RENAME TO gone");
    app.rotation.tick().await.unwrap_err();
    let other = app.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let faults = [NOT_WRITABLE, NO_KEY, ROTATION_FAILS];
    is_not_ready(&readyz(&app).await, &faults);
}
