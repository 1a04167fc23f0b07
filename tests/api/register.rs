//! `POST /register`: accounts made, names and addresses refused or taken.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use crate::support::{FORM, JSON, Reply, TestApp};

const BAD_NAME: &str = "username has characters that are not allowed: no spaces, control or invisible characters (RFC 8265)";
const BAD_EMAIL: &str = "email is not an e-mail address";
const TAKEN: &str = "the username or the email is already registered";

async fn register(app: &TestApp, username: &str, email: &str) -> Reply {
    let body = json!({"username": username, "email": email}).to_string();
    app.send("POST", "/register", &[JSON], body).await
}

#[tokio::test]
async fn an_account_is_made_and_its_password_shown_once() {
    let app = TestApp::start().await;
    let reply = register(&app, "alice", "alice@example.com").await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("cache-control"), "no-store");
    let json = reply.json();
    let password = json["password"].as_str().unwrap();
    assert_eq!(json, json!({"password": password}));
    let uuid = uuid::Uuid::parse_str(password).unwrap();
    assert_eq!(uuid.get_version_num(), 4);
    assert_eq!(password, uuid.hyphenated().to_string());
    // The row is there with the answer, and all of it is this.
    let rows = app.rows("SELECT id, username, email, date_registered, last_login FROM users");
    assert_eq!(rows, ["1|alice|alice@example.com|2027-01-15 08:00:00|"]);
    let hash = app.rows("SELECT password_hash FROM users").remove(0);
    assert!(
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{hash}"
    );
}

#[tokio::test]
async fn the_password_is_kept_nowhere_in_the_database_files() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let hex = password.replace('-', "");
    for side in ["", "-wal"] {
        let path = format!("{}{side}", app.database().display());
        let bytes = std::fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(&password) && !text.contains(&hex));
    }
}

#[tokio::test]
async fn a_form_makes_an_account_too_and_so_does_json_without_the_right_label() {
    let app = TestApp::start().await;
    let json = |name: &str| format!(r#"{{"username":"{name}","email":"{name}@example.com"}}"#);
    for (headers, body) in [
        (&[FORM][..], "username=a&email=a%40example.com".to_owned()),
        (&[FORM], json("b")),
        (&[], json("c")),
        (
            &[("content-type", "application/json; charset=utf-8")],
            json("d"),
        ),
    ] {
        let reply = app.send("POST", "/register", headers, body.clone()).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{body}");
    }
    assert_eq!(
        app.rows("SELECT username, email FROM users ORDER BY id"),
        [
            "a|a@example.com",
            "b|b@example.com",
            "c|c@example.com",
            "d|d@example.com"
        ]
    );
}

#[tokio::test]
async fn a_name_or_an_address_that_is_taken_is_409() {
    let app = TestApp::start().await;
    app.register("alice").await;
    for (username, email) in [
        ("alice", "alice@example.com"),
        ("alice", "other@example.com"),
        ("bob", "alice@example.com"),
        // The domain of an address has no case, and a name one form.
        ("bob", "alice@EXAMPLE.com"),
        ("\u{ff41}lice", "other@example.com"),
    ] {
        let reply = register(&app, username, email).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{username} {email}");
        assert_eq!(reply.error(), TAKEN);
    }
    assert_eq!(app.rows("SELECT username FROM users"), ["alice"]);
}

#[tokio::test]
async fn of_many_sign_ups_with_one_name_at_once_one_is_made() {
    let app = TestApp::start().await;
    let one = |n: usize| {
        let app = &app;
        async move { register(app, "alice", &format!("{n}@example.com")).await }
    };
    let replies: [Reply; 4] = tokio::join!(one(0), one(1), one(2), one(3)).into();
    let mut statuses = replies.map(|reply| reply.status.as_u16());
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["1"]);
}

#[tokio::test]
async fn fr_06_plain_names_are_stored_and_come_back_byte_for_byte() {
    let app = TestApp::start().await;
    for (n, name) in [
        "alice",
        "Alice",
        "o'neil-x_y.z+1@b",
        "jürgen",
        "名前",
        "\";--",
    ]
    .iter()
    .enumerate()
    {
        let reply = register(&app, name, &format!("{n}@example.com")).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{name}");
        let json = reply.json();
        let token = app
            .token("/auth", name, json["password"].as_str().unwrap())
            .await;
        assert_eq!(token.claims()["sub"], *name);
        let stored = app.rows(&format!("SELECT username FROM users WHERE id = {}", n + 1));
        assert_eq!(stored, [*name]);
    }
}

#[tokio::test]
async fn fr_06_a_name_that_is_empty_blank_or_padded_is_400() {
    let app = TestApp::start().await;
    app.register("alice").await;
    for (name, error) in [
        ("", "username is empty"),
        (" ", BAD_NAME),
        ("\t", BAD_NAME),
        ("alice ", BAD_NAME),
        (" alice", BAD_NAME),
        ("\u{a0}", BAD_NAME),
        ("alice\u{a0}", BAD_NAME),
        ("\u{3000}", BAD_NAME),
        ("al ice", BAD_NAME),
    ] {
        let reply = register(&app, name, "other@example.com").await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{name:?}");
        assert_eq!(reply.error(), error);
        app.advance(Duration::from_millis(100));
        let reply = app.sign_in("/auth", name, "x").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name:?}");
    }
    assert_eq!(app.rows("SELECT username FROM users"), ["alice"]);
}

#[tokio::test]
async fn fr_06_what_is_no_address_is_400() {
    let app = TestApp::start().await;
    let long = format!("{}@example.com", "x".repeat(243));
    for (email, error) in [
        ("", "email is empty"),
        (" ", BAD_EMAIL),
        ("x", BAD_EMAIL),
        ("@", BAD_EMAIL),
        ("a@", BAD_EMAIL),
        ("@example.com", BAD_EMAIL),
        ("a@b@example.com", BAD_EMAIL),
        (" a@example.com", BAD_EMAIL),
        ("a@example.com ", BAD_EMAIL),
        ("a@exam ple.com", BAD_EMAIL),
        ("A <a@example.com>", BAD_EMAIL),
        (&long, "email is longer than 254 bytes"),
    ] {
        let reply = register(&app, "alice", email).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{email:?}");
        assert_eq!(reply.error(), error, "{email:?}");
    }
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["0"]);
}

#[tokio::test]
async fn fr_08_control_and_format_characters_in_name_or_address_are_400() {
    let app = TestApp::start().await;
    let controls = (0..0x20)
        .chain(0x7f..0xa0)
        .map(|c| char::from_u32(c).unwrap());
    let formats = "\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}\u{ad}\u{61c}";
    for c in controls.chain(formats.chars()) {
        let reply = register(&app, &format!("a{c}b"), "a@example.com").await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{c:?}");
        assert_eq!(reply.error(), BAD_NAME);
        let reply = register(&app, "ab", &format!("a{c}b@example.com")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{c:?}");
        assert_eq!(reply.error(), BAD_EMAIL);
        let reply = register(&app, "ab", &format!("a@exam{c}ple.com")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{c:?}");
        assert_eq!(reply.error(), BAD_EMAIL);
    }
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["0"]);
}

#[tokio::test]
async fn an_address_counts_once_in_either_form_of_its_domain() {
    let app = TestApp::start().await;
    // As it was stored when domains were only put into lower case.
    app.execute("INSERT INTO users (username, password_hash, email) VALUES ('old', 'x', 'o@b\u{fc}cher.de')");
    for (name, email, status) in [
        ("a", "a@B\u{dc}CHER.de", 201),
        ("b", "a@xn--bcher-kva.de", 409),
        ("c", "a@b\u{fc}cher.de", 409),
        ("d", "a@b\u{fc}cher\u{3002}de", 409),
        ("e", "o@b\u{fc}cher.de", 409),
        ("f", "o@xn--bcher-kva.de", 409),
        ("g", "g@xn--bcher-kva.de", 201),
        ("h", "g@b\u{fc}cher.de", 409),
        ("i", "b@xn--a.de", 400),
    ] {
        let reply = register(&app, name, email).await;
        assert_eq!(reply.status, status, "{name} {email}");
    }
    assert_eq!(
        app.rows("SELECT email FROM users WHERE username IN ('a', 'g')"),
        ["a@xn--bcher-kva.de", "g@xn--bcher-kva.de"]
    );
}

#[tokio::test]
async fn a_name_may_have_128_bytes_and_no_more() {
    let app = TestApp::start().await;
    for (name, status) in [
        ("x".repeat(128), StatusCode::CREATED),
        ("é".repeat(64), StatusCode::CREATED),
        ("y".repeat(129), StatusCode::BAD_REQUEST),
        ("é".repeat(65), StatusCode::BAD_REQUEST),
        ("y".repeat(4000), StatusCode::BAD_REQUEST),
    ] {
        let email = format!("{}@example.com", name.chars().count());
        let reply = register(&app, &name, &email).await;
        assert_eq!(reply.status, status, "{} bytes", name.len());
        if status == StatusCode::BAD_REQUEST {
            assert_eq!(reply.error(), "username is longer than 128 bytes");
        }
    }
}

#[tokio::test]
async fn registering_needs_no_key_and_none_of_the_quota_for_sign_ins() {
    let app = TestApp::without_keys(tempfile::tempdir().unwrap(), "AUTH_RATE=1");
    for n in 0..12 {
        app.register(&format!("u{n}")).await;
    }
    assert_eq!(app.rows("SELECT count(*) FROM users"), ["12"]);
}
