//! No request takes longer than thirty seconds, whatever it waits for.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::time::Instant;

use crate::support::{JSON, TestApp};

const LIMIT: Duration = Duration::from_secs(30);

/// Paused time runs ahead while nothing but a hashing thread works, so a hash
/// of some milliseconds lasts longer than the limit.
#[tokio::test]
async fn a_request_that_takes_thirty_seconds_is_busy_with_the_time_to_come_back() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    tokio::time::pause();
    let credentials = serde_json::json!({"username": "alice", "password": password});
    let sign_up = serde_json::json!({"username": "bob", "email": "bob@example.com"});
    for (path, body) in [("/auth", credentials), ("/register", sign_up)] {
        let began = Instant::now();
        let reply = app.send("POST", path, &[JSON], body.to_string()).await;
        assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs(), "{path}");
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(reply.error(), "the request took too long");
        assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1);
    }
}
