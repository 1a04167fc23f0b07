//! An unknown username costs as much work as a wrong password, counted exactly.

use std::time::Duration;

use axum::http::StatusCode;

use crate::support::TestApp;

/// KiB times passes of a refused sign-in.
async fn work(app: &TestApp, name: &str) -> u64 {
    app.advance(Duration::from_millis(100));
    let before = app.state.accounts.hasher.computed_cost();
    let reply = app.sign_in("/auth", name, "wrong").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    app.state.accounts.hasher.computed_cost() - before
}

#[tokio::test]
async fn an_unknown_name_costs_what_a_wrong_password_does() {
    let raised = "ARGON2_MEMORY_KIB=20000\nARGON2_PASSES=3\nARGON2_LANES=2";
    for (settings, expected) in [("", 19_456 * 2), (raised, 20_000 * 3)] {
        let app = TestApp::with_settings(settings).await;
        app.register("alice").await;
        app.execute("INSERT INTO users (username, password_hash) VALUES ('broken', 'no hash')");
        for name in ["alice", "nobody", "a\u{200b}b", "broken", "alice"] {
            assert_eq!(work(&app, name).await, expected, "{name}");
        }
    }
}
