//! The steps that check claims, at their limits.

use super::*;

#[test]
fn a_token_ends_with_its_last_second_and_the_leeway() {
    for (exp, verdict) in [
        (json!(NOW + 1), None),
        (json!(NOW), None),
        (json!(NOW - 59), None),
        (json!(1_799_999_940.5), None),
        (json!(NOW - 60), Some(Cause::Expired)),
        (json!(NOW - 61), Some(Cause::Expired)),
        (json!(0), Some(Cause::Expired)),
        (json!(-1), Some(Cause::Expired)),
        (json!(1e300), None),
        (Value::Null, Some(Cause::Malformed)),
        (json!("1900000000"), Some(Cause::Malformed)),
        (json!(true), Some(Cause::Malformed)),
        (json!([NOW + 60]), Some(Cause::Malformed)),
    ] {
        assert_eq!(claim_verdict("exp", exp.clone()), verdict, "{exp}");
    }
    let strict = Expectations {
        leeway: Duration::ZERO,
        ..expected()
    };
    let token = signed(&header(), &with(claims(), "exp", json!(NOW)));
    let at = |now| {
        cause(&verify(
            &token,
            &set(&[jwk()]),
            &strict,
            UnixTime::from_secs(now),
        ))
    };
    assert_eq!((at(NOW - 1), at(NOW)), (None, Some(Cause::Expired)));
}

#[test]
fn a_token_begins_no_sooner_than_the_leeway_before_its_first_second() {
    for name in ["nbf", "iat"] {
        for (from, verdict) in [
            (json!(NOW), None),
            (json!(NOW + 60), None),
            (json!(NOW + 61), Some(Cause::NotYetValid)),
            (json!(1_800_000_060.5), Some(Cause::NotYetValid)),
            (Value::Null, None),
            (json!("soon"), Some(Cause::Malformed)),
        ] {
            assert_eq!(claim_verdict(name, from.clone()), verdict, "{name} {from}");
        }
    }
}

#[test]
fn the_issuer_is_compared_to_the_letter() {
    for iss in [
        json!("https://b.example"),
        json!("https://a.example/"),
        json!("HTTPS://a.example"),
        json!(["https://a.example"]),
        Value::Null,
    ] {
        assert_eq!(
            claim_verdict("iss", iss.clone()),
            Some(Cause::Issuer),
            "{iss}"
        );
    }
}

#[test]
fn the_audience_is_a_string_or_an_array_with_it() {
    for (aud, verdict) in [
        (json!("api"), None),
        (json!(["api"]), None),
        (json!(["other", "api"]), None),
        (json!("other"), Some(Cause::Audience)),
        (json!("api "), Some(Cause::Audience)),
        (json!(["other"]), Some(Cause::Audience)),
        (json!([]), Some(Cause::Audience)),
        (json!(["api", 1]), Some(Cause::Audience)),
        (json!({"api": true}), Some(Cause::Audience)),
        (Value::Null, Some(Cause::Audience)),
    ] {
        assert_eq!(claim_verdict("aud", aud.clone()), verdict, "{aud}");
    }
}
