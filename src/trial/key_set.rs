//! Findings about a key set, anybody's: what is wrong with it, and which verifiers it
//! is too much for.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::crypto::curves::is_point;
use crate::crypto::rsa::PublicKey;
use crate::crypto::{SECRET_MEMBERS, jwk_text};

/// More operations than RFC 7517 section 4.3 knows; a longer list is not looked at.
const MAX_OPERATIONS: usize = 32;
/// Findings of one kind that are listed.
const MAX_LISTED: usize = 5;
/// Keys that Amazon's API Gateway reads.
const AWS_KEYS: usize = 100;
/// Bytes that Nimbus reads by default.
const NIMBUS_BYTES: usize = 50 * 1024;
/// RFC 7518 section 3.3.
const MIN_BITS: usize = 2048;

const PRIVATE: &str =
    "remove it at once and take the key out of use: whoever fetched the set can sign";
const BROKEN: &str = "publish the key again from its source; verifiers refuse its tokens";

pub enum Finding {
    Ok(String),
    /// It works with most verifiers; what was found, and what to do.
    Warn(String, &'static str),
    Fail(String, &'static str),
}

use Finding::{Fail, Warn};

/// Each finding with the name of its check.
pub type Findings = Vec<(&'static str, Finding)>;

pub fn findings(body: &[u8]) -> Findings {
    let document: Value = match serde_json::from_slice(body) {
        Ok(document) => document,
        Err(e) => {
            let why = format!("it is not JSON: {e}");
            return vec![(
                "document",
                Fail(why, "answer with the key set, or with 503"),
            )];
        }
    };
    let Some(entries) = document["keys"].as_array() else {
        let why = "it is not a JSON object with an array \"keys\"".to_owned();
        let advice = "give the URL of a key set, or of an issuer with discovery documents";
        return vec![("document", Fail(why, advice))];
    };
    let mut findings = Findings::new();
    let keys: Vec<_> = entries.iter().filter_map(Value::as_object).collect();
    if keys.len() < entries.len() {
        let why = format!("{} entries are no objects", entries.len() - keys.len());
        findings.push(("document", Fail(why, "remove them")));
    }
    if keys.is_empty() {
        let advice = "answer 503 when there is no key: verifiers that keep an empty set refuse all";
        findings.push(("document", Fail("the set has no key".to_owned(), advice)));
        return findings;
    }
    for (n, key) in keys.iter().enumerate() {
        let name = match jwk_text(key, "kid") {
            Some(kid) => format!("key {}", shortened(kid)),
            None => format!("key number {}", n + 1),
        };
        let about = about(key).into_iter();
        findings.extend(about.map(|(check, finding)| (check, finding.of(&name))));
    }
    same_kid(&keys, &mut findings);
    shorten(&mut findings);
    if findings.is_empty() {
        let text = format!("{} keys, in {} bytes", keys.len(), body.len());
        findings.push(("document", Finding::Ok(text)));
    }
    findings.extend(verifier_limits(body, &keys));
    findings
}

impl Finding {
    fn of(self, name: &str) -> Self {
        match self {
            Self::Ok(text) => Self::Ok(format!("{name}: {text}")),
            Warn(text, advice) => Warn(format!("{name}: {text}"), advice),
            Fail(text, advice) => Fail(format!("{name}: {text}"), advice),
        }
    }
}

fn about(key: &Map<String, Value>) -> Findings {
    let mut findings = Findings::new();
    let kty = jwk_text(key, "kty");
    let secret = SECRET_MEMBERS.into_iter();
    let held: Vec<_> = secret.filter(|it| key.contains_key(*it)).collect();
    if kty == Some("oct") || !held.is_empty() {
        let why = format!("it has secret members: {}", held.join(", "));
        findings.push(("secrets", Fail(why, PRIVATE)));
    }
    match key.get("kid") {
        Some(Value::String(_)) => {}
        Some(_) => findings.push(("kid", Fail("kid is not a string".to_owned(), BROKEN))),
        None => {
            let advice = "give each key a kid, such as its thumbprint (RFC 7638)";
            let why = "it has no kid: verifiers must try all keys, and some do not";
            findings.push(("kid", Warn(why.to_owned(), advice)));
        }
    }
    let numbers = match kty {
        Some("RSA") => rsa(key),
        Some("EC") => ec(key),
        Some("OKP") => okp(key),
        Some(_) => Ok(()),
        None => Err("kty is missing or not a string".to_owned()),
    };
    if let Err(why) = numbers {
        findings.push(("numbers", Fail(why, BROKEN)));
    }
    let e = jwk_text(key, "e").and_then(|e| URL_SAFE_NO_PAD.decode(e).ok());
    if kty == Some("RSA") && e.is_some_and(|e| e.len() > 4) {
        let why = "e has over 32 bits, which some libraries do not read".to_owned();
        findings.push(("numbers", Warn(why, "use 65537 (AQAB) for new keys")));
    }
    let usage = [algorithm(key), public_key_use(key), key_operations(key)];
    findings.extend(usage.into_iter().flatten().map(|found| ("use", found)));
    findings
}

/// `alg` (RFC 7517 section 4.4).
fn algorithm(key: &Map<String, Value>) -> Option<Finding> {
    let Some(alg) = jwk_text(key, "alg") else {
        let why = "it has no alg, without which some verifiers take no key".to_owned();
        return Some(Warn(why, "name the one algorithm that it signs with"));
    };
    let curve = jwk_text(key, "crv").unwrap_or_default();
    let wanted = match alg {
        "ES256" => ("EC", "P-256"),
        "ES384" => ("EC", "P-384"),
        "ES512" => ("EC", "P-521"),
        "EdDSA" | "Ed25519" | "Ed448" => ("OKP", ""),
        _ if ["RS", "PS"].contains(&alg.get(..2).unwrap_or_default()) => ("RSA", ""),
        _ if alg.starts_with("HS") || alg == "none" => ("oct", ""),
        // Of encryption, or not known here.
        _ => (jwk_text(key, "kty").unwrap_or_default(), ""),
    };
    let has_kty = jwk_text(key, "kty") == Some(wanted.0);
    (!has_kty || (!wanted.1.is_empty() && curve != wanted.1)).then(|| {
        let why = format!("alg {} is not of its kty and crv", shortened(alg));
        Fail(why, "publish the right alg")
    })
}

/// Value of `use`, the empty text for one that is no text.
fn usage(key: &Map<String, Value>) -> Option<&str> {
    key.get("use").map(|it| it.as_str().unwrap_or_default())
}

/// `use` (RFC 7517 section 4.2).
fn public_key_use(key: &Map<String, Value>) -> Option<Finding> {
    match usage(key) {
        Some("sig" | "enc") => None,
        Some(_) => {
            let why = "use is neither sig nor enc".to_owned();
            Some(Fail(why, "publish use as sig"))
        }
        None if key.contains_key("key_ops") => None,
        None => {
            let why = "it has no use, without which some verifiers take no key".to_owned();
            Some(Warn(why, "publish use as sig"))
        }
    }
}

/// `key_ops` (RFC 7517 section 4.3).
fn key_operations(key: &Map<String, Value>) -> Option<Finding> {
    let operations = key.get("key_ops")?;
    let usage = usage(key);
    let operations: Vec<_> = operations.as_array().into_iter().flatten().collect();
    let has = |name: &str| operations.iter().any(|it| **it == *name);
    let why = if operations.is_empty() {
        "key_ops is not a list of operations"
    } else if operations.len() > MAX_OPERATIONS {
        "key_ops has more operations than there are"
    } else if (1..operations.len()).any(|n| operations[..n].contains(&operations[n])) {
        "key_ops has an operation twice"
    } else if usage != Some("enc") && !has("verify") {
        "key_ops do not have verify"
    } else if usage == Some("enc") && has("verify") {
        "key_ops have verify, and use is enc"
    } else if has("sign") {
        "key_ops have sign, which only the private key can do"
    } else {
        return None;
    };
    let advice = "publish key_ops as [\"verify\"], or use alone";
    Some(Fail(why.to_owned(), advice))
}

fn rsa(key: &Map<String, Value>) -> Result<(), String> {
    let (n, e) = (number(key, "n")?, number(key, "e")?);
    for (name, bytes) in [("n", &n), ("e", &e)] {
        if bytes.first() == Some(&0) {
            return Err(format!(
                "{name} begins with a zero byte (RFC 7518 section 2)"
            ));
        }
    }
    let member = |name| jwk_text(key, name).unwrap_or_default().to_owned();
    let (n, e_text) = (member("n"), member("e"));
    let public = PublicKey { n, e: e_text };
    let bits = public.modulus_bits().unwrap_or(0);
    if bits < MIN_BITS {
        return Err(format!("n has {bits} bits and must have {MIN_BITS}"));
    }
    if !public.has_fit_exponent() {
        return Err("e must be odd and more than 1".to_owned());
    }
    Ok(())
}

fn ec(key: &Map<String, Value>) -> Result<(), String> {
    let curve = jwk_text(key, "crv").ok_or("crv is missing or not a string")?;
    let (x, y) = (number(key, "x")?, number(key, "y")?);
    let size = match curve {
        "P-256" => 32,
        "P-384" => 48,
        "P-521" => 66,
        _ => return Ok(()),
    };
    if x.len() != size || y.len() != size {
        return Err(format!("x and y must have {size} bytes each"));
    }
    match is_point(curve, &x, &y) {
        Some(false) => Err("the point is not on its curve".to_owned()),
        _ => Ok(()),
    }
}

fn okp(key: &Map<String, Value>) -> Result<(), String> {
    let curve = jwk_text(key, "crv").ok_or("crv is missing or not a string")?;
    let x = number(key, "x")?;
    let size = match curve {
        "Ed25519" | "X25519" => 32,
        "Ed448" => 57,
        "X448" => 56,
        _ => return Ok(()),
    };
    match x.len() == size {
        true => Ok(()),
        false => Err(format!("x must have {size} bytes")),
    }
}

fn number(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = jwk_text(key, name).ok_or(format!("{name} is missing or not a string"))?;
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .filter(|bytes| !bytes.is_empty())
        .ok_or(format!("{name} is not base64url without padding"))
}

fn same_kid(keys: &[&Map<String, Value>], findings: &mut Findings) {
    let mut counts = BTreeMap::new();
    for kid in keys.iter().filter_map(|key| jwk_text(key, "kid")) {
        *counts.entry(kid).or_insert(0) += 1;
    }
    for (kid, count) in counts.into_iter().filter(|(_, count)| *count > 1) {
        let why = format!("{count} keys have the kid {}", shortened(kid));
        let advice = "give each key a kid of its own: jose takes none of them, others the first";
        findings.push(("kid", Warn(why, advice)));
    }
}

/// Limits of verifiers that others wrote.
fn verifier_limits(body: &[u8], keys: &[&Map<String, Value>]) -> Findings {
    const CHECK: &str = "verifiers";
    let kty = |key: &&&Map<String, Value>| jwk_text(key, "kty").unwrap_or_default().to_owned();
    let kinds: Vec<_> = keys.iter().map(|key| kty(&key)).collect();
    let first_rsa = kinds.iter().position(|kind| kind == "RSA");
    let is_known = |kind: &String| ["RSA", "EC", "OKP", "oct"].contains(&kind.as_str());
    let limits = [
        (
            keys.len() > AWS_KEYS,
            format!("{} keys: Amazon's API Gateway reads {AWS_KEYS}", keys.len()),
            "publish fewer: rotate less often, or drop expired keys sooner",
        ),
        (
            body.len() > NIMBUS_BYTES,
            format!(
                "{} bytes: Nimbus reads {NIMBUS_BYTES} by default",
                body.len()
            ),
            "publish fewer keys, and no certificates in x5c",
        ),
        (
            first_rsa.is_some_and(|at| at > 0),
            "a key of another kty before the RSA key: python-jose fails at it".to_owned(),
            "put the RSA keys first",
        ),
        (
            !kinds.iter().all(is_known),
            "a key of an unknown kty: Authlib fails at the whole set".to_owned(),
            "publish such keys at a URL of their own",
        ),
    ];
    let mut findings = Findings::new();
    for (is_so, text, advice) in limits {
        if is_so {
            findings.push((CHECK, Warn(text, advice)));
        }
    }
    if findings.is_empty() {
        let text = "none is known that cannot read it".to_owned();
        findings.push((CHECK, Finding::Ok(text)));
    }
    findings
}

/// A large set may have the same fault in each key.
fn shorten(findings: &mut Findings) {
    let mut counts = BTreeMap::new();
    findings.retain(|(check, finding)| {
        let count = counts
            .entry((*check, matches!(finding, Fail(..))))
            .or_insert(0);
        *count += 1;
        *count <= MAX_LISTED
    });
    for ((check, is_fail), count) in counts {
        if count > MAX_LISTED {
            let why = format!("{} more findings of this kind", count - MAX_LISTED);
            let advice = "mend the first ones, and check again";
            let finding = if is_fail {
                Fail(why, advice)
            } else {
                Warn(why, advice)
            };
            findings.push((check, finding));
        }
    }
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(64).collect();
    format!("{start:?}")
}
