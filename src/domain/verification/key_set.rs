//! The key set (RFC 7517 section 5), and the key of it that may verify a token.

use serde_json::Value;

use super::parts::Object;
use super::{Cause, Finding, failed, passed, quoted};
use crate::crypto::jwk_text;
use crate::crypto::rsa::{CHECKED_BITS, PublicKey};

/// Members that only a private RSA key has.
const PRIVATE: [&str; 6] = ["d", "p", "q", "dp", "dq", "qi"];
/// Kids that a message lists.
const LISTED: usize = 10;

/// A key set as it was fetched, without entries that are not JSON objects.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Object>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a JSON object with an array \"keys\"")]
pub struct NotAKeySet;

impl KeySet {
    pub fn parse(text: &[u8]) -> Result<Self, NotAKeySet> {
        let mut set: Object = serde_json::from_slice(text).map_err(|_| NotAKeySet)?;
        let Some(Value::Array(keys)) = set.remove("keys") else {
            return Err(NotAKeySet);
        };
        let objects = keys.into_iter().filter_map(|key| match key {
            Value::Object(members) => Some(members),
            _ => None,
        });
        Ok(Self {
            keys: objects.collect(),
        })
    }

    /// The kids of all keys that have one.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| jwk_text(key, "kid"))
    }
}

/// The keys with the token's kid. Several may have it, of which one is fit (RFC
/// 7517 section 4.5).
pub(super) fn named_by<'a>(
    header: &Object,
    set: &'a KeySet,
) -> Result<(Vec<&'a Object>, String), String> {
    let kid = match header.get("kid") {
        Some(Value::String(kid)) => kid,
        Some(_) => return Err("kid is not a string".to_owned()),
        None => return Err("the token has no kid".to_owned()),
    };
    let named: Vec<_> = set
        .keys
        .iter()
        .filter(|key| jwk_text(key, "kid") == Some(kid))
        .collect();
    if named.is_empty() {
        return Err(format!(
            "kid {} is not in the set, which has {}",
            quoted(kid),
            listed(set)
        ));
    }
    let detail = format!("kid {} is in the set", quoted(kid));
    Ok((named, detail))
}

/// The one key that may verify the token.
pub(super) fn fit_one(named: &[&Object]) -> (Finding, Option<PublicKey>) {
    let mut fit = Vec::new();
    let mut unfit = Vec::new();
    for key in named {
        match read(key) {
            Ok(key) if fit.contains(&key) => {}
            Ok(key) => fit.push(key),
            Err(why) => unfit.push(why),
        }
    }
    if fit.len() > 1 {
        let why = format!("{} different keys of the set have this kid", fit.len());
        return (failed(Cause::UnfitKey, why), None);
    }
    match fit.pop() {
        Some(key) => {
            let bits = key.modulus_bits().unwrap_or(0);
            let detail = format!("an RSA key of {bits} bits for RS256 signatures");
            (passed(detail), Some(key))
        }
        None => (failed(Cause::UnfitKey, unfit.join("; ")), None),
    }
}

/// The public key in a JWK, if it may verify RS256 signatures.
fn read(key: &Object) -> Result<PublicKey, String> {
    let other = |name: &str, needed: &str| {
        format!(
            "its {name} is {} and must be {needed}",
            jwk_text(key, name).map_or("missing or not a string".to_owned(), quoted)
        )
    };
    if jwk_text(key, "kty") != Some("RSA") {
        return Err(other("kty", "RSA"));
    }
    if PRIVATE.iter().any(|name| key.contains_key(*name)) {
        return Err("the set contains its private half: anyone can sign with it".to_owned());
    }
    if key.contains_key("use") && jwk_text(key, "use") != Some("sig") {
        return Err(other("use", "sig"));
    }
    if key.contains_key("alg") && jwk_text(key, "alg") != Some("RS256") {
        return Err(other("alg", "RS256"));
    }
    if let Some(operations) = key.get("key_ops") {
        let verify = Value::from("verify");
        if !operations
            .as_array()
            .is_some_and(|all| all.contains(&verify))
        {
            return Err("its key_ops do not contain verify".to_owned());
        }
    }
    numbers(key)
}

fn numbers(key: &Object) -> Result<PublicKey, String> {
    let (Some(n), Some(e)) = (jwk_text(key, "n"), jwk_text(key, "e")) else {
        return Err("its n or e is missing or not a string".to_owned());
    };
    let key = PublicKey {
        n: n.to_owned(),
        e: e.to_owned(),
    };
    match key.modulus_bits() {
        None => Err("its n or e is not base64url of a number".to_owned()),
        Some(bits) if !CHECKED_BITS.contains(&bits) => Err(format!(
            "it has {bits} bits and must have {} to {}",
            CHECKED_BITS.start(),
            CHECKED_BITS.end()
        )),
        Some(_) => Ok(key),
    }
}

fn listed(set: &KeySet) -> String {
    let kids: Vec<_> = set.kids().take(LISTED).map(quoted).collect();
    let more = if set.kids().nth(LISTED).is_some() {
        " and more"
    } else {
        ""
    };
    match kids.len() {
        0 => "no key with a kid".to_owned(),
        _ => format!("{}{more}", kids.join(", ")),
    }
}
