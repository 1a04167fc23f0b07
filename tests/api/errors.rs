//! FR-04: each fault of a body has its own status and a JSON error of this service,
//! in which nothing that was sent comes back.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;

use crate::support::{FORM, JSON, Reply, TestApp};

const XML: (&str, &str) = ("content-type", "text/xml");
const NOT_JSON: &str = "the body is not valid JSON";
const NO_OBJECT: &str = "the body must be a JSON object";
const NOT_UTF8: &str = "the body is not UTF-8 text";
const NO_NAME: &str = "username is missing";
const NAME_TWICE: &str = "username is given more than once";
const NAME_NO_TEXT: &str = "username must be a string";
const WRONG_TYPE: &str = "send the body as application/json or application/x-www-form-urlencoded, without Content-Encoding";
const TOO_LARGE: &str = "the body is over 16384 bytes";

/// Sends to a route, each time from a client that has its quota before it.
async fn post(app: &TestApp, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    app.advance(Duration::from_millis(100));
    app.send("POST", path, headers, body.to_vec()).await
}

#[track_caller]
fn is(reply: &Reply, status: u16, error: &str, what: &str) {
    assert_eq!(
        (reply.status.as_u16(), reply.error().as_str()),
        (status, error),
        "{what}"
    );
    assert_eq!(reply.header("cache-control"), "no-store", "{what}");
}

/// Bodies that neither route accepts, by their fault.
const BAD_JSON: [(&[u8], &str); 22] = [
    (b"{", NOT_JSON),
    (b" ", NOT_JSON),
    (b"username=x", NOT_JSON),
    (b"{} x", NOT_JSON),
    (b"{}{}", NOT_JSON),
    (b"{'username':'x'}", NOT_JSON),
    (b"{\"username\":\"x\",}", NOT_JSON),
    (b"{\"username\":\"\\ud800\"}", NOT_JSON),
    (b"{\"username\":\"a\nb\"}", NOT_JSON),
    (b"[]", NO_OBJECT),
    (b"null", NO_NAME),
    (b"\"x\"", NO_OBJECT),
    (b"17", NO_OBJECT),
    (b"{\"username\":\"\xff\",\"password\":\"p\"}", NOT_UTF8),
    (b"{}", NO_NAME),
    (b"{\"Username\":\"x\",\"user\":\"x\"}", NO_NAME),
    (b"{\"username\":1,\"password\":2,\"email\":3}", NAME_NO_TEXT),
    (b"{\"username\":null}", NAME_NO_TEXT),
    (b"{\"username\":[\"x\"],\"password\":{}}", NAME_NO_TEXT),
    (b"{\"username\":true}", NAME_NO_TEXT),
    (b"{\"username\":\"x\",\"username\":\"x\"}", NAME_TWICE),
    (b"{\"username\":\"x\",\"\\u0075sername\":null}", NAME_TWICE),
];

#[tokio::test]
async fn fr_04_bad_json_is_400_and_says_what_is_wrong() {
    let app = TestApp::start().await;
    for path in ["/auth", "/register"] {
        for (body, error) in BAD_JSON {
            let what = format!("{path} {}", String::from_utf8_lossy(body));
            is(&post(&app, path, &[JSON], body).await, 400, error, &what);
        }
    }
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["0"]);
}

#[tokio::test]
async fn fr_04_each_field_is_named_in_json_and_in_forms() {
    let app = TestApp::start().await;
    for (path, field) in [("/auth", "password"), ("/register", "email")] {
        for (body, why) in [
            (r#"{"username":"x"}"#.to_owned(), "is missing"),
            (
                format!(r#"{{"username":"x","{field}":null}}"#),
                "must be a string",
            ),
            (
                format!(r#"{{"username":"x","{field}":1.5}}"#),
                "must be a string",
            ),
            (
                format!(r#"{{"username":"x","{field}":{{"a":"b"}}}}"#),
                "must be a string",
            ),
            (
                format!(r#"{{"{field}":"p","username":"x","{field}":"p"}}"#),
                "is given more than once",
            ),
        ] {
            let reply = post(&app, path, &[JSON], body.as_bytes()).await;
            is(&reply, 400, &format!("{field} {why}"), &body);
        }
        for (body, error) in [
            ("=".to_owned(), NO_NAME.to_owned()),
            (format!("{field}=p"), NO_NAME.to_owned()),
            ("username=x".to_owned(), format!("{field} is missing")),
            ("username=x&username=x".to_owned(), NAME_TWICE.to_owned()),
            (
                format!("username=x&{field}=p&{field}=p"),
                format!("{field} is given more than once"),
            ),
            (
                "username=%ff".to_owned(),
                "the form is not UTF-8 text".to_owned(),
            ),
        ] {
            let reply = post(&app, path, &[FORM], body.as_bytes()).await;
            is(&reply, 400, &error, &body);
        }
    }
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["0"]);
}

#[tokio::test]
async fn fr_04_an_empty_body_is_refused_with_what_to_send() {
    let app = TestApp::start().await;
    for headers in [&[][..], &[JSON], &[FORM], &[XML]] {
        let reply = post(&app, "/auth", headers, b"").await;
        let ways = "no credentials: send username and password as JSON, as a form or by HTTP Basic";
        is(&reply, 401, ways, "/auth");
        let reply = post(&app, "/register", headers, b"").await;
        is(
            &reply,
            400,
            "the body is empty: send username and email",
            "/register",
        );
    }
}

#[tokio::test]
async fn fr_04_another_media_type_is_415() {
    let app = TestApp::start().await;
    let json = br#"{"username":"x","password":"p","email":"x@example.com"}"#;
    let form = b"username=x&password=p&email=x%40example.com";
    for path in ["/auth", "/register"] {
        for label in [
            "text/xml",
            "text/plain",
            "text/json",
            "json",
            "application/",
            "application/jsonx",
            "application/xml+jsonx",
            "application/octet-stream",
            "multipart/form-data; boundary=x",
            ";",
        ] {
            let reply = post(&app, path, &[("content-type", label)], json).await;
            is(&reply, 415, WRONG_TYPE, label);
        }
        is(
            &post(&app, path, &[], form).await,
            415,
            WRONG_TYPE,
            "no label, no brace",
        );
        let packed = [JSON, ("content-encoding", "gzip")];
        is(
            &post(&app, path, &packed, json).await,
            415,
            WRONG_TYPE,
            "gzip",
        );
    }
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["0"]);
}

#[tokio::test]
async fn fr_04_media_types_match_whatever_their_case_and_parameters() {
    let app = TestApp::start().await;
    let json = br#"{"username":"a","password":"b"}"#;
    for label in [
        "application/json",
        "Application/JSON ; charset=UTF-8",
        "application/json;charset=utf-8",
        "APPLICATION/JSON",
        "application/vnd.example+json",
        "application/x-www-form-urlencoded",
        "",
    ] {
        let reply = post(&app, "/auth", &[("content-type", label)], json).await;
        is(&reply, 401, "unknown username or wrong password", label);
    }
    let form = b"username=a&password=b";
    for label in [
        "application/x-www-form-urlencoded; charset=utf-8",
        "Application/X-WWW-Form-URLEncoded",
    ] {
        let reply = post(&app, "/auth", &[("content-type", label)], form).await;
        is(&reply, 401, "unknown username or wrong password", label);
    }
}

#[tokio::test]
async fn fr_04_a_body_that_starts_with_a_brace_is_json_under_curls_label_or_none() {
    let app = TestApp::start().await;
    for path in ["/auth", "/register"] {
        for headers in [&[FORM][..], &[]] {
            is(&post(&app, path, headers, b"{}").await, 400, NO_NAME, path);
            is(
                &post(&app, path, headers, b" \n{").await,
                400,
                NOT_JSON,
                path,
            );
        }
    }
}

#[tokio::test]
async fn fr_04_more_than_16_kib_is_413_and_16_kib_are_read() {
    let app = TestApp::start().await;
    let padded = |size: usize| {
        let head = r#"{"username":"x","filler":""#;
        format!(r#"{head}{}"}}"#, "f".repeat(size - head.len() - 2)).into_bytes()
    };
    for (path, missing) in [
        ("/auth", "password is missing"),
        ("/register", "email is missing"),
    ] {
        let full = padded(16_384);
        assert_eq!(full.len(), 16_384);
        is(&post(&app, path, &[JSON], &full).await, 400, missing, path);
        let over = padded(16_385);
        for headers in [&[JSON][..], &[FORM], &[XML], &[]] {
            is(
                &post(&app, path, headers, &over).await,
                413,
                TOO_LARGE,
                path,
            );
        }
    }
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["0"]);
}

#[tokio::test]
async fn fr_04_deep_nesting_is_400_and_the_service_lives() {
    let app = TestApp::start().await;
    let open = "[".repeat(16_000);
    let known = format!(
        r#"{{"username":{}{}}}"#,
        "[".repeat(8_000),
        "]".repeat(8_000)
    );
    let unknown = format!(r#"{{"x":{}{}}}"#, "[".repeat(8_000), "]".repeat(8_000));
    for path in ["/auth", "/register"] {
        let reply = post(&app, path, &[JSON], open.as_bytes()).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        reply.error();
        is(
            &post(&app, path, &[JSON], known.as_bytes()).await,
            400,
            NOT_JSON,
            path,
        );
        // A field that the service does not know may hold anything.
        is(
            &post(&app, path, &[JSON], unknown.as_bytes()).await,
            400,
            NO_NAME,
            path,
        );
    }
    assert_eq!(app.key_set().await.status, StatusCode::OK);
}

#[tokio::test]
async fn fr_04_unknown_fields_are_ignored_even_doubled() {
    let app = TestApp::start().await;
    let body = br#"{"x":1,"x":[],"username":"alice","role":"admin","email":"alice@example.com"}"#;
    let reply = post(&app, "/register", &[JSON], body).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(
        app.rows("SELECT username, email FROM users"),
        ["alice|alice@example.com"]
    );
}

/// A body that starts and then ends in a failure or not at all.
struct Broken {
    sent: bool,
    fails: bool,
}

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        if !std::mem::replace(&mut self.sent, true) {
            let start = Bytes::from_static(b"{\"username\":");
            return Poll::Ready(Some(Ok(hyper::body::Frame::data(start))));
        }
        if self.fails {
            return Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())));
        }
        Poll::Pending
    }
}

/// Tokio's paused clock advances when all tasks wait.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_refused_after_ten_seconds() {
    let app = TestApp::start().await;
    for path in ["/auth", "/register"] {
        let began = tokio::time::Instant::now();
        let body = Body::new(Broken {
            sent: false,
            fails: false,
        });
        let reply = app.send("POST", path, &[JSON], body).await;
        is(&reply, 408, "the body did not arrive in time", path);
        assert_eq!(reply.header("connection"), "close");
        assert_eq!(began.elapsed().as_secs(), 10);
        let body = Body::new(Broken {
            sent: false,
            fails: true,
        });
        let reply = app.send("POST", path, &[JSON], body).await;
        is(&reply, 400, "the body did not arrive whole", path);
    }
}
