//! The JSON documents that a snapshot of the keys holds finished: key sets.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::crypto::digest::sha256;
use crate::crypto::rsa::PublicKey;
use crate::lifecycle::Kid;

/// A JSON document, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub body: Bytes,
    /// Its strong entity tag with the quotes (RFC 9110 section 8.8.3): equal
    /// bytes have equal tags, over restarts too.
    pub etag: Bytes,
}

impl Document {
    /// The JSON of `value`.
    pub fn new(value: &impl Serialize) -> Self {
        // Structs of strings and numbers always have a JSON form.
        Self::from_json(serde_json::to_vec(value).unwrap_or_default())
    }

    /// A text that is JSON already.
    pub fn from_json(text: impl Into<Bytes>) -> Self {
        let body = text.into();
        let hex: String = sha256(&body)[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            body,
            etag: Bytes::from(format!("\"{hex}\"")),
        }
    }

    /// True when a value of `If-Match` or `If-None-Match` names the entity tag; `*` names
    /// every tag. `weak` is what may stand before it in the weak comparison (RFC 9110
    /// section 8.8.3.2). Entity tags of this service have no commas, so splitting at
    /// commas is safe.
    pub fn is_named_in(&self, value: &[u8], weak: &str) -> bool {
        value.split(|&b| b == b',').any(|tag| {
            let tag = tag.trim_ascii();
            tag == b"*" || tag.strip_prefix(weak.as_bytes()).unwrap_or(tag) == self.etag
        })
    }
}

/// A public key as a member of the key set (RFC 7517, RFC 7518 section 6.3.1).
/// All six members are there, also the optional ones that some verifiers insist on.
#[derive(Serialize)]
pub(super) struct Jwk<'a> {
    kty: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    kid: String,
    /// The modulus, base64url.
    n: &'a str,
    /// The exponent, base64url.
    e: &'a str,
}

/// A key of the set, ours or adopted.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Member<'a> {
    Own(Jwk<'a>),
    Adopted(&'a Map<String, Value>),
}

/// A JWK Set (RFC 7517 section 5).
#[derive(Serialize)]
pub(super) struct JwkSet<'a> {
    pub(super) keys: Vec<Member<'a>>,
}

impl<'a> Jwk<'a> {
    pub(super) fn new(kid: Kid, public: &'a PublicKey) -> Self {
        Self {
            kty: "RSA",
            usage: "sig",
            alg: "RS256",
            kid: kid.to_string(),
            n: &public.n,
            e: &public.e,
        }
    }
}
