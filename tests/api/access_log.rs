//! Headers of every answer, and secrets that stay out of the log.

use std::time::Duration;

use axum::http::StatusCode;

use crate::log;
use crate::support::{JSON, TestApp};

#[tokio::test]
async fn a_harmless_request_id_comes_back_and_others_are_replaced() {
    let app = TestApp::start().await;
    for path in ["/healthz", "/nope", "/auth"] {
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
        // An answer that caches keep must not give one client's id to others.
        let is_kept = reply.header("cache-control").starts_with("public");
        let id = if is_kept { "" } else { "r-1" };
        assert_eq!(reply.header("x-request-id"), id, "{method} {path}");
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
async fn a_valid_trace_is_in_the_log_beside_the_id_and_passed_back_and_others_are_ignored() {
    log::capture();
    let app = TestApp::start().await;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (trace, is_valid) in [
        (good.to_owned(), true),
        (good.replace("-01", "-ff"), true),
        (good.to_uppercase(), false),
        (good.replace("00-4", "01-4"), true),
        (format!("{}-x", good.replace("00-4", "fe-4")), true),
        (format!("{}-", good.replace("00-4", "cc-4")), true),
        (format!("{}.x", good.replace("00-4", "01-4")), false),
        (good.replace("00-4", "ff-4"), false),
        (format!("{}-x", good.replace("00-4", "ff-4")), false),
        (good.replace("00-4", "0-04"), false),
        (format!("{good}-"), false),
        (format!("{good}, {good}"), false),
        (
            good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            false,
        ),
        (good.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
        (good.replace('-', "_"), false),
        (good[..54].to_owned(), false),
        (String::new(), false),
    ] {
        let headers = [("traceparent", &*trace), ("x-request-id", "r-7")];
        let reply = app.send("POST", "/auth", &headers, "").await;
        // In the version that is known here.
        let known = trace.get(2..55).map(|known| format!("00{known}"));
        let expected = known.filter(|_| is_valid).unwrap_or_default();
        assert_eq!(reply.header("traceparent"), expected, "{trace:?}");
    }
    let twice = [("traceparent", good), ("traceparent", good)];
    let reply = app.send("GET", "/nowhere", &twice, "").await;
    assert_eq!(reply.header("traceparent"), "");
    // Caches would give one client's to others.
    let reply = app
        .send("GET", "/openapi.json", &[("traceparent", good)], "")
        .await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("traceparent")),
        (200, "")
    );
    let log = log::captured();
    let line = format!("request_id=\"r-7\" traceparent=\"{good}\"");
    assert!(log.contains(&line), "{log}");
    assert!(
        !log.contains("4BF92") && !log.contains("traceparent=\"01"),
        "{log}"
    );
}

#[tokio::test]
async fn fr_41_sign_ins_and_refusals_are_logged_and_secrets_are_not() {
    log::capture();
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let token = app.token("/auth", "alice", &password).await;
    let wrong = app.sign_in("/auth", "alice", "not-her-password").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    app.sign_in("/auth", "her-password-in-the-name", "x").await;
    let text = log::captured();
    let lines = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("signed in client=192.0.2.1 user_id=1"), 1, "{text}");
    assert_eq!(
        lines("sign-in refused client=192.0.2.1 username=\"alice\""),
        1
    );
    assert_eq!(
        lines("sign-in refused: unknown username client=192.0.2.1"),
        1
    );
    let hash = app.rows("SELECT password_hash FROM users").remove(0);
    for secret in [
        password.as_str(),
        "not-her-password",
        "her-password-in-the-name",
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

/// Lines of answers with a status, and the sum of those that had none.
fn answered(log: &str, status: u16) -> (usize, u64) {
    let lines = log
        .lines()
        .filter(|it| it.contains(&format!("status={status}")));
    let more = |line: &str| {
        line.split_once("more=")?
            .1
            .split(' ')
            .next()?
            .parse::<u64>()
            .ok()
    };
    let lines: Vec<_> = lines.collect();
    (
        lines.len(),
        lines.iter().filter_map(|line| more(line)).sum::<u64>(),
    )
}

#[tokio::test]
async fn many_refusals_of_a_client_in_a_second_are_few_lines_and_a_count() {
    let app = TestApp::start().await;
    log::capture();
    for _ in 0..60 {
        app.send("POST", "/auth", &[JSON], "{}").await;
        app.send("GET", "/nope", &[], "").await;
    }
    let other = app.send_from("192.0.2.9", "GET", "/nope", &[], "").await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    let text = log::captured();
    assert_eq!(answered(&text, 429), (1, 0), "{text}");
    assert_eq!(answered(&text, 404), (21, 0), "{text}");
    app.advance(Duration::from_secs(1));
    log::capture();
    app.send("GET", "/nope", &[], "").await;
    for _ in 0..15 {
        app.send("POST", "/auth", &[JSON], "{}").await;
    }
    app.state.refusals.sweep(Duration::MAX);
    let text = log::captured();
    assert_eq!(answered(&text, 404), (1, 40), "{text}");
    // 49 of the first second in the line of the second, whose other 4 follow.
    assert_eq!(answered(&text, 429), (2, 53), "{text}");
}

#[tokio::test]
async fn documents_fetched_well_have_no_line_and_any_other_status_has_twenty_in_a_second() {
    let app = TestApp::start().await;
    log::capture();
    for _ in 0..60 {
        let if_match = ("if-match", "\"x\"");
        app.send("GET", "/openapi.json", &[], "").await;
        app.send("GET", "/openapi.json", &[if_match], "").await;
    }
    let text = log::captured();
    assert_eq!(answered(&text, 412), (20, 0), "{text}");
    let is_noise = |line: &str| line.contains(" INFO ") && line.contains("status=200");
    assert!(!text.lines().any(is_noise), "{text}");
}

#[tokio::test]
async fn refusals_of_more_clients_than_are_kept_are_counted_together() {
    let app = TestApp::start().await;
    log::capture();
    for client in 0..10_005 {
        let client = format!("10.0.{}.{}", client / 250, client % 250);
        app.send_from(&client, "GET", "/nope", &[], "").await;
    }
    app.state.refusals.sweep(Duration::MAX);
    let text = log::captured();
    assert_eq!(answered(&text, 404), (10_000, 0));
    let together = "refusals of other clients, without a line each more=5";
    assert!(text.contains(together));
}

#[tokio::test]
async fn what_a_client_chooses_is_cut_in_the_log_and_the_name_of_an_account_too() {
    let app = TestApp::start().await;
    let long = "n".repeat(5000);
    app.execute(&format!(
        "INSERT INTO users (username, password_hash) VALUES ('{long}', 'x')"
    ));
    log::capture();
    app.sign_in("/auth", &long, "x").await;
    app.send(
        &"M".repeat(5000),
        &format!("/{}", "\u{e9}".repeat(5000)),
        &[],
        "",
    )
    .await;
    let text = log::captured();
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest < Some(1000), "{longest:?}");
    assert!(text.contains(&"n".repeat(200)) && text.contains(&"M".repeat(200)));
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_is_warned_of_once() {
    let app = TestApp::start().await;
    log::capture();
    for header in ["x-forwarded-for", "forwarded", "x-forwarded-for"] {
        app.send("GET", "/healthz", &[(header, "203.0.113.5")], "")
            .await;
    }
    let text = log::captured();
    assert_eq!(
        text.matches("add it to TRUSTED_PROXIES").count(),
        1,
        "{text}"
    );
    let ready = app.send("GET", "/readyz", &[], "").await;
    let warning = ready.json()["warning"].to_string();
    assert!(warning.contains("TRUSTED_PROXIES"), "{warning}");
    assert!(!warning.contains("192.0.2."), "{warning}");
    let app = TestApp::with_settings("TRUSTED_PROXIES=192.0.2.0/24").await;
    log::capture();
    let header = ("x-forwarded-for", "203.0.113.5");
    app.send("GET", "/healthz", &[header], "").await;
    assert!(!log::captured().contains("TRUSTED_PROXIES"));
    let ready = app.send("GET", "/readyz", &[], "").await;
    assert!(ready.json()["warning"].is_null());
}
