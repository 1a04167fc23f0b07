//! The steps that look at the header alone.

use serde_json::Value;

use super::parts::Object;
use super::{Cause, Finding, failed, passed, quoted};

/// RS256 and nothing else: the verifier decides, not the token (RFC 8725
/// section 3.1).
pub(super) fn algorithm(header: &Object) -> Finding {
    let Some(Value::String(alg)) = header.get("alg") else {
        return failed(Cause::Algorithm, "alg is missing or not a text");
    };
    match alg.as_str() {
        "RS256" => passed("alg is RS256"),
        none if none.eq_ignore_ascii_case("none") => failed(
            Cause::Algorithm,
            "alg is none: anyone could have written it",
        ),
        "HS256" | "HS384" | "HS512" => failed(
            Cause::Algorithm,
            format!(
                "alg is {alg}, which needs a shared secret: with a key set, anyone could sign with the public key"
            ),
        ),
        other => failed(
            Cause::Algorithm,
            format!("alg is {} and must be RS256", quoted(other)),
        ),
    }
}

/// Other kinds of signed tokens must not pass for this one (RFC 8725 section
/// 3.11). Without `typ` it may be one (RFC 7519 section 5.1).
pub(super) fn token_type(header: &Object) -> Finding {
    match header.get("typ") {
        None => passed("typ is absent, which is allowed"),
        Some(Value::String(typ)) if is_jwt(typ) => passed("typ is JWT"),
        Some(Value::String(typ)) => failed(
            Cause::Type,
            format!("typ is {} and must be JWT", quoted(typ)),
        ),
        Some(_) => failed(Cause::Type, "typ is not a text"),
    }
}

/// Media types are the same in upper and lower case, and `application/` may be
/// left out (RFC 7515 section 4.1.9).
fn is_jwt(typ: &str) -> bool {
    let short = typ
        .split_at_checked("application/".len())
        .filter(|(prefix, _)| prefix.eq_ignore_ascii_case("application/"))
        .map_or(typ, |(_, rest)| rest);
    short.eq_ignore_ascii_case("jwt")
}

/// What `crit` names must be understood, and here nothing is (RFC 7515 section
/// 4.1.11). Keys that the token brings along are not used.
pub(super) fn extensions(header: &Object) -> Finding {
    if header.contains_key("crit") {
        return failed(
            Cause::Malformed,
            "crit asks for extensions that must be understood, and there are none here",
        );
    }
    let brought: Vec<_> = ["jwk", "jku", "x5c", "x5u"]
        .into_iter()
        .filter(|name| header.contains_key(*name))
        .collect();
    if brought.is_empty() {
        passed("no crit")
    } else {
        passed(format!(
            "no crit; {} in the header is not used, keys come from the set alone",
            brought.join(", ")
        ))
    }
}
