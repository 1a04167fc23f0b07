//! `keys adopt`: public keys of another issuer, beside running servers.

use std::path::Path;
use std::time::{Duration, Instant};

use jwks_server::crypto::curves::CurveKey;
use jwks_server::crypto::rsa::{KeySource as _, Rsa2048};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, command, refusal, run, sql, used_folder};
use crate::token::kids;

/// A limit for a server that does not follow, not for one that is slow.
const SOON: Duration = Duration::from_secs(30);

fn rsa_jwk(kid: &str) -> Value {
    let key = Rsa2048.generate().unwrap();
    let public = key.public();
    json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": public.n, "e": public.e})
}

fn curve_jwk(alg: &str) -> Value {
    CurveKey::generate(alg).unwrap().unwrap().jwk()
}

/// Writes a key set into the folder of the service.
fn write_set(dir: &Path, keys: &[Value]) {
    let set = json!({ "keys": keys }).to_string();
    std::fs::write(dir.join("old.json"), set).unwrap();
}

fn adopt(dir: &Path, until: &str) -> std::process::Command {
    let mut command = command(dir);
    let given = [
        "keys", "adopt", "old.json", "--until", until, "--reason", "moving",
    ];
    command.args(given);
    command
}

fn adopt_all(dir: &Path, keys: &[Value], until: &str) {
    write_set(dir, keys);
    let done = run(&mut adopt(dir, until));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

fn used() -> (TempDir, Server) {
    let dir = used_folder("");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().status, 200);
    (dir, server)
}

/// Waits until the set has just these of other issuers.
fn wait_for(server: &Server, own: usize, adopted: &[Value]) {
    let began = Instant::now();
    loop {
        let set = server.key_set().json();
        let keys = set["keys"].as_array().unwrap();
        if &keys[own..] == adopted {
            return;
        }
        assert!(began.elapsed() < SOON, "{set}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn shown(dir: &Path, args: &[&str]) -> String {
    let out = command(dir).args(args).output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn running_servers_publish_adopted_keys_as_they_are_until_their_time() {
    let (dir, server) = used();
    let second = Server::start(dir.path(), &[]);
    let mut odd = rsa_jwk("a kid / of \u{1f511}");
    // A kid with blanks and a sign outside of ASCII; `nbf`, `crv` of a key of RSA
    // and what is no hash are not published.
    odd["x5t"] = "A".repeat(27).into();
    let published = [curve_jwk("ES256"), curve_jwk("EdDSA"), odd.clone()];
    odd["nbf"] = 5.into();
    odd["x5t#S256"] = "A".repeat(5000).into();
    odd["crv"] = "P-256".into();
    let given = [published[0].clone(), published[1].clone(), odd];
    adopt_all(dir.path(), &given, "1h");
    let mut sorted = published.to_vec();
    sorted.sort_by_key(|jwk| jwk["kid"].as_str().unwrap().to_owned());
    for server in [&server, &second] {
        wait_for(server, 1, &sorted);
        let reply = server.key_set();
        let tag = reply.header("etag").to_owned();
        let again = server.send("GET", crate::support::JWKS, &[("If-None-Match", &tag)], b"");
        assert_eq!(again.status, 304);
    }
    let table = shown(dir.path(), &["keys", "list"]);
    assert_eq!(table.matches("adopted").count(), 3, "{table}");
    let history = shown(dir.path(), &["keys", "history"]);
    assert_eq!(history.matches("moving").count(), 3, "{history}");
    let timetable = server
        .send("GET", "/.well-known/jwks-schedule.json", &[], b"")
        .json();
    let states = timetable["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["state"]);
    assert_eq!(states.filter(|state| *state == "adopted").count(), 3);
    let page = server
        .send("GET", "/", &[("Accept", "text/html")], b"")
        .text();
    assert!(page.contains("verifies the tokens of another issuer"));
    let report = shown(dir.path(), &["doctor"]);
    let agrees = "the service publishes the keys of this database";
    assert!(report.contains(agrees), "{report}");
    // Another end, for one that is there already.
    adopt_all(dir.path(), &given[..1], "2s");
    let rest = sorted.iter().filter(|jwk| **jwk != published[0]);
    wait_for(&second, 1, &rest.cloned().collect::<Vec<_>>());
    let kid = published[1]["kid"].as_str().unwrap();
    let revoke = ["keys", "revoke", "--reason", "leak", "--", kid];
    assert_eq!(run(command(dir.path()).args(revoke)).code, Some(0));
    wait_for(&server, 1, &published[2..]);
    let refused = refusal(&mut adopt_with(dir.path(), &published[1..2]), &[]);
    assert!(refused.contains("was revoked"), "{refused}");
    // Also after a restart with the same bytes.
    let before = server.key_set().text();
    assert!(server.stop().success() && second.stop().success());
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.key_set().text(), before);
    let emergency = ["keys", "rotate", "--now", "--yes", "--reason", "leak"];
    assert_eq!(run(command(dir.path()).args(emergency)).code, Some(0));
    wait_for(&server, 1, &[]);
}

#[test]
fn a_long_kid_is_short_in_the_drawing_and_whole_in_the_table_of_the_page() {
    let (dir, server) = used();
    let kid = format!("urn:example:\u{1b}[31m:{}:2026-11", "x".repeat(400));
    let key = rsa_jwk(&kid);
    adopt_all(dir.path(), std::slice::from_ref(&key), "1h");
    wait_for(&server, 1, &[key]);
    let page = server.send("GET", "/", &[("Accept", "text/html")], b"");
    let page = page.text();
    let short = "y=\"110\">urn:example…xx:2026-11</text>";
    assert!(page.contains(short), "{page}");
    let whole = kid.replace('\u{1b}', "\\u{1b}");
    assert!(page.contains(&format!("<code>{whole}</code>")), "{page}");
}

fn adopt_with(dir: &Path, keys: &[Value]) -> std::process::Command {
    write_set(dir, keys);
    adopt(dir, "1h")
}

#[test]
fn what_is_not_fit_to_be_adopted_is_refused_whole() {
    let (dir, server) = used();
    let dir = dir.path();
    let (good, other) = (rsa_jwk("old-1"), rsa_jwk("old-2"));
    let with = |key: &Value, name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        key
    };
    let own = server.key_set().json()["keys"][0].clone();
    let mut nameless = good.clone();
    nameless.as_object_mut().unwrap().remove("kid");
    let point = curve_jwk("ES256");
    let off_curve = with(&point, "x", point["y"].clone());
    let short = with(&good, "n", good["n"].as_str().unwrap()[..168].into());
    let zeros = {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let n = engine.decode(good["n"].as_str().unwrap()).unwrap();
        with(
            &with(&good, "n", engine.encode([vec![0], n].concat()).into()),
            "kid",
            "z".into(),
        )
    };
    let cases: Vec<(Vec<Value>, &str)> = vec![
        (vec![with(&good, "d", "AQ".into())], "secret member d"),
        (
            vec![with(&good, "key_ops", json!(["verify", {"deep": []}]))],
            "its key_ops must be strings",
        ),
        (
            vec![with(&good, "key_ops", json!(["verify", "x".repeat(5000)]))],
            "bytes, and at most 4096 are published",
        ),
        (
            vec![json!({"kty": "oct", "k": "AQ", "kid": "x"})],
            "secret member k",
        ),
        (
            vec![good.clone(), with(&good, "kid", "x".into())],
            "the same key",
        ),
        (vec![good.clone(), zeros], "the same key"),
        (
            vec![good.clone(), with(&other, "kid", "old-1".into())],
            "two keys of the source have the kid \"old-1\"",
        ),
        (
            vec![good.clone(), good.clone()],
            "key \"old-1\" is twice in the source",
        ),
        (vec![own.clone()], "is this service's own key"),
        (
            vec![with(&own, "kid", "x".into())],
            "key \"x\" is this service's own key",
        ),
        (
            vec![with(&good, "kid", own["kid"].clone())],
            "the kid of another",
        ),
        (vec![with(&good, "use", "enc".into())], "use must be sig"),
        (
            vec![with(&good, "key_ops", json!(["encrypt"]))],
            "do not have verify",
        ),
        (vec![with(&good, "alg", "RSA-OAEP".into())], "alg must be"),
        (
            vec![with(&good, "kty", "X".into())],
            "it must be an RSA key",
        ),
        (
            vec![with(&point, "crv", "secp256k1".into())],
            "it must be an RSA key",
        ),
        (vec![off_curve], "not on its curve"),
        (vec![short], "bits and must have 2048"),
        (vec![with(&good, "e", "Ag".into())], "odd"),
        (vec![with(&good, "kid", "".into())], "its kid must be"),
        (vec![nameless], "its kid must be"),
        (vec![with(&good, "kid", 7.into())], "its kid must be"),
        (vec![json!("key")], "array"),
        (vec![], "no key"),
        (
            (0..9).map(|_| curve_jwk("EdDSA")).collect(),
            "it has 9 keys",
        ),
    ];
    for (keys, why) in cases {
        let refused = refusal(&mut adopt_with(dir, &keys), &[]);
        assert!(refused.contains(why), "{why}: {refused}");
    }
    write_set(dir, &[good]);
    for (until, why) in [
        ("2020-01-01", "in the future"),
        ("0s", "in the future"),
        ("soon", "--until is a time"),
    ] {
        let refused = refusal(&mut adopt(dir, until), &[]);
        assert!(refused.contains(why), "{why}: {refused}");
    }
    let mut by_http = command(dir);
    by_http.args([
        "keys",
        "adopt",
        "http://issuer.example/keys",
        "--until",
        "1h",
        "--reason",
        "x",
    ]);
    assert!(refusal(&mut by_http, &[]).contains("https only"));
    assert_eq!(server.key_set().json()["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn no_more_than_eight_are_adopted_and_no_more_than_sixteen_published() {
    let (dir, server) = used();
    let keys: Vec<_> = (0..9).map(|_| curve_jwk("EdDSA")).collect();
    adopt_all(dir.path(), &keys[..8], "1h");
    let refused = refusal(&mut adopt_with(dir.path(), &keys[8..]), &[]);
    assert!(refused.contains("9 adopted keys"), "{refused}");
    for _ in 0..7 {
        assert_eq!(
            run(command(dir.path()).args(["keys", "rotate"])).code,
            Some(0)
        );
    }
    let refused = refusal(command(dir.path()).args(["keys", "rotate"]), &[]);
    assert!(
        refused.contains("16 keys are published already"),
        "{refused}"
    );
    assert!(server.stop().success());
}

#[test]
fn a_key_that_another_program_plants_or_whose_end_it_moves_is_not_published() {
    let (dir, server) = used();
    let keys = [curve_jwk("EdDSA"), curve_jwk("EdDSA")];
    adopt_all(dir.path(), &keys[..1], "1h");
    wait_for(&server, 1, &keys[..1]);
    adopt_all(dir.path(), &keys[..1], "5s");
    let kid = keys[0]["kid"].as_str().unwrap();
    let plant = "INSERT INTO adopted_keys VALUES (?1, ?2, 0, 4000000000)";
    let planted = json!({"adopted": keys[1], "until": 4_000_000_000_u32}).to_string();
    let sql = sql(dir.path());
    sql.execute(plant, ["planted", &planted]).unwrap();
    let copy = "INSERT INTO adopted_keys SELECT 'copy', key, 0, 4000000000 FROM adopted_keys WHERE kid = ?";
    sql.execute(copy, [kid]).unwrap();
    sql.execute("UPDATE adopted_keys SET exp = 4000000000", [])
        .unwrap();
    let event = "INSERT INTO adopted_key_events (kid, event, at) VALUES ('x', 'adopted', 0)";
    sql.execute(event, []).unwrap();
    server.wait_for_log("planted");
    wait_for(&server, 1, &[]);
    assert_eq!(kids(&server.key_set().json()).len(), 1);
}

#[test]
fn adopted_keys_move_to_a_new_entry_of_the_sealing_key() {
    let (dir, server) = used();
    let keys = [curve_jwk("EdDSA")];
    adopt_all(dir.path(), &keys, "1h");
    wait_for(&server, 1, &keys);
    assert!(server.stop().success());
    let file = dir.path().join(".env");
    let env = std::fs::read_to_string(&file).unwrap();
    let fresh = crate::support::fresh_key();
    let both = env.replace("NOT_MY_KEY=", &format!("NOT_MY_KEY={fresh},"));
    std::fs::write(&file, both).unwrap();
    let done = shown(dir.path(), &["keys", "reencrypt", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&done).unwrap()["reencrypted"],
        3,
        "{done}"
    );
    let old: Vec<_> = env
        .lines()
        .filter(|line| !line.starts_with("NOT_MY_KEY="))
        .collect();
    std::fs::write(&file, format!("NOT_MY_KEY={fresh}\n{}\n", old.join("\n"))).unwrap();
    let server = Server::start(dir.path(), &[]);
    wait_for(&server, 1, &keys);
}
