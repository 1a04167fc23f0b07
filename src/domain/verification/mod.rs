//! What a verifier does with a token, as a list of steps, each with words. Pure:
//! a token, a key set, what is expected and the moment go in. The rules are
//! those of RFC 7515, 7517 and 7519, and of RFC 8725 where it is stricter.

mod claims;
mod header;
mod key_set;
mod parts;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::clock::UnixTime;
use crate::crypto::rsa::PublicKey;
pub use key_set::{KeySet, NotAKeySet};
use parts::Parts;

/// What the verifier wants to see.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// The one `iss`; with none, it is not checked.
    pub issuer: Option<String>,
    /// What must be in `aud`; with none, it is not checked.
    pub audience: Option<String>,
    /// How far the clocks of issuer and verifier may be apart.
    pub leeway: Duration,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is no signed JWT, or one whose parts say things that cannot be.
    Malformed,
    /// It is not signed with RS256, or says that it is not.
    Algorithm,
    /// It is another kind of token.
    Type,
    /// Its key is not in the set.
    UnknownKey,
    /// Its key must not be used for this.
    UnfitKey,
    /// It was changed, or another key signed it.
    Signature,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Somebody else issued it, as far as it says.
    Issuer,
    /// It is meant for somebody else.
    Audience,
}

impl Cause {
    /// Its name in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::UnknownKey => "unknown key",
            Self::UnfitKey => "unfit key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Passed,
    /// It could not be done, or nobody asked for it.
    Skipped,
    /// The token is not accepted.
    Failed(Cause),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was looked at.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// The same in words, with values of the token's header and claims, but
    /// never with a part of the token itself.
    pub detail: String,
}

/// A step's ending and its words.
type Finding = (Outcome, String);

/// Goes through all steps that can be taken.
pub fn verify(token: &str, set: &KeySet, expected: &Expectations, now: UnixTime) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut note = |name, (outcome, detail): Finding| {
        steps.push(Step {
            name,
            outcome,
            detail,
        });
        outcome == Outcome::Passed
    };
    let parts = match Parts::read(token) {
        Ok(parts) => parts,
        Err(why) => {
            note("form", failed(Cause::Malformed, why));
            return steps;
        }
    };
    note(
        "form",
        passed("three parts; header and claims are JSON objects"),
    );
    let rs256 = note("algorithm", header::algorithm(&parts.header));
    note("type", header::token_type(&parts.header));
    note("extensions", header::extensions(&parts.header));
    let key = match key_set::named_by(&parts.header, set) {
        Ok((keys, words)) => {
            note("key", passed(words));
            let (finding, key) = key_set::fit_one(&keys);
            note("key use", finding);
            key
        }
        Err(why) => {
            note("key", failed(Cause::UnknownKey, why));
            note("key use", skipped("there is no key to look at"));
            None
        }
    };
    note("signature", signature(&parts, key.filter(|_| rs256)));
    note(
        "expiry",
        claims::expiry(&parts.claims, expected.leeway, now),
    );
    note("start", claims::start(&parts.claims, expected.leeway, now));
    note("issuer", claims::issuer(&parts.claims, expected));
    note("audience", claims::audience(&parts.claims, expected));
    steps
}

/// Why the token is not accepted: what the first step that failed says.
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
            passed("the key has signed exactly this header and these claims")
        }
        Some(_) => failed(
            Cause::Signature,
            "it does not belong to this key and these contents: the token was changed, or another key signed it",
        ),
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

/// A value of the token for the eyes: in quotes, on one line, not too long.
fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    if text.chars().count() <= MOST {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{start:?}...")
}
