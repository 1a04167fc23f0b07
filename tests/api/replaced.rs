//! A database file that is moved away under the running service.

use std::fs;

use axum::http::StatusCode;

use crate::support::{JSON, Reply, TestApp};

async fn sign_up(app: &TestApp, name: &str) -> Reply {
    let body = format!(r#"{{"username":"{name}","email":"{name}@example.com"}}"#);
    app.send("POST", "/register", &[JSON], body).await
}

#[tokio::test]
async fn nothing_more_is_answered_from_a_file_that_was_moved_even_when_it_comes_back() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let set = app.key_set().await.text();
    let away = app.database().with_file_name("away.db");
    fs::rename(app.database(), &away).unwrap();
    for back in [false, true] {
        if back {
            fs::rename(&away, app.database()).unwrap();
        }
        for reply in [
            app.sign_in("/auth", "alice", &password).await,
            // A file that is gone gives no verdict on a password.
            app.sign_in("/auth", "alice", "x").await,
            sign_up(&app, "bob").await,
        ] {
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1);
        }
        // The key set is in memory.
        assert_eq!(app.key_set().await.text(), set);
    }
    assert_eq!(app.rows("SELECT username FROM users"), ["alice"]);
    // Either of a read and a write has the service end.
    app.store.ended().await;
}
