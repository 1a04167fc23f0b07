//! `/metrics`: its values, and that only its own listener answers it.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use crate::support::{JSON, TestApp, metrics, send_to_metrics};

/// The value of a sample, which must be there once.
#[track_caller]
fn value(page: &str, sample: &str) -> f64 {
    let start = format!("{sample} ");
    let found: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix(&start))
        .collect();
    assert_eq!(found.len(), 1, "{sample}: {page}");
    found[0].parse().unwrap()
}

#[track_caller]
fn has(page: &str, samples: &[(&str, f64)]) {
    for (sample, expected) in samples {
        assert_eq!(value(page, sample), *expected, "{sample}");
    }
}

#[tokio::test]
async fn it_is_text_on_a_listener_of_its_own_and_nothing_else_is_there() {
    let app = TestApp::start().await;
    let reply = send_to_metrics(&app.state, "GET", "/metrics").await;
    assert_eq!(reply.status, StatusCode::OK);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert!(reply.header("content-type").starts_with(kind));
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    let head = send_to_metrics(&app.state, "HEAD", "/metrics").await;
    assert_eq!((head.status, &*head.text()), (StatusCode::OK, ""));
    let post = send_to_metrics(&app.state, "POST", "/metrics").await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(post.header("x-content-type-options"), "nosniff");
    assert_eq!(post.header("allow"), "GET, HEAD");
    for path in ["/auth", "/.well-known/jwks.json", "/readyz"] {
        let reply = send_to_metrics(&app.state, "GET", path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        let text = "there is nothing at this path; see GET /metrics, or GET / for people";
        assert_eq!(reply.error(), text);
    }
    let reply = app.send("GET", "/metrics", &[], "").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn operators_find_readiness_counts_and_keys_at_its_root() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    app.token("/auth", "alice", &password).await;
    app.token("/auth", "alice", &password).await;
    app.sign_in("/auth", "alice", "x").await;
    let page = send_to_metrics(&app.state, "GET", "/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("refresh"), "10");
    let text = page.text();
    let kid = app.published_kids().await.remove(0);
    for part in [
        ">Ready<",
        "token given</th><td>2<",
        "unknown name or wrong password</th><td>1<",
        "Refused for too many calls</dt><dd>0<",
        "<dt>Client addresses remembered</dt>",
        "Processes seen</dt><dd>1<",
        ", and 0 failed",
        "<dt>Write-ahead log</dt>",
        "<dt>Disk</dt><dd>has room<",
        "in 18m 58s",
        &format!("data-kid=\"{kid}\""),
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The same style as the public page, under the same policy.
    let public = app.send("GET", "/", &[("accept", "text/html")], "").await;
    let policy = "content-security-policy";
    assert_eq!(page.header(policy), public.header(policy));
    // Neither names nor addresses.
    assert!(!text.contains("alice") && !text.contains("192.0.2.1"));
    let head = send_to_metrics(&app.state, "HEAD", "/").await;
    assert_eq!((head.status, &*head.text()), (StatusCode::OK, ""));
    let post = send_to_metrics(&app.state, "POST", "/").await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
    app.store.clone().close().await;
    // Readiness is tried once a second.
    app.advance(Duration::from_secs(2));
    let text = send_to_metrics(&app.state, "GET", "/").await.text();
    assert!(text.contains(">Not ready<"), "{text}");
    assert!(text.contains("the database cannot be written to"), "{text}");
}

#[tokio::test]
async fn every_family_has_help_and_a_type_and_a_conventional_name() {
    let app = TestApp::start().await;
    // Families by route are on the page from the first request on.
    app.key_set().await;
    cut_off_a_sign_in(&app).await;
    let page = metrics(&app.state).await;
    let mut families = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
        let [name, kind] = line[7..].split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        assert!(page.contains(&format!("# HELP {name} ")), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        assert!(name.starts_with("jwks_") || name.starts_with("process_"));
        families.push(name);
    }
    // Dashboards know them by these.
    let known = [
        "jwks_build_info",
        "process_start_time_seconds",
        "jwks_http_requests_total",
        "jwks_http_request_duration_seconds",
        "jwks_http_requests_abandoned_total",
        "jwks_sign_ins_total",
        "jwks_quota_refusals_total",
        "jwks_quota_clients",
        "jwks_hashing_queue_length",
        "jwks_keys",
        "jwks_keys_next_change_seconds",
        "jwks_next_key_seconds",
        "jwks_rotation_failures_total",
        "jwks_wal_bytes",
        "jwks_disk_low",
        "jwks_rotation_failing",
        "jwks_commits_total",
        "jwks_commit_writes",
        "jwks_commit_duration_seconds",
    ];
    assert_eq!(families, known);
}

#[tokio::test]
async fn sign_ins_are_counted_by_what_became_of_them() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let before = metrics(&app.state).await;
    let committed = r#"jwks_commits_total{outcome="committed"}"#;
    app.token("/auth", "alice", &password).await;
    app.token("/auth", "alice", &password).await;
    app.token("/auth?expired", "alice", &password).await;
    app.sign_in("/auth", "alice", "x").await;
    app.sign_in("/auth", "nobody", "x").await;
    app.send("POST", "/auth", &[JSON], "{").await;
    app.send("POST", "/auth", &[], "").await;
    app.send("POST", "/auth", &[JSON], "x".repeat(20_000)).await;
    // Not one of them: no sign-in is asked for.
    app.send("GET", "/auth", &[], "").await;
    app.sign_in("/auth", "nobody", "x").await;
    app.sign_in("/auth", "nobody", "x").await;
    // The quota is used up.
    for _ in 0..3 {
        let reply = app.sign_in("/auth", "alice", &password).await;
        assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    }
    let page = metrics(&app.state).await;
    let outcome = |name: &str| value(&page, &format!("jwks_sign_ins_total{{outcome=\"{name}\"}}"));
    let names = [
        "token",
        "expired_token",
        "bad_credentials",
        "malformed",
        "overloaded",
        "unavailable",
        "failed",
        "abandoned",
    ];
    let found = names.map(outcome);
    assert_eq!(found, [2.0, 1.0, 4.0, 3.0, 0.0, 0.0, 0.0, 0.0]);
    has(
        &page,
        &[
            ("jwks_quota_refusals_total", 3.0),
            // In the log of /auth and in that of /register.
            ("jwks_quota_clients", 2.0),
        ],
    );
    // Each token was written down, one at a time.
    let commits = value(&page, committed) - value(&before, committed);
    assert_eq!(commits, 3.0);
    let all = value(&page, committed);
    has(
        &page,
        &[
            (r#"jwks_commits_total{outcome="failed"}"#, 0.0),
            ("jwks_commit_writes_count", all),
            ("jwks_commit_writes_sum", all),
            (r#"jwks_commit_writes_bucket{le="1"}"#, all),
            ("jwks_commit_duration_seconds_count", all),
        ],
    );
    app.execute("ALTER TABLE users RENAME TO gone");
    app.advance(Duration::from_secs(1));
    app.sign_in("/auth", "alice", &password).await;
    let page = metrics(&app.state).await;
    has(&page, &[(r#"jwks_sign_ins_total{outcome="failed"}"#, 1.0)]);
}

/// A write waits five seconds for a lock.
#[tokio::test]
async fn what_the_database_refuses_is_counted_as_such() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let other = app.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reply = app.sign_in("/auth", "alice", &password).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let page = metrics(&app.state).await;
    has(
        &page,
        &[
            (r#"jwks_sign_ins_total{outcome="unavailable"}"#, 1.0),
            (r#"jwks_commits_total{outcome="failed"}"#, 1.0),
        ],
    );
}

/// A client that goes away while its sign-in waits for the database.
async fn cut_off_a_sign_in(app: &TestApp) {
    let body = json!({"username": "alice", "password": "x"}).to_string();
    let mut asked = Box::pin(app.send("POST", "/auth", &[JSON], body));
    let waits = std::future::poll_fn(|cx| {
        std::task::Poll::Ready(Future::poll(asked.as_mut(), cx).is_pending())
    });
    assert!(waits.await);
}

#[tokio::test]
async fn a_sign_in_that_is_cut_off_is_counted_as_abandoned() {
    let app = TestApp::start().await;
    cut_off_a_sign_in(&app).await;
    let page = metrics(&app.state).await;
    has(
        &page,
        &[
            (r#"jwks_sign_ins_total{outcome="abandoned"}"#, 1.0),
            (r#"jwks_http_requests_abandoned_total{route="/auth"}"#, 1.0),
        ],
    );
}

#[tokio::test]
async fn keys_are_shown_by_state_with_the_time_of_their_next_change() {
    let mut app = TestApp::start().await;
    let keys = |page: &str| {
        ["announced", "signing", "retiring", "expired", "revoked"]
            .map(|state| value(page, &format!("jwks_keys{{state=\"{state}\"}}")))
    };
    let change = |state: &str| format!("jwks_keys_next_change_seconds{{state=\"{state}\"}}");
    let page = metrics(&app.state).await;
    assert_eq!(keys(&page), [0.0, 1.0, 0.0, 1.0, 0.0]);
    // Signs for 1h - 30m - 60s; the next is due 10 min and 2 s before that ends.
    has(
        &page,
        &[
            (&change("signing"), 1740.0),
            ("jwks_next_key_seconds", 1138.0),
            ("process_start_time_seconds", 1_800_000_000.0),
        ],
    );
    assert!(!page.contains(&change("announced")), "{page}");
    app.advance(Duration::from_secs(1140));
    let page = metrics(&app.state).await;
    has(&page, &[("jwks_next_key_seconds", -2.0)]);
    app.rotate().await;
    let page = metrics(&app.state).await;
    assert_eq!(keys(&page), [1.0, 1.0, 0.0, 1.0, 0.0]);
    has(
        &page,
        &[(&change("announced"), 602.0), (&change("signing"), 600.0)],
    );
    app.advance(Duration::from_secs(602));
    let page = metrics(&app.state).await;
    assert_eq!(keys(&page), [0.0, 1.0, 1.0, 1.0, 0.0]);
    has(&page, &[(&change("retiring"), 3600.0 - 1742.0)]);
    let version = env!("CARGO_PKG_VERSION");
    has(
        &page,
        &[(&format!("jwks_build_info{{version=\"{version}\"}}"), 1.0)],
    );
}
