//! Another file in the place of the database, under the running service.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use jwks_server::store::Store;

use crate::support::{JSON, Reply, TestApp};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn backup(app: &TestApp) -> PathBuf {
    let path = app.database().with_file_name("backup.db");
    app.sql()
        .execute("VACUUM INTO ?", [path.to_str().unwrap()])
        .unwrap();
    path
}

async fn sign_up(app: &TestApp, name: &str) -> Reply {
    let body = format!(r#"{{"username":"{name}","email":"{name}@example.com"}}"#);
    app.send("POST", "/register", &[JSON], body).await
}

#[tokio::test]
async fn a_backup_whose_keys_have_all_expired_is_used_as_a_start_would_use_it() {
    let mut app = TestApp::start().await;
    let password = app.register("alice").await;
    let backup = backup(&app);
    app.advance(1000 * DAY);
    app.rotate().await;
    fs::rename(&backup, app.database()).unwrap();
    assert_eq!(sign_up(&app, "bob").await.status, StatusCode::CREATED);
    app.rotate().await;
    let set = app.key_set().await.json();
    let token = app.token("/auth", "alice", &password).await;
    assert!(token.verifies_against(&set));
}

#[tokio::test]
async fn a_database_of_another_not_my_key_is_refused_also_when_its_keys_have_expired() {
    let app = TestApp::start().await;
    let other = TestApp::start().await;
    let backup = backup(&other);
    app.advance(1000 * DAY);
    fs::rename(&backup, app.database()).unwrap();
    let reply = sign_up(&app, "bob").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn fr_21_a_backup_that_others_may_read_is_closed_to_them_when_it_is_used() {
    let app = TestApp::start().await;
    let backup = backup(&app);
    fs::set_permissions(&backup, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&backup, app.database()).unwrap();
    app.register("bob").await;
    for (path, bits) in Store::file_modes(&app.database()).unwrap() {
        assert_eq!(bits, 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn once_ours_is_closed_its_number_may_be_that_of_a_file_that_is_not_ours() {
    let app = TestApp::start().await;
    app.register("alice").await;
    let other = TestApp::start().await;
    other.register("alice").await;
    let theirs = backup(&other);
    let ours = app.database().with_file_name("ours.db");
    fs::rename(app.database(), &ours).unwrap();
    fs::copy(&theirs, app.database()).unwrap();
    let refused = sign_up(&app, "bob").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    // The same file with another content, as when a number is used again.
    fs::copy(&theirs, &ours).unwrap();
    fs::rename(&ours, app.database()).unwrap();
    let judged = app.sign_in("/auth", "alice", "x").await;
    assert_eq!(judged.status, StatusCode::SERVICE_UNAVAILABLE);
}
