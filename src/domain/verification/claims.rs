//! The steps that check the claims alone (RFC 7519 section 4.1).

use std::time::Duration;

use serde_json::Value;

use super::parts::Object;
use super::{Cause, Expectations, Finding, failed, passed, quoted, skipped};
use crate::clock::UnixTime;

/// `exp` is optional in the RFC, but a token without it would be valid for ever.
pub(super) fn expiry(claims: &Object, leeway: Duration, now: UnixTime) -> Finding {
    let exp = match date(claims, "exp") {
        Ok(Some(exp)) => exp,
        Ok(None) => return failed(Cause::Malformed, "exp is missing"),
        Err(why) => return failed(Cause::Malformed, why),
    };
    let end = at(exp).rfc3339();
    if seconds(now) < exp {
        passed(format!("expires in {}, at {end}", span(exp - seconds(now))))
    } else if seconds(now) < exp + leeway.as_secs_f64() {
        passed(format!(
            "expired {} ago, at {end}, within the leeway of {}",
            span(seconds(now) - exp),
            humantime::format_duration(leeway)
        ))
    } else {
        failed(
            Cause::Expired,
            format!("expired {} ago, at {end}", span(seconds(now) - exp)),
        )
    }
}

/// `nbf` and `iat`, neither of which may be in the future: the clocks would disagree.
pub(super) fn start(claims: &Object, leeway: Duration, now: UnixTime) -> Finding {
    let mut details = Vec::new();
    for name in ["nbf", "iat"] {
        let from = match date(claims, name) {
            Ok(Some(from)) => from,
            Ok(None) => continue,
            Err(why) => return failed(Cause::Malformed, why),
        };
        let ahead = from - seconds(now);
        let start = at(from).rfc3339();
        if ahead > leeway.as_secs_f64() {
            let what = format!("{name} is {} ahead, at {start}", span(ahead));
            return failed(Cause::NotYetValid, what);
        }
        details.push(match ahead {
            ahead if ahead > 0.0 => format!(
                "{name} is {} ahead, within the leeway of {}",
                span(ahead),
                humantime::format_duration(leeway)
            ),
            _ => format!("{name} was {} ago, at {start}", span(-ahead)),
        });
    }
    if details.is_empty() {
        passed("neither nbf nor iat, which is allowed")
    } else {
        passed(details.join("; "))
    }
}

pub(super) fn issuer(claims: &Object, expected: &Expectations) -> Finding {
    let found = match claims.get("iss") {
        None => None,
        Some(Value::String(iss)) => Some(iss),
        Some(_) => return failed(Cause::Issuer, "iss is not a string"),
    };
    let is = found.map_or("is missing".to_owned(), |iss| format!("is {}", quoted(iss)));
    match &expected.issuer {
        None => skipped(format!("iss {is}; no issuer is expected")),
        Some(wanted) if found == Some(wanted) => passed(format!("iss {is}")),
        Some(wanted) => failed(
            Cause::Issuer,
            format!("iss {is} and must be {}", quoted(wanted)),
        ),
    }
}

/// `aud` is a string or an array of strings.
pub(super) fn audience(claims: &Object, expected: &Expectations) -> Finding {
    let found: Option<Vec<&str>> = match claims.get("aud") {
        None => Some(Vec::new()),
        Some(Value::String(one)) => Some(vec![one]),
        Some(Value::Array(all)) => all.iter().map(Value::as_str).collect(),
        Some(_) => None,
    };
    let Some(found) = found else {
        return failed(
            Cause::Audience,
            "aud is neither a string nor an array of strings",
        );
    };
    let is = match found.len() {
        0 => "is empty or missing".to_owned(),
        _ => {
            let names: Vec<_> = found.iter().take(10).map(|name| quoted(name)).collect();
            format!("is {}", names.join(", "))
        }
    };
    match &expected.audience {
        None if found.is_empty() => passed("aud is absent: the token is for anyone"),
        None => skipped(format!(
            "aud {is}; no audience is expected, though verifiers that it does not name must refuse the token"
        )),
        Some(wanted) if found.contains(&wanted.as_str()) => passed(format!("aud {is}")),
        Some(wanted) => failed(
            Cause::Audience,
            format!("aud {is} and must contain {}", quoted(wanted)),
        ),
    }
}

/// A `NumericDate`, perhaps with a fraction.
fn date(claims: &Object, name: &str) -> Result<Option<f64>, String> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(date) if date.is_finite() => Ok(Some(date)),
            _ => Err(format!("{name} is not a number of seconds")),
        },
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53 seconds, which is 285 million years"
)]
fn seconds(at: UnixTime) -> f64 {
    at.as_secs() as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a fraction is dropped on purpose, and a date out of range saturates"
)]
fn at(date: f64) -> UnixTime {
    UnixTime::from_secs(date as i64)
}

/// The two largest units, of whole seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fraction is dropped on purpose, and a number out of range saturates"
)]
fn span(seconds: f64) -> String {
    let whole = Duration::from_secs(seconds as u64);
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
