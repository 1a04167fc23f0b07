//! `GET /`: who gets the page and who the list of routes; what the page says, and that
//! nothing which a client or the configuration says gets out of its place.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jwks_server::crypto::digest::sha256;
use serde_json::Value;

use crate::support::{Reply, TestApp};

const BROWSER: (&str, &str) = (
    "accept",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
);

async fn page_with(app: &TestApp, headers: &[(&str, &str)]) -> Reply {
    let headers = [&[BROWSER], headers].concat();
    let reply = app.send("GET", "/", &headers, "").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    reply
}

async fn page(app: &TestApp) -> String {
    page_with(app, &[]).await.text()
}

/// The text between two others, each time.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    let parts = text.split(before).skip(1);
    parts
        .map(|part| part.split(after).next().unwrap())
        .collect()
}

#[tokio::test]
async fn those_who_rank_html_above_json_get_the_page_and_all_others_the_routes() {
    let app = TestApp::start().await;
    for (accept, is_page) in [
        (BROWSER.1, true),
        ("text/html", true),
        ("TEXT/HTML; Level=1", true),
        ("text/*", true),
        ("text/html, */*", true),
        ("application/json;q=0.5, text/html;q=0.501", true),
        ("application/json;q=0, */*", true),
        ("nonsense, text/html", true),
        ("", false),
        ("*/*", false),
        ("application/json", false),
        ("application/json, text/plain, */*", false),
        ("application/json, text/html", false),
        ("application/json;q=0.501, text/html;q=0.5", false),
        ("text/html;q=0", false),
        ("text/html;q=0, */*", false),
        ("text/html;q=2", false),
        ("text/html;q=NaN", false),
        ("text/html;q=", false),
        ("text/*, text/html;q=0", false),
        ("image/png", false),
        ("nonsense", false),
    ] {
        let reply = app.send("GET", "/", &[("accept", accept)], "").await;
        assert_eq!(reply.status, StatusCode::OK);
        let kind = if is_page {
            "text/html; charset=utf-8"
        } else {
            "application/json"
        };
        assert_eq!(reply.header("content-type"), kind, "{accept}");
        assert_eq!(reply.header("vary"), "accept");
        let head = app.send("HEAD", "/", &[("accept", accept)], "").await;
        assert_eq!((head.header("content-type"), &*head.text()), (kind, ""));
    }
    let several = [
        ("accept", "application/json;q=0.1"),
        ("accept", "text/html"),
    ];
    let reply = app.send("GET", "/", &several, "").await;
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(
        app.send("OPTIONS", "/", &[], "").await.status,
        StatusCode::NO_CONTENT
    );
    let post = app.send("POST", "/", &[BROWSER], "").await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(post.header("allow"), "GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn each_route_of_the_list_is_there() {
    for settings in ["", "ISSUER=https://issuer.example/t/1"] {
        let app = TestApp::with_settings(settings).await;
        let list = app.send("GET", "/", &[], "").await.json();
        let routes: BTreeSet<_> = list["routes"]
            .as_array()
            .unwrap()
            .iter()
            .map(route)
            .collect();
        let expected = if settings.is_empty() { 8 } else { 10 };
        assert_eq!(routes.len(), expected, "{list}");
        for (method, path) in routes {
            let reply = app.send(method, path, &[], "").await;
            let none = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
            assert!(!none.contains(&reply.status), "{method} {path}");
        }
    }
}

fn route(listed: &Value) -> (&str, &str) {
    (
        listed["method"].as_str().unwrap(),
        listed["path"].as_str().unwrap(),
    )
}

#[tokio::test]
async fn the_policy_allows_the_one_style_and_nothing_else() {
    let app = TestApp::start().await;
    let reply = page_with(&app, &[]).await;
    let text = reply.text();
    let styles = between(&text, "<style>", "</style>");
    assert_eq!(styles.len(), 1);
    let hash = STANDARD.encode(sha256(styles[0].as_bytes()));
    assert_eq!(
        reply.header("content-security-policy"),
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    );
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("referrer-policy"), "no-referrer");
    for part in [
        "<script",
        " style=",
        "<form",
        "<img",
        "<link",
        "javascript:",
        " on",
    ] {
        let tags = text.replace(styles[0], "");
        let is_there = between(&tags, "<", ">")
            .iter()
            .any(|tag| format!("<{tag}").contains(part));
        assert!(!is_there, "{part}");
    }
}

/// Both the drawing and the table, at moments of each kind.
#[tokio::test]
async fn the_times_of_the_drawing_and_of_the_table_are_those_of_the_timetable() {
    let mut app = TestApp::start().await;
    for _ in 0..12 {
        let schedule = "/.well-known/jwks-schedule.json";
        let schedule = app.send("GET", schedule, &[], "").await.json();
        let text = page(&app).await;
        let drawing = between(&text, "<svg role=\"img\"", "</figure>")[0];
        let table = between(&text, "<tbody", "</tbody>")[0];
        let keys = schedule["keys"].as_array().unwrap();
        assert_eq!(between(drawing, "data-kid=\"", "\"").len(), keys.len());
        for key in keys {
            let kid = key["kid"].as_str().unwrap();
            let bar = between(drawing, &format!("data-kid=\"{kid}\""), "</g>")[0];
            let row = between(table, &format!("<code>{kid}</code>"), "</tr>")[0];
            let mut ends = between(bar, "data-from=\"", "\"");
            ends.extend(between(bar, "data-to=\"", "\""));
            let mut shown = between(row, "datetime=\"", "\"");
            for name in [
                "published_from",
                "signs_from",
                "stops_signing",
                "unpublished_at",
            ] {
                let Some(time) = key[name]["time"].as_str() else {
                    assert_eq!(name, "stops_signing");
                    continue;
                };
                assert!(
                    ends.contains(&&*key[name]["epoch"].to_string()),
                    "{name}: {bar}"
                );
                assert_eq!(shown.remove(0), time, "{name}: {row}");
            }
            assert!(shown.is_empty());
            assert!(row.contains(key["state"].as_str().unwrap()), "{row}");
        }
        let next = schedule["next_rotation"]["epoch"].to_string();
        let planned = between(drawing, "class=\"key next-key\"", "</g>")[0];
        assert_eq!(
            between(planned, "data-from=\"", "\"").first(),
            Some(&&*next)
        );
        let row = between(table, "<tr class=\"planned\"", "</tr>")[0];
        let shown: Vec<_> = between(row, "datetime=\"", "\"")
            .into_iter()
            .map(|time| humantime::parse_rfc3339(time).unwrap())
            .map(|time| {
                time.duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_secs()
                    .to_string()
            })
            .collect();
        let mut drawn = between(planned, "data-from=\"", "\"");
        drawn.extend(between(planned, "data-to=\"", "\"").last());
        assert_eq!(shown, drawn, "published, signs, stops, leaves: {row}");
        app.advance(Duration::from_secs(421));
        app.rotate().await;
    }
}

#[tokio::test]
async fn it_is_loaded_again_just_after_the_next_thing_happens() {
    let mut app = TestApp::start().await;
    let refresh = async |app: &TestApp| page_with(app, &[]).await.header("refresh").to_owned();
    // The next key is due after 1138 s, signs 602 s later, and the next is due 1138 s after it.
    assert_eq!(refresh(&app).await, "1139");
    app.advance(Duration::from_secs(1138));
    assert_eq!(refresh(&app).await, "5");
    app.rotate().await;
    assert_eq!(refresh(&app).await, "603");
    assert!(
        page(&app)
            .await
            .contains("signs now, until <time datetime=\"2027-01-15T08:29:00Z\">")
    );
}

#[tokio::test]
async fn before_the_first_key_the_page_says_so() {
    let app = TestApp::without_keys(tempfile::tempdir().unwrap(), "");
    let text = page(&app).await;
    assert!(text.contains("No key can sign at the moment") && !text.contains("<svg role"));
}

#[tokio::test]
async fn hostile_names_stay_text_and_hosts_that_a_shell_would_read_are_not_shown() {
    let app =
        TestApp::with_settings("AUDIENCE=\"</code><script>alert(1)</script>&amp;\\\"'\"").await;
    for (host, is_shown) in [
        ("keys.example:8443", true),
        ("[::1]:8080", true),
        ("127.0.0.1", true),
        ("keys.example;reboot", false),
        ("$(reboot)", false),
        ("<script>", false),
        ("a'b", false),
        ("a\"b", false),
        ("user@keys.example", false),
        ("keys.example:99999", false),
        ("", false),
        (&"a.".repeat(200), false),
    ] {
        let text = page_with(&app, &[("host", host)]).await.text();
        let line = format!("curl -s -X POST -u alice:$PASSWORD http://{host}/auth\n");
        let line = line.trim_end();
        assert_eq!(text.contains(line) && !host.is_empty(), is_shown, "{host}");
        let ours = "-u alice:$PASSWORD http://localhost:8080/auth";
        assert_eq!(text.contains(ours), !is_shown, "{host}");
        assert!(!text.contains("<script"), "{host}");
        assert!(text.contains("&lt;script&gt;alert(1)"), "{host}");
    }
}

#[tokio::test]
async fn the_address_is_the_one_by_which_the_client_came() {
    let settings = "ISSUER=https://issuer.example:8443/t/1\nTRUSTED_PROXIES=192.0.2.0/24";
    let app = TestApp::with_settings(settings).await;
    let https = ("x-forwarded-proto", "https");
    for (peer, headers, origin) in [
        (
            "192.0.2.1",
            vec![("host", "Issuer.Example:8443")],
            "https://issuer.example:8443",
        ),
        (
            "192.0.2.1",
            vec![("host", "other.example"), https],
            "https://other.example",
        ),
        (
            "198.51.100.1",
            vec![("host", "other.example"), https],
            "http://other.example",
        ),
        ("198.51.100.1", vec![], "https://issuer.example:8443"),
    ] {
        let headers = [vec![BROWSER], headers].concat();
        let reply = app.send_from(peer, "GET", "/", &headers, "").await;
        assert!(
            reply
                .text()
                .contains(&format!("curl -s {origin}/.well-known/jwks.json<"))
        );
    }
    // Verifiers fetch from the issuer, wherever the page was seen.
    assert!(
        page(&app)
            .await
            .contains("https://issuer.example:8443/t/1/.well-known/jwks.json<")
    );
}

#[tokio::test]
async fn settings_of_verifiers_are_those_of_this_configuration() {
    let settings = "ISSUER=https://issuer.example\nAUDIENCE=a,b\nJWKS_MAX_AGE=7m\nCLOCK_SKEW=31s";
    let text = page(&TestApp::with_settings(settings).await).await;
    for line in [
        "lifespan=420",
        "leeway=31",
        "issuer=&quot;https://issuer.example&quot;",
        "audience=[&quot;a&quot;,&quot;b&quot;]",
        "cacheMaxAge: 420000",
        "clockTolerance: 31",
        "RefreshInterval: 420 * time.Second",
        "jwt.WithAudience(&quot;a&quot;, &quot;b&quot;)",
        "issuer-uri: &quot;https://issuer.example&quot;",
        "audiences: [&quot;a&quot;,&quot;b&quot;]",
        "OIDCJWKSRefreshInterval 420",
        "OIDCOAuthServerMetadataURL https://issuer.example/.well-known/openid-configuration",
        "7m, never over 10m",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let text = page(&TestApp::start().await).await;
    for line in [
        "issuer=",
        "audience=",
        "WithIssuer",
        "issuer-uri",
        "audiences",
        "ServerMetadata",
    ] {
        assert!(!text.contains(line), "{line}");
    }
    assert!(text.contains("OIDCOAuthVerifyJwksUri http://localhost:8080/.well-known/jwks.json"));
}
