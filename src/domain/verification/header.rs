//! The steps that check the header alone.

use serde_json::Value;

use super::parts::Object;
use super::{Cause, Finding, failed, passed, quoted};

/// RS256 and nothing else: the verifier decides, not the token (RFC 8725
/// section 3.1).
pub(super) fn algorithm(header: &Object) -> Finding {
    let Some(Value::String(alg)) = header.get("alg") else {
        return failed(Cause::Algorithm, "alg is missing or not a string");
    };
    match alg.as_str() {
        "RS256" => passed("alg is RS256"),
        none if none.eq_ignore_ascii_case("none") => failed(
            Cause::Algorithm,
            "alg is none: anyone could have made the token",
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

/// Other kinds of signed tokens must not pass for a JWT (RFC 8725 section 3.11);
/// `typ` is optional (RFC 7519 section 5.1).
pub(super) fn token_type(header: &Object) -> Finding {
    match header.get("typ") {
        None => passed("typ is absent, which is allowed"),
        Some(Value::String(typ)) if is_jwt(typ) => passed("typ is JWT"),
        Some(Value::String(typ)) => failed(
            Cause::Type,
            format!("typ is {} and must be JWT", quoted(typ)),
        ),
        Some(_) => failed(Cause::Type, "typ is not a string"),
    }
}

/// Media types are case-insensitive, and `application/` may be omitted (RFC 7515
/// section 4.1.9).
fn is_jwt(typ: &str) -> bool {
    let short = typ
        .split_at_checked("application/".len())
        .filter(|(prefix, _)| prefix.eq_ignore_ascii_case("application/"))
        .map_or(typ, |(_, rest)| rest);
    short.eq_ignore_ascii_case("jwt")
}

/// Extensions named in `crit` must be understood, and none is supported (RFC 7515
/// section 4.1.11). Keys in the header are not used.
pub(super) fn extensions(header: &Object) -> Finding {
    if header.contains_key("crit") {
        return failed(
            Cause::Malformed,
            "crit requires extensions, and none is supported",
        );
    }
    let ignored: Vec<_> = ["jwk", "jku", "x5c", "x5u"]
        .into_iter()
        .filter(|name| header.contains_key(*name))
        .collect();
    if ignored.is_empty() {
        passed("no crit")
    } else {
        passed(format!(
            "no crit; {} in the header is ignored, only keys of the set are used",
            ignored.join(", ")
        ))
    }
}
