//! 404 and 405, and that 405 comes before the quota, credentials and body.

use axum::http::StatusCode;

use crate::support::{JSON, Reply, TestApp};

const KEY_SET: &str = "/.well-known/jwks.json";

#[track_caller]
fn is_405(reply: &Reply, method: &str, allow: &str) {
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    let sent: Vec<_> = reply.headers.get_all("allow").iter().collect();
    assert_eq!(sent, [allow], "{method}");
    assert_eq!(reply.header("content-type"), "application/json");
    if method == "HEAD" {
        assert_eq!(reply.text(), "");
    } else {
        assert_eq!(reply.error(), format!("this path answers only {allow}"));
    }
}

#[tokio::test]
async fn fr_24_wrong_methods_are_405_with_the_methods_that_are_right() {
    let app = TestApp::start().await;
    for path in ["/auth", "/register", "/auth?expired"] {
        for method in [
            "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY",
        ] {
            let reply = app.send(method, path, &[], "").await;
            is_405(&reply, method, "POST");
        }
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"] {
        let reply = app.send(method, KEY_SET, &[], "").await;
        is_405(&reply, method, "GET, HEAD, OPTIONS");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
    }
}

#[tokio::test]
async fn fr_24_a_wrong_method_is_decided_before_limiter_credentials_and_body() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    // None of these counts as a sign-in.
    let good = serde_json::json!({"username": "alice", "password": password}).to_string();
    for _ in 0..20 {
        is_405(
            &app.send("PUT", "/auth", &[JSON], good.clone()).await,
            "PUT",
            "POST",
        );
    }
    assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["0"]);
    for _ in 0..10 {
        let reply = app.sign_in("/auth", "nobody", "x").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
    let refused = app.sign_in("/auth", "nobody", "x").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    is_405(&app.send("GET", "/auth", &[], "").await, "GET", "POST");
    let xml = [("content-type", "text/xml")];
    for path in ["/auth", "/register"] {
        let reply = app.send("PATCH", path, &xml, "x".repeat(20_000)).await;
        is_405(&reply, "PATCH", "POST");
    }
}

#[tokio::test]
async fn fr_24_other_paths_are_404_without_a_redirect() {
    let app = TestApp::start().await;
    for path in [
        "/nope",
        "/auth/",
        "/register/",
        "//auth",
        "/Auth",
        "/.well-known",
        "/.well-known/",
        "/.well-known/jwks.json/",
        "//.well-known/jwks.json",
        "/.well-known/JWKS.json",
        "/.well-known/jwks.json/x",
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
            let reply = app.send(method, path, &[], "").await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method} {path}");
            assert_eq!(reply.header("content-type"), "application/json");
            assert_eq!((reply.header("location"), reply.header("allow")), ("", ""));
            if method != "HEAD" {
                assert_eq!(
                    reply.error(),
                    "there is nothing at this path; see GET /.well-known/jwks.json, POST /register and POST /auth"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_query_on_the_key_set_changes_nothing() {
    let app = TestApp::start().await;
    let path = format!("{KEY_SET}?expired=1");
    let reply = app.send("GET", &path, &[], "").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.text(), app.key_set().await.text());
}
