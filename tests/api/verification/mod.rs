//! Every cause, with tokens that differ from a good one in one thing.

mod claims;
mod wycheproof;

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwks_server::clock::UnixTime;
use jwks_server::crypto::rsa::{KeySource as _, PrivateKey, Rsa2048};
use jwks_server::domain::verification::{
    Cause, Expectations, KeySet, NotAKeySet, Outcome, Step, cause, verify,
};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
const KID: &str = "12345";

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| Rsa2048.generate().unwrap());
static OTHER: LazyLock<PrivateKey> = LazyLock::new(|| Rsa2048.generate().unwrap());

fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": KID})
}

fn claims() -> Value {
    json!({"iss": "https://a.example", "aud": "api", "sub": "alice", "iat": NOW - 10, "exp": NOW + 1790})
}

fn jwk() -> Value {
    let public = KEY.public();
    json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID, "n": public.n, "e": public.e})
}

/// `object` with `name` set, or removed for null.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
        value => object[name] = value,
    }
    object
}

fn signed(header: &Value, claims: &Value) -> String {
    signed_text(&header.to_string(), &claims.to_string())
}

fn signed_text(header: &str, claims: &str) -> String {
    let message = message(header, claims);
    let signature = KEY.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn message(header: &str, claims: &str) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    )
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn expected() -> Expectations {
    Expectations {
        issuer: Some("https://a.example".to_owned()),
        audience: Some("api".to_owned()),
        leeway: Duration::from_secs(60),
    }
}

fn steps(token: &str, keys: &[Value]) -> Vec<Step> {
    verify(token, &set(keys), &expected(), UnixTime::from_secs(NOW))
}

fn verdict(token: &str) -> Option<Cause> {
    cause(&steps(token, &[jwk()]))
}

fn claim_verdict(name: &str, value: Value) -> Option<Cause> {
    verdict(&signed(&header(), &with(claims(), name, value)))
}

fn header_verdict(name: &str, value: Value) -> Option<Cause> {
    verdict(&signed(&with(header(), name, value), &claims()))
}

fn outcome(steps: &[Step], name: &str) -> Outcome {
    steps.iter().find(|step| step.name == name).unwrap().outcome
}

#[test]
fn a_good_token_passes_every_step() {
    let steps = steps(&signed(&header(), &claims()), &[jwk()]);
    assert_eq!(steps.len(), 11);
    for step in &steps {
        assert_eq!(step.outcome, Outcome::Passed, "{step:?}");
    }
}

#[test]
fn what_is_no_signed_token_is_malformed_and_nothing_else_is_said() {
    let good = signed(&header(), &claims());
    let (head, claims_and_rest) = good.split_once('.').unwrap();
    for token in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d.e",
        "a.b.c.d",
        &format!("{good}="),
        &format!("{good}."),
        &format!(" {good}"),
        &format!("{head}=.{claims_and_rest}"),
        &signed_text("[]", "{}"),
        &signed_text(&header().to_string(), "\"text\""),
        &signed_text(&header().to_string(), "{\"exp\":1e999}"),
        &signed_text(&header().to_string(), "{\"exp\":1,\"exp\":1900000000}"),
        &signed_text(
            r#"{"alg":"none","alg":"RS256","kid":"12345"}"#,
            &claims().to_string(),
        ),
    ] {
        let steps = steps(token, &[jwk()]);
        assert_eq!(cause(&steps), Some(Cause::Malformed), "{token:?}");
        assert_eq!(steps.len(), 1, "{token:?}");
    }
}

#[test]
fn the_verifier_picks_the_algorithm_and_the_token_does_not() {
    let none = message(
        &with(header(), "alg", json!("none")).to_string(),
        &claims().to_string(),
    );
    assert_eq!(verdict(&format!("{none}.")), Some(Cause::Algorithm));
    for alg in [
        "none", "None", "rs256", "RS512", "PS256", "ES256", "HS256", "",
    ] {
        assert_eq!(
            header_verdict("alg", json!(alg)),
            Some(Cause::Algorithm),
            "{alg}"
        );
    }
    assert_eq!(header_verdict("alg", Value::Null), Some(Cause::Algorithm));
    assert_eq!(
        header_verdict("alg", json!(["RS256"])),
        Some(Cause::Algorithm)
    );
}

/// The attack of RFC 8725 section 2.1: the public key as shared secret, in the
/// forms in which an attacker has it.
#[test]
fn a_token_signed_with_the_public_key_as_secret_is_refused() {
    let message = message(
        &with(header(), "alg", json!("HS256")).to_string(),
        &claims().to_string(),
    );
    for secret in [jwk().to_string(), KEY.public().n.clone()] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, message.as_bytes());
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
        let octets = json!({"kty": "oct", "kid": KID, "k": URL_SAFE_NO_PAD.encode(&secret)});
        for keys in [vec![jwk()], vec![octets]] {
            let steps = steps(&token, &keys);
            assert_eq!(cause(&steps), Some(Cause::Algorithm));
            assert_eq!(outcome(&steps, "signature"), Outcome::Skipped);
        }
    }
}

#[test]
fn other_kinds_of_token_do_not_pass_for_this_one() {
    for typ in ["at+jwt", "JWS", "", "dpop+jwt", "application/at+jwt"] {
        assert_eq!(
            header_verdict("typ", json!(typ)),
            Some(Cause::Type),
            "{typ}"
        );
    }
    for typ in [json!("jwt"), json!("application/jwt"), Value::Null] {
        assert_eq!(header_verdict("typ", typ.clone()), None, "{typ}");
    }
    assert_eq!(header_verdict("typ", json!(1)), Some(Cause::Type));
}

#[test]
fn extensions_that_must_be_understood_are_not() {
    for crit in [json!(["exp"]), json!([]), json!(["b64"]), json!("x")] {
        assert_eq!(header_verdict("crit", crit), Some(Cause::Malformed));
    }
    let steps = steps(
        &signed(&with(header(), "jwk", jwk()), &claims()),
        &[with(jwk(), "kid", json!("another"))],
    );
    assert_eq!(
        cause(&steps),
        Some(Cause::UnknownKey),
        "a key in the header is not used"
    );
}

#[test]
fn the_key_must_be_named_and_in_the_set() {
    for kid in [json!("1"), json!(12345), json!(""), Value::Null] {
        assert_eq!(
            header_verdict("kid", kid.clone()),
            Some(Cause::UnknownKey),
            "{kid}"
        );
    }
    let token = signed(&header(), &claims());
    assert_eq!(cause(&steps(&token, &[])), Some(Cause::UnknownKey));
    let number = with(jwk(), "kid", json!(12345));
    assert_eq!(cause(&steps(&token, &[number])), Some(Cause::UnknownKey));
}

#[test]
fn a_key_that_is_not_for_this_is_not_used() {
    let token = signed(&header(), &claims());
    let small = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let padded = URL_SAFE_NO_PAD.encode([[0; 128], [0xff; 128]].concat());
    for (name, value) in [
        ("kty", json!("EC")),
        ("kty", json!("oct")),
        ("kty", Value::Null),
        ("use", json!("enc")),
        ("use", json!(["sig"])),
        ("alg", json!("RS512")),
        ("alg", json!("HS256")),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!("verify")),
        ("d", json!("AQAB")),
        ("n", json!(small)),
        ("n", json!(padded)),
        ("n", json!("")),
        ("n", json!("no base64!")),
        ("n", Value::Null),
        ("e", json!("AA")),
        ("e", Value::Null),
    ] {
        let steps = steps(&token, &[with(jwk(), name, value.clone())]);
        assert_eq!(cause(&steps), Some(Cause::UnfitKey), "{name}={value}");
        assert_eq!(outcome(&steps, "signature"), Outcome::Skipped);
    }
    for name in ["use", "alg"] {
        let steps = steps(&token, &[with(jwk(), name, Value::Null)]);
        assert_eq!(cause(&steps), None, "{name} may be absent");
    }
    let operations = with(jwk(), "key_ops", json!(["verify"]));
    assert_eq!(cause(&steps(&token, &[operations])), None);
}

#[test]
fn of_keys_with_one_name_the_only_fit_one_counts() {
    let token = signed(&header(), &claims());
    let other = with(jwk(), "n", json!(OTHER.public().n));
    let encryption = with(other.clone(), "use", json!("enc"));
    let curve = json!({"kty": "EC", "kid": KID, "crv": "P-256", "x": "AA", "y": "AA"});
    assert_eq!(cause(&steps(&token, &[curve, encryption, jwk()])), None);
    assert_eq!(cause(&steps(&token, &[jwk(), jwk()])), None);
    assert_eq!(
        cause(&steps(&token, &[jwk(), other])),
        Some(Cause::UnfitKey)
    );
}

#[test]
fn a_changed_token_has_the_wrong_signature() {
    let good = signed(&header(), &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let mallory = URL_SAFE_NO_PAD.encode(with(claims(), "sub", json!("mallory")).to_string());
    for token in [
        format!("{head}.{mallory}.{signature}"),
        format!("{message}."),
        format!("{message}.{}", &signature[..signature.len() - 2]),
        format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 256])),
    ] {
        let steps = steps(&token, &[jwk()]);
        assert_eq!(cause(&steps), Some(Cause::Signature));
        assert_eq!(
            outcome(&steps, "expiry"),
            Outcome::Passed,
            "the rest is checked"
        );
    }
    let other = with(jwk(), "n", json!(OTHER.public().n));
    assert_eq!(cause(&steps(&good, &[other])), Some(Cause::Signature));
}

#[test]
fn an_expectation_that_is_not_set_is_shown_as_skipped() {
    let nothing = Expectations::default();
    let now = UnixTime::from_secs(NOW);
    let steps = verify(&signed(&header(), &claims()), &set(&[jwk()]), &nothing, now);
    assert_eq!(cause(&steps), None);
    for name in ["issuer", "audience"] {
        assert_eq!(outcome(&steps, name), Outcome::Skipped);
    }
}

#[test]
fn the_first_failure_decides_and_the_later_ones_are_shown() {
    let token = signed(
        &with(header(), "kid", json!("gone")),
        &with(with(claims(), "exp", json!(1)), "aud", json!("other")),
    );
    let steps = steps(&token, &[jwk()]);
    assert_eq!(cause(&steps), Some(Cause::UnknownKey));
    assert_eq!(outcome(&steps, "expiry"), Outcome::Failed(Cause::Expired));
    assert_eq!(
        outcome(&steps, "audience"),
        Outcome::Failed(Cause::Audience)
    );
}

#[test]
fn no_step_repeats_a_part_of_the_token_or_breaks_a_line() {
    let long = "\n\u{1b}[31m".to_owned() + &"x".repeat(500);
    let token = signed(
        &with(header(), "kid", json!(long)),
        &with(claims(), "iss", json!(long)),
    );
    for step in steps(&token, &[jwk()]) {
        assert!(step.detail.len() < 400, "{step:?}");
        assert!(!step.detail.contains(char::is_control), "{step:?}");
        for part in token.split('.') {
            assert!(!step.detail.contains(part), "{step:?}");
        }
    }
}

#[test]
fn a_key_set_is_an_object_with_keys_and_what_is_no_key_in_it_is_passed_over() {
    for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]} x", "<html>"] {
        assert_eq!(
            KeySet::parse(text.as_bytes()).err(),
            Some(NotAKeySet),
            "{text}"
        );
    }
    let token = signed(&header(), &claims());
    let odd = [json!(1), json!({"kty": "new"}), jwk()];
    assert_eq!(cause(&steps(&token, &odd)), None);
}
