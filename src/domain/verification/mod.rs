//! Verification of a token as a list of steps, each with its result in words.
//! Pure: the key set, the expectations and the time are arguments. The rules are
//! those of RFC 7515, 7517 and 7519, and of RFC 8725 where it is stricter.

mod claims;
mod header;
mod key_set;
mod parts;

use std::time::Duration;

use serde_json::Value;
use strum::IntoStaticStr;

use crate::clock::UnixTime;
use crate::crypto::rsa::PublicKey;
pub use key_set::{KeySet, NotAKeySet};
use parts::Parts;

#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// `iss`; not checked when none.
    pub issuer: Option<String>,
    /// An entry of `aud`; not checked when none.
    pub audience: Option<String>,
    /// Tolerated difference between the clocks of issuer and verifier.
    pub leeway: Duration,
}

/// Reason for which a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Cause {
    /// Not a signed JWT, or one with impossible values.
    Malformed,
    /// `alg` is not RS256.
    Algorithm,
    /// `typ` is not JWT.
    Type,
    /// The key set does not contain its key.
    #[strum(serialize = "unknown key")]
    UnknownKey,
    /// Its key must not be used for RS256 signatures.
    #[strum(serialize = "unfit key")]
    UnfitKey,
    /// It was changed, or another key signed it.
    Signature,
    Expired,
    #[strum(serialize = "not yet valid")]
    NotYetValid,
    Issuer,
    Audience,
}

impl Cause {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// Impossible after an earlier failure, or not asked for.
    Skipped,
    Failed(Cause),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: &'static str,
    pub outcome: Outcome,
    /// The outcome in words, with values of the token's header and claims, but
    /// never with a part of the token itself.
    pub detail: String,
}

impl Step {
    /// A step that is not about the token's contents.
    pub fn passed(name: &'static str, detail: String) -> Self {
        Self {
            name,
            outcome: Outcome::Passed,
            detail,
        }
    }
}

/// Outcome and detail of a step.
type Finding = (Outcome, String);

/// Takes all steps that are possible.
pub fn verify(token: &str, set: &KeySet, expected: &Expectations, now: UnixTime) -> Vec<Step> {
    let read = Parts::read(token).and_then(|parts| Ok((parts.claims()?, parts)));
    let (claims, parts) = match read {
        Ok(read) => read,
        Err(why) => return vec![step("form", failed(Cause::Malformed, why))],
    };
    let form = passed("three parts; header and claims are JSON objects");
    let leeway = expected.leeway;
    let mut steps = vec![step("form", form)];
    steps.extend(signature_steps(&parts, set));
    steps.extend([
        step("expiry", claims::expiry(&claims, leeway, now)),
        step("start", claims::start(&claims, leeway, now)),
        step("issuer", claims::issuer(&claims, expected)),
        step("audience", claims::audience(&claims, expected)),
    ]);
    steps
}

/// The steps up to the signature, over a payload of any bytes (RFC 7515 alone).
pub fn verify_signature(token: &str, set: &KeySet) -> Vec<Step> {
    let parts = match Parts::read(token) {
        Ok(parts) => parts,
        Err(why) => return vec![step("form", failed(Cause::Malformed, why))],
    };
    let form = passed("three parts; the header is a JSON object");
    let mut steps = vec![step("form", form)];
    steps.extend(signature_steps(&parts, set));
    steps
}

fn signature_steps(parts: &Parts<'_>, set: &KeySet) -> [Step; 6] {
    let algorithm = header::algorithm(&parts.header);
    let (key, key_use, fit) = match key_set::named_by(&parts.header, set) {
        Ok((keys, detail)) => {
            let (key_use, fit) = key_set::fit_one(&keys);
            (passed(detail), key_use, fit)
        }
        Err(why) => (
            failed(Cause::UnknownKey, why),
            skipped("there is no key to check"),
            None,
        ),
    };
    let fit = fit.filter(|_| algorithm.0 == Outcome::Passed);
    [
        step("algorithm", algorithm),
        step("type", header::token_type(&parts.header)),
        step("extensions", header::extensions(&parts.header)),
        step("key", key),
        step("key use", key_use),
        step("signature", signature(parts, fit)),
    ]
}

/// Header and claims of a token, of which nothing is checked.
pub fn contents(token: &str) -> Option<(Value, Value)> {
    let parts = Parts::read(token).ok()?;
    let claims = parts.claims().ok()?;
    Some((parts.header.into(), claims.into()))
}

/// Reason for which the token is refused: that of the first step that failed.
pub fn cause(steps: &[Step]) -> Option<Cause> {
    steps.iter().find_map(|step| match step.outcome {
        Outcome::Failed(cause) => Some(cause),
        _ => None,
    })
}

fn signature(parts: &Parts<'_>, key: Option<PublicKey>) -> Finding {
    match key {
        None => skipped("it cannot be checked without RS256 and a fit key"),
        Some(key) if key.verifies(parts.signed.as_bytes(), &parts.signature) => {
            passed("the key signed exactly this header and these claims")
        }
        Some(_) => failed(
            Cause::Signature,
            "not by this key over this header and these claims: the token was changed, or another key signed it",
        ),
    }
}

fn step(name: &'static str, (outcome, detail): Finding) -> Step {
    Step {
        name,
        outcome,
        detail,
    }
}

fn passed(detail: impl Into<String>) -> Finding {
    (Outcome::Passed, detail.into())
}

fn skipped(detail: impl Into<String>) -> Finding {
    (Outcome::Skipped, detail.into())
}

fn failed(cause: Cause, detail: impl Into<String>) -> Finding {
    (Outcome::Failed(cause), detail.into())
}

/// A value of the token for people: quoted, on one line, shortened.
fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    if text.chars().count() <= MAX_CHARS {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(MAX_CHARS).collect();
    format!("{start:?}...")
}
