//! Headers of every answer, and secrets that stay out of the log.

use axum::http::StatusCode;

use crate::log;
use crate::support::{JSON, TestApp};

#[tokio::test]
async fn a_harmless_request_id_comes_back_and_others_are_replaced() {
    let app = TestApp::start().await;
    for path in ["/.well-known/jwks.json", "/nope", "/auth"] {
        for id in ["a", "Trace-1.b_2", &"x".repeat(64)] {
            let reply = app.send("GET", path, &[("x-request-id", id)], "").await;
            assert_eq!(reply.header("x-request-id"), id);
            assert_eq!(reply.header("x-content-type-options"), "nosniff");
        }
        let mut made = Vec::new();
        for id in ["", "a b", "a\"b", "{}", "a/b", &"x".repeat(65)] {
            let reply = app.send("GET", path, &[("x-request-id", id)], "").await;
            let given = reply.header("x-request-id").to_owned();
            assert!(uuid::Uuid::parse_str(&given).is_ok(), "{given}");
            made.push(given);
        }
        let none = app.send("GET", path, &[], "").await;
        made.push(none.header("x-request-id").to_owned());
        made.sort();
        made.dedup();
        assert_eq!(made.len(), 7);
    }
}

#[tokio::test]
async fn every_kind_of_answer_has_its_common_headers_and_names_no_server() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let good = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    let wrong = r#"{"username":"alice","password":"wrong"}"#;
    let large = "x".repeat(20_000);
    let taken = r#"{"username":"alice","email":"other@example.com"}"#;
    let new = r#"{"username":"bob","email":"bob@example.com"}"#;
    let with_id = |extra| vec![("x-request-id", "r-1"), extra];
    for (method, path, headers, body, status) in [
        ("POST", "/auth", with_id(JSON), good.as_str(), 200),
        ("POST", "/auth", with_id(JSON), "{", 400),
        (
            "POST",
            "/auth",
            with_id(("content-type", "text/xml")),
            "x",
            415,
        ),
        ("POST", "/auth?expired", with_id(JSON), good.as_str(), 200),
        ("POST", "/auth", with_id(JSON), wrong, 401),
        ("POST", "/auth", with_id(JSON), large.as_str(), 413),
        ("POST", "/register", with_id(JSON), taken, 409),
        ("POST", "/register", with_id(JSON), new, 201),
        ("GET", "/nowhere", with_id(JSON), "", 404),
        ("GET", "/.well-known/jwks.json", with_id(JSON), "", 200),
        (
            "GET",
            "/.well-known/jwks.json",
            with_id(("if-none-match", "*")),
            "",
            304,
        ),
        (
            "HEAD",
            "/.well-known/jwks-schedule.json",
            with_id(JSON),
            "",
            200,
        ),
        ("GET", "/register", with_id(JSON), "", 405),
        ("OPTIONS", "/.well-known/jwks.json", with_id(JSON), "", 204),
    ] {
        let reply = app.send(method, path, &headers, body.to_owned()).await;
        assert_eq!(reply.status.as_u16(), status, "{method} {path}");
        assert_eq!(reply.header("x-request-id"), "r-1");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        for name in ["server", "x-powered-by", "via"] {
            assert!(!reply.headers.contains_key(name), "{name}");
        }
    }
    let refused = async || app.sign_in("/auth", "alice", "x").await;
    let mut reply = refused().await;
    while reply.status != StatusCode::TOO_MANY_REQUESTS {
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        reply = refused().await;
    }
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    app.store.clone().close().await;
    let reply = app.send("POST", "/register", &[JSON], new).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn fr_41_sign_ins_and_refusals_are_logged_and_secrets_are_not() {
    log::capture();
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let token = app.token("/auth", "alice", &password).await;
    let wrong = app.sign_in("/auth", "alice", "not-her-password").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    app.sign_in("/auth", "forged\nline", "x").await;
    let text = log::captured();
    let lines = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("signed in client=192.0.2.1 user_id=1"), 1, "{text}");
    assert_eq!(
        lines("sign-in refused client=192.0.2.1 username=\"alice\""),
        1
    );
    assert_eq!(lines(r#"username="forged\nline""#), 1);
    let hash = app.rows("SELECT password_hash FROM users").remove(0);
    for secret in [
        password.as_str(),
        "not-her-password",
        &token.0,
        token.0.rsplit('.').next().unwrap(),
        &hash,
        "PRIVATE KEY",
        "gAAAA",
    ] {
        assert!(!text.contains(secret), "{secret}\n{text}");
    }
}

#[tokio::test]
async fn fr_41_a_sign_in_that_cannot_be_logged_gives_no_token_and_an_error_line() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    app.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON auth_logs BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    log::capture();
    let reply = app.sign_in("/auth", "alice", &password).await;
    let log = log::captured();
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reply.error(), "something went wrong on the server");
    assert_eq!(log.matches(" ERROR ").count(), 1, "{log}");
    assert_eq!(app.rows("SELECT last_login FROM users"), [""]);
    // Others are not held up by it, and it ends with its cause.
    app.register("bob").await;
    app.execute("DROP TRIGGER refuse");
    app.token("/auth", "alice", &password).await;
    assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["1"]);
}
