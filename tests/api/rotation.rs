//! The life of keys as clients see it, and rows that other programs left in
//! the table. The promises over random lives are tested elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jwks_server::crypto::rsa::{KeySource as _, PrivateKey};
use jwks_server::domain::tokens::TokenKind;
use jwks_server::lifecycle::Kid;

use crate::log;
use crate::long::times;
use crate::support::{START, Stock, TestApp, Token};

const HOUR: Duration = Duration::from_secs(3600);

/// A live token, without an account and a hash for each.
async fn issue(app: &TestApp) -> Token {
    let (tokens, clock) = (&app.state.sign_in.tokens, &*app.state.clock);
    let issued = tokens.issue(TokenKind::Live, "alice".into(), clock).await;
    Token(issued.unwrap().token)
}

/// The moduli of the published keys, by kid.
async fn published(app: &TestApp) -> BTreeMap<String, String> {
    let set = app.key_set().await.json();
    let keys = set["keys"].as_array().unwrap().iter();
    let text = |key: &serde_json::Value, name: &str| key[name].as_str().unwrap().to_owned();
    keys.map(|key| (text(key, "kid"), text(key, "n"))).collect()
}

/// Puts a key into the table the way another server did.
fn insert_key(app: &TestApp, kid: i64, key: &PrivateKey, exp: i64) {
    let sealed = app.sealing_keys.seal(key.to_pem().as_bytes());
    app.sql()
        .execute(
            "INSERT INTO keys (kid, key, exp) VALUES (?, ?, ?)",
            rusqlite::params![kid, sealed, exp],
        )
        .unwrap();
    // As if it had been there when the file was taken over.
    let thumbprint = Kid::from_thumbprint(&key.public().thumbprint());
    app.execute(&format!(
        "INSERT INTO earlier_keys (kid, thumbprint) VALUES ({kid}, {thumbprint})"
    ));
}

fn empty() -> TestApp {
    TestApp::without_keys(tempfile::tempdir().unwrap(), "")
}

#[tokio::test]
async fn fr_02_a_token_never_outlives_its_key_even_when_that_was_cut_short() {
    for left in [30, 60, 61, 660, 1200, 1790, 1810, 1860, 2460] {
        let app = TestApp::start().await;
        let end = START.as_secs() + left;
        app.execute(&format!("UPDATE keys SET exp = {end} WHERE exp > {START}"));
        let mut app = app.restart().await;
        let mut held: Vec<Token> = Vec::new();
        let step = times(120, 60) as u64;
        for _ in 0..45 * 60 / step {
            let set = app.key_set().await.json();
            held.retain(|token| app.now() < token.time("exp"));
            let token = issue(&app).await;
            let exp = app.rows(&format!("SELECT exp FROM keys WHERE kid = {}", token.kid()));
            let full = app.now() + Duration::from_secs(1800);
            let expected = exp[0].parse::<i64>().unwrap().min(full.as_secs());
            assert_eq!(token.time("exp").as_secs(), expected, "{left} s were left");
            held.push(token);
            for token in &held {
                assert!(token.verifies_against(&set), "{left} s were left");
            }
            app.advance(Duration::from_secs(step));
            app.rotate().await;
        }
    }
}

#[tokio::test]
async fn fr_09_a_key_is_published_for_ten_minutes_before_it_signs_and_until_it_expires() {
    let mut app = TestApp::start().await;
    let (mut first_seen, mut last_seen) = (BTreeMap::new(), BTreeMap::new());
    let mut first_signed = BTreeMap::new();
    while app.now() < START + 3 * HOUR {
        let set = app.key_set().await.json();
        for kid in published(&app).await.into_keys() {
            first_seen.entry(kid.clone()).or_insert(app.now());
            last_seen.insert(kid, app.now());
        }
        let token = issue(&app).await;
        assert!(token.verifies_against(&set));
        first_signed.entry(token.kid()).or_insert(app.now());
        app.advance(Duration::from_secs(30));
        app.rotate().await;
    }
    let mut leads: Vec<_> = first_signed
        .iter()
        .map(|(kid, at)| first_seen[kid].until(*at).as_secs())
        .collect();
    leads.sort_unstable();
    // A key every 1138 s, looked at every 30 s; only the first had nobody to
    // announce it.
    assert_eq!((leads.len(), leads[0]), (9, 0));
    let range = 602..=630;
    assert!(
        leads[1..].iter().all(|lead| range.contains(lead)),
        "{leads:?}"
    );
    let over: Vec<_> = first_seen
        .iter()
        .filter(|(_, seen)| **seen + HOUR < app.now())
        .map(|(kid, seen)| seen.until(last_seen[kid]).as_secs())
        .collect();
    assert_eq!(over, [3570; 7]);
}

#[tokio::test]
async fn fr_27_a_kid_never_names_two_keys_in_a_database_that_was_emptied_or_removed() {
    let mut app = TestApp::start().await;
    let mut known = published(&app).await;
    let mut add = |more: BTreeMap<String, String>| {
        for (kid, n) in more {
            assert_eq!(known.insert(kid, n), None);
        }
    };
    app.execute("DELETE FROM keys");
    app = app.restart().await;
    add(published(&app).await);
    // Only the row with the highest kid, which SQLite would give out again.
    app.execute("DELETE FROM keys WHERE kid = (SELECT max(kid) FROM keys); DELETE FROM keys WHERE exp > 1800000000");
    app = app.restart().await;
    add(published(&app).await);
    // A new file with new keys.
    let mut fresh = empty();
    fresh.stock.skip(8);
    fresh.rotate().await;
    add(published(&fresh).await);
    assert_eq!(known.len(), 4);
}

#[tokio::test]
async fn fr_27_a_kid_is_a_string_of_the_number_in_its_column_at_most_53_bits_long() {
    let app = TestApp::start().await;
    let kids: Vec<i64> = app
        .rows("SELECT kid FROM keys")
        .iter()
        .map(|kid| kid.parse().unwrap())
        .collect();
    assert_eq!(kids.len(), 2);
    assert!(kids.iter().all(|kid| (0..1 << 53).contains(kid)));
    let published = app.published_kids().await;
    assert!(
        published
            .iter()
            .all(|kid| kids.contains(&kid.parse().unwrap()))
    );
}

#[tokio::test]
async fn a_new_database_has_one_key_to_publish_and_one_expired() {
    let app = TestApp::start().await;
    let (future, past) = (START + HOUR, START - HOUR);
    assert_eq!(
        app.rows("SELECT exp FROM keys ORDER BY exp"),
        [past.to_string(), future.to_string()]
    );
    assert_eq!(published(&app).await.len(), 1);
}

#[tokio::test]
async fn a_second_tick_in_the_same_period_adds_nothing() {
    let mut app = TestApp::start().await;
    let before = app.rows("SELECT * FROM keys");
    let due = app.rotate().await;
    assert_eq!(app.rows("SELECT * FROM keys"), before);
    assert_eq!(due, START + Duration::from_secs(1138));
    app.advance(Duration::from_secs(1137));
    app.rotate().await;
    assert_eq!(app.rows("SELECT * FROM keys"), before);
    app.advance(Duration::from_secs(1));
    app.rotate().await;
    assert_eq!(app.rows("SELECT count(*) FROM keys"), ["3"]);
}

#[tokio::test]
async fn expired_keys_are_deleted_after_their_retention_except_the_last() {
    let mut app = TestApp::start().await;
    let last = app.published_kids().await;
    app.advance(30 * 24 * HOUR);
    app.rotate().await;
    let now = app.now();
    let expired = app.rows(&format!("SELECT kid FROM keys WHERE exp <= {now}"));
    assert_eq!(expired, last);
    assert_eq!(app.published_kids().await.len(), 1);
    assert_eq!(app.rows("SELECT count(*) FROM keys"), ["2"]);
    assert_eq!(app.rows("SELECT count(*) FROM key_times"), ["2"]);
}

#[tokio::test]
async fn keys_of_an_earlier_server_are_published_and_sign_under_their_small_kids() {
    let mut app = empty();
    let stock = Stock::default();
    stock.skip(5);
    let (old, live) = (stock.generate().unwrap(), stock.generate().unwrap());
    insert_key(&app, 1, &old, START.as_secs() - 10);
    insert_key(&app, 2, &live, START.as_secs() + 3600);
    // That server stored the Fernet token as text as well as as bytes.
    app.execute("UPDATE keys SET key = CAST(key AS TEXT) WHERE kid = 2");
    app.rotate().await;
    let n = live.public().n.clone();
    assert_eq!(published(&app).await, BTreeMap::from([("2".to_owned(), n)]));
    let token = issue(&app).await;
    assert_eq!(token.kid(), "2");
    assert!(token.is_signed_by(&live.public().n, "AQAB"));
    let password = app.register("alice").await;
    let expired = app.token("/auth?expired", "alice", &password).await;
    assert_eq!(expired.kid(), "1");
    assert!(expired.is_signed_by(&old.public().n, "AQAB"));
    assert_eq!(app.rows("SELECT kid FROM keys ORDER BY kid"), ["1", "2"]);
    // The next key is one of ours, and the old one stays to its end.
    app.advance(Duration::from_secs(1800));
    app.rotate().await;
    let kids = app.published_kids().await;
    assert_eq!((kids.len(), kids[0].as_str()), (2, "2"));
    assert!(kids[1].len() > 10, "{kids:?}");
}

#[tokio::test]
async fn a_bad_row_is_logged_once_left_alone_and_not_published() {
    let mut app = TestApp::start().await;
    let before = app.published_kids().await;
    let exp = START.as_secs() + 3000;
    let foreign = "gAAAAABh0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000==";
    app.execute(&format!(
        "INSERT INTO keys (kid, key, exp) VALUES (5, '{foreign}', {exp}), (6, '', {exp}), (7, x'ff00', {exp});"
    ));
    let sealed = app.sealing_keys.seal(b"-----BEGIN PRIVATE KEY-----");
    let sql = "INSERT INTO keys (kid, key, exp) VALUES (8, ?, ?)";
    app.sql()
        .execute(sql, rusqlite::params![sealed, exp])
        .unwrap();
    let rows = app.rows("SELECT * FROM keys ORDER BY kid");
    log::capture();
    for _ in 0..3 {
        app.rotate().await;
    }
    let log = log::captured();
    for kid in 5..=8 {
        assert_eq!(log.matches(&format!("kid={kid}\n")).count(), 1, "{log}");
    }
    assert_eq!(app.published_kids().await, before);
    assert_eq!(app.rows("SELECT * FROM keys ORDER BY kid"), rows);
    let mut app = app.restart().await;
    assert_eq!(app.published_kids().await, before);
    // Nor does it stand in for the key that expired last.
    app.advance(Duration::from_secs(3000));
    app.rotate().await;
    let password = app.register("alice").await;
    let expired = app.token("/auth?expired", "alice", &password).await;
    assert!(expired.kid().len() > 10);
}

#[tokio::test]
async fn rows_with_a_value_of_another_type_do_not_stop_the_rotation() {
    let mut stopped = Vec::new();
    for row in [
        "(9, 12345, 1800003000)",
        "(9, 0.5, 1800003000)",
        "(9, 'x', 'soon')",
        "(9, 'x', x'00')",
        "(9, 'x', 1800003000.5)",
        "(9, 12345, 1799999000)",
    ] {
        let mut app = TestApp::start().await;
        let before = app.published_kids().await;
        app.execute(&format!("INSERT INTO keys (kid, key, exp) VALUES {row}"));
        if let Err(e) = app.rotation.tick().await {
            stopped.push(format!("{row}: {e}"));
        }
        assert_eq!(app.published_kids().await, before);
        let rows = app.rows("SELECT count(*) FROM keys WHERE kid = 9");
        assert_eq!(rows, ["1"]);
    }
    assert_eq!(stopped, [""; 0]);
}

#[tokio::test]
async fn a_key_under_the_kid_of_another_is_neither_published_nor_signs() {
    let app = TestApp::start().await;
    let kid = app.published_kids().await.remove(0);
    let wrong = (kid.parse::<i64>().unwrap() ^ 1).to_string();
    app.execute(&format!(
        "PRAGMA foreign_keys = OFF;
         UPDATE keys SET kid = {wrong} WHERE kid = {kid};
         UPDATE key_times SET kid = {wrong} WHERE kid = {kid};"
    ));
    let app = app.restart().await;
    let kids = app.published_kids().await;
    assert_eq!(kids.len(), 1);
    assert!(!kids.contains(&wrong) && !kids.contains(&kid));
    assert_eq!(issue(&app).await.kid(), kids[0]);
    let rows = app.rows(&format!("SELECT count(*) FROM keys WHERE kid = {wrong}"));
    assert_eq!(rows, ["1"]);
}

#[tokio::test]
async fn two_keys_that_change_places_are_both_found_out() {
    let mut app = TestApp::start().await;
    app.advance(Duration::from_secs(1140));
    app.rotate().await;
    let kids = app.published_kids().await;
    let (one, other) = (&kids[0], &kids[1]);
    app.execute(&format!(
        "CREATE TEMP TABLE t AS SELECT kid, key FROM keys;
         UPDATE keys SET key = (SELECT key FROM t WHERE kid = {other}) WHERE kid = {one};
         UPDATE keys SET key = (SELECT key FROM t WHERE kid = {one}) WHERE kid = {other};"
    ));
    // The process that has opened them goes on with what it knows.
    app.rotate().await;
    assert_eq!(app.published_kids().await, kids);
    let app = app.restart().await;
    let after = app.published_kids().await;
    assert_eq!(after.len(), 1);
    assert!(!kids.contains(&after[0]));
}

#[tokio::test]
async fn a_new_sealing_key_in_front_opens_the_old_keys_and_seals_the_new() {
    let app = TestApp::start().await;
    let before = app.published_kids().await;
    let clock = app.clock.clone();
    let dir = app.stop().await;
    let file = dir.path().join("key");
    let old = std::fs::read_to_string(&file).unwrap();
    let new = jwks_server::crypto::fernet::SealingKeys::generate();
    std::fs::write(&file, format!("{},{old}", new.as_str())).unwrap();
    let mut app = TestApp::at(dir, "", clock);
    app.stock.skip(2);
    app.rotate().await;
    assert_eq!(app.published_kids().await, before);
    app.advance(Duration::from_secs(1140));
    app.rotate().await;
    let only_new = jwks_server::crypto::fernet::SealingKeys::parse(&new).unwrap();
    let opened: Vec<_> = app
        .rows("SELECT key FROM keys ORDER BY exp")
        .iter()
        .map(|key| only_new.open(key.as_bytes()).is_some())
        .collect();
    assert_eq!(opened, [false, false, true]);
}

/// A time that another program has spoilt makes its own row useless, and no other.
#[tokio::test]
async fn a_mistyped_time_of_one_key_does_not_stop_the_rotation() {
    for which in ["min", "max"] {
        let app = TestApp::start().await;
        app.execute(&format!(
            "UPDATE key_times SET signs_from = 'soon' WHERE serial = (SELECT {which}(serial) FROM key_times)"
        ));
        let mut app = app.restart().await;
        app.rotate().await;
        assert!(
            issue(&app)
                .await
                .verifies_against(&app.key_set().await.json())
        );
        assert!(
            app.state
                .keys
                .snapshot()
                .last_unpublished(app.now())
                .is_some()
        );
    }
}

/// While it waited for a lock, a new key was not published yet.
#[tokio::test]
async fn the_lead_of_a_key_counts_from_its_insertion_and_not_from_before_a_lock() {
    let mut app = TestApp::start().await;
    app.advance(Duration::from_secs(1138));
    let other = app.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let clock = Arc::clone(&app.clock);
    let (ticked, ()) = tokio::join!(app.rotation.tick(), async {
        clock.advance(Duration::from_secs(4));
        other.execute_batch("COMMIT").unwrap();
    });
    ticked.unwrap();
    let times =
        app.rows("SELECT created_at, signs_from FROM key_times ORDER BY serial DESC LIMIT 1");
    let created = START + Duration::from_secs(1138 + 4);
    let signs = created + Duration::from_secs(602);
    assert_eq!(times, [format!("{created}|{signs}")]);
}
