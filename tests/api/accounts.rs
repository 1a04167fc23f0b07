//! Names in their several spellings, and what earlier servers left behind:
//! names that may no longer be registered, other hashes, broken ones.

use std::time::Duration;

use axum::http::StatusCode;
use jwks_server::client_key::ClientKey;
use jwks_server::crypto::password::{Costs, PasswordHasher};

use crate::log;
use crate::support::{JSON, TestApp, send_to};

/// More work than new hashes get.
const OTHER_COSTS: Costs = Costs {
    memory_kib: 20_000,
    passes: 3,
    lanes: 2,
};

async fn hash(password: &str, costs: Costs) -> String {
    let hasher = PasswordHasher::start(costs, 1).unwrap();
    hasher
        .hash(ClientKey::OPERATOR, password.to_owned().into())
        .await
        .unwrap()
}

/// A row as another server wrote it.
fn insert(app: &TestApp, username: &str, hash: &str) {
    app.sql()
        .execute(
            "INSERT INTO users (username, password_hash) VALUES (?, ?)",
            [username, hash],
        )
        .unwrap();
}

fn stored_hash(app: &TestApp) -> String {
    app.rows("SELECT password_hash FROM users").remove(0)
}

#[tokio::test]
async fn a_name_signs_in_in_every_spelling_and_the_token_has_the_stored_one() {
    let app = TestApp::start().await;
    let password = app.register("ju\u{308}rgen").await;
    assert_eq!(app.rows("SELECT username FROM users"), ["j\u{fc}rgen"]);
    for spelling in ["j\u{fc}rgen", "ju\u{308}rgen", "\u{ff4a}\u{fc}rgen"] {
        let token = app.token("/auth", spelling, &password).await;
        assert_eq!(token.claims()["sub"], "j\u{fc}rgen");
    }
}

#[tokio::test]
async fn names_that_differ_in_case_are_different_accounts() {
    let app = TestApp::start().await;
    for (one, other) in [("alice", "Alice"), ("éva", "Éva"), ("ωmega", "Ωmega")] {
        let password = app.register(one).await;
        let others = app.register(other).await;
        app.advance(Duration::from_secs(1));
        assert_eq!(
            app.token("/auth", one, &password).await.claims()["sub"],
            one
        );
        assert_eq!(
            app.token("/auth", other, &others).await.claims()["sub"],
            other
        );
        let reply = app.sign_in("/auth", other, &password).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn names_that_may_no_longer_be_registered_still_sign_in_as_they_are() {
    let app = TestApp::start().await;
    let known = hash("old password", Costs::DEFAULT).await;
    for (n, name) in [
        "bob smith",
        " padded ",
        "a\u{200b}b",
        "tab\there",
        &"long".repeat(100),
    ]
    .iter()
    .enumerate()
    {
        insert(&app, name, &known);
        let token = app.token("/auth", name, "old password").await;
        assert_eq!(token.claims()["sub"], *name);
        let body = serde_json::json!({"username": name, "email": format!("{n}@example.com")});
        let reply = app
            .send("POST", "/register", &[JSON], body.to_string())
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{name}");
    }
    // A name that is padded at sign-in is not the one that is stored without padding.
    let reply = app.sign_in("/auth", " bob smith", "old password").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_name_stored_as_sent_comes_before_its_normal_form() {
    let app = TestApp::start().await;
    insert(
        &app,
        "alice",
        &hash("of the plain one", Costs::DEFAULT).await,
    );
    insert(
        &app,
        "\u{ff41}lice",
        &hash("of the wide one", Costs::DEFAULT).await,
    );
    for (name, password) in [
        ("alice", "of the plain one"),
        ("\u{ff41}lice", "of the wide one"),
    ] {
        let token = app.token("/auth", name, password).await;
        assert_eq!(token.claims()["sub"], name);
    }
}

#[tokio::test]
async fn a_corrupt_hash_lets_nobody_in_and_breaks_nothing() {
    let app = TestApp::start().await;
    let good = hash("password", Costs::DEFAULT).await;
    let cases = [
        String::new(),
        "password".to_owned(),
        "$argon2id$".to_owned(),
        // 37 characters of base64 are never whole bytes.
        good[..good.len() - 6].to_owned(),
        good.replace("argon2id", "argon2x"),
        good.replace("m=19456", "m=262145"),
        good.replace("m=19456", "m=4294967295"),
        good.replace("t=2", "t=4294967295"),
        good.replace("p=1", "p=0"),
        // The associated data is not known here.
        good.replace("p=1", "p=1,data=c2FsdA"),
        good.replace('$', "|"),
        "$2b$31$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234".to_owned(),
    ];
    for (n, stored) in cases.iter().enumerate() {
        app.advance(Duration::from_millis(100));
        let name = format!("u{n}");
        insert(&app, &name, stored);
        log::capture();
        let reply = app.sign_in("/auth", &name, "password").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{stored}");
        assert_eq!(reply.error(), "unknown username or wrong password");
        let logged = log::captured();
        assert!(logged.contains("no usable hash"), "{stored}: {logged}");
    }
    app.advance(Duration::from_secs(1));
    // Not even one that holds a BLOB of no text.
    app.execute("INSERT INTO users (username, password_hash) VALUES ('blob', x'ff00')");
    let reply = app.sign_in("/auth", "blob", "password").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    insert(&app, "good", &good);
    app.token("/auth", "good", "password").await;
    assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["1"]);
}

#[tokio::test]
async fn an_outdated_hash_in_a_blob_is_replaced_too() {
    let app = TestApp::start().await;
    insert(&app, "alice", &hash("password", OTHER_COSTS).await);
    app.execute("UPDATE users SET password_hash = CAST(password_hash AS BLOB)");
    app.token("/auth", "alice", "password").await;
    assert_eq!(
        app.rows("SELECT typeof(password_hash), substr(password_hash, 1, 30) FROM users"),
        ["text|$argon2id$v=19$m=19456,t=2,p=1"]
    );
}

/// An operator resets it or another program deletes it, or a backup in which its number is
/// another's is restored.
#[tokio::test]
async fn an_account_that_changes_while_its_password_is_checked_is_not_signed_in() {
    let other = hash("other password", Costs::DEFAULT).await;
    let reset = format!("UPDATE users SET password_hash = '{other}'");
    for change in [
        "DELETE FROM users",
        "UPDATE users SET username = 'bob'",
        &reset,
    ] {
        let mut app = TestApp::without_keys(tempfile::tempdir().unwrap(), "");
        let password = app.register("alice").await;
        let (state, work) = (app.state.clone(), app.state.accounts.hasher.computed_cost());
        let body = serde_json::json!({"username": "alice", "password": password}).to_string();
        let sign_in = tokio::spawn(async move {
            send_to(&state, "192.0.2.1", "POST", "/auth", &[JSON], body).await
        });
        // The password is verified, and the sign-in waits for the first key.
        while app.state.accounts.hasher.computed_cost() == work {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        app.execute(change);
        app.rotate().await;
        let reply = sign_in.await.unwrap();
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{change}");
        assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["0"]);
        assert_eq!(app.rows("SELECT count(last_login) FROM users"), ["0"]);
    }
}

#[tokio::test]
async fn an_outdated_hash_is_replaced_after_a_good_sign_in_only() {
    let app = TestApp::start().await;
    let old = hash("password", OTHER_COSTS).await;
    assert!(old.starts_with("$argon2id$v=19$m=20000,t=3,p=2$"), "{old}");
    insert(&app, "alice", &old);
    let reply = app.sign_in("/auth", "alice", "wrong").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(stored_hash(&app), old);
    app.token("/auth", "alice", "password").await;
    let new = stored_hash(&app);
    assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{new}");
    // The password is the same one, and the hash stays from now on.
    app.token("/auth", "alice", "password").await;
    assert_eq!(stored_hash(&app), new);
    let reply = app.sign_in("/auth", "alice", "wrong").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn sign_ins_that_have_checked_one_outdated_hash_are_all_good() {
    let mut app = TestApp::without_keys(tempfile::tempdir().unwrap(), "");
    insert(&app, "alice", &hash("password", OTHER_COSTS).await);
    let sign_in = |address: &'static str| {
        let (state, body) = (
            app.state.clone(),
            r#"{"username": "alice", "password": "password"}"#,
        );
        tokio::spawn(async move {
            send_to(&state, address, "POST", "/auth", &[JSON], body.to_owned()).await
        })
    };
    let sign_ins = [sign_in("192.0.2.1"), sign_in("192.0.2.2")];
    // Each is verified, has a new hash, and waits for the first key.
    let both = 2 * (20_000 * 3 + 19_456 * 2);
    while app.state.accounts.hasher.computed_cost() < both {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    app.rotate().await;
    for reply in sign_ins {
        assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(app.rows("SELECT count(*) FROM auth_logs"), ["2"]);
    // The second one was checked once more, by the hash of the first.
    assert_eq!(app.state.accounts.hasher.computed_cost(), both + 19_456 * 2);
}

#[tokio::test]
async fn costs_that_are_raised_reach_old_accounts_at_their_next_sign_in() {
    let app =
        TestApp::with_settings("ARGON2_MEMORY_KIB=20000\nARGON2_PASSES=3\nARGON2_LANES=2").await;
    insert(&app, "alice", &hash("password", Costs::DEFAULT).await);
    app.token("/auth", "alice", "password").await;
    let new = stored_hash(&app);
    assert!(new.starts_with("$argon2id$v=19$m=20000,t=3,p=2$"), "{new}");
    app.token("/auth", "alice", "password").await;
}

#[tokio::test]
async fn accounts_outlive_a_restart() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let app = app.restart().await;
    let token = app.token("/auth", "alice", &password).await;
    assert_eq!(token.claims()["sub"], "alice");
}

#[tokio::test]
async fn a_demo_account_without_an_address_leaves_others_theirs() {
    let app = TestApp::start().await;
    for name in ["userABC", "userDEF"] {
        let parsed = jwks_server::domain::names::Username::parse(name).unwrap();
        let accounts = &app.state.accounts;
        let ensured =
            || accounts.ensure(parsed.clone(), "password123".to_owned().into(), app.now());
        assert!(ensured().await.unwrap());
        assert!(!ensured().await.unwrap());
        app.token("/auth", name, "password123").await;
    }
    assert_eq!(
        app.rows("SELECT id, username, email FROM users"),
        ["1|userABC|", "2|userDEF|"]
    );
}

#[tokio::test]
async fn addresses_with_costly_hashes_make_nobody_else_wait() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    // As much work as is ever done for one: 27 times that of a current hash.
    let zeros = |length| "A".repeat(length);
    let costly = format!(
        "$argon2id$v=19$m=65536,t=16,p=1${}${}",
        zeros(22),
        zeros(43)
    );
    insert(&app, "old", &costly);
    let body = r#"{"username":"old","password":"x"}"#;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..30 {
        let (state, peer) = (app.state.clone(), format!("198.51.100.{}", n % 3));
        calls.spawn(async move { send_to(&state, &peer, "POST", "/auth", &[JSON], body).await });
    }
    while app.state.accounts.hasher.queued().0 < 5 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        app.token("/auth", "alice", &password).await;
    }
    let mut answered = 0;
    while let Some(reply) = calls.try_join_next() {
        answered += usize::from(reply.unwrap().status == StatusCode::UNAUTHORIZED);
    }
    assert!(answered <= 5, "{answered} came before her tenth");
}
