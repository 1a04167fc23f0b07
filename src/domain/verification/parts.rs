//! Parsing of a token: the compact form of RFC 7515 section 7.1, and JSON objects
//! without duplicate members. The payload stays bytes until its claims are asked
//! for: a signature covers any bytes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The members of a JSON object.
pub(super) type Object = Map<String, Value>;

pub(super) struct Parts<'a> {
    pub(super) header: Object,
    payload: Vec<u8>,
    /// Header and payload as the signature covers them.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// The error is for people and shows nothing of the token.
    pub(super) fn read(token: &'a str) -> Result<Self, String> {
        if token.contains(char::is_whitespace) {
            return Err("it has a space or a line end inside".to_owned());
        }
        let pieces: Vec<_> = token.splitn(6, '.').collect();
        let [header, payload, signature] = pieces[..] else {
            return Err(match pieces.len() {
                1 if token.is_empty() => "it is empty".to_owned(),
                5 => "it has five parts, which is an encrypted token (JWE), not a signed one"
                    .to_owned(),
                _ => "it is not three parts separated by dots".to_owned(),
            });
        };
        Ok(Self {
            header: object("header", &decode("header", header)?)?,
            payload: decode("claims", payload)?,
            signed: &token[..header.len() + 1 + payload.len()],
            signature: decode("signature", signature)?,
        })
    }

    pub(super) fn claims(&self) -> Result<Object, String> {
        object("claims", &self.payload)
    }
}

fn object(what: &str, bytes: &[u8]) -> Result<Object, String> {
    serde_json::from_slice::<Unique>(bytes)
        .map(|unique| unique.0)
        .map_err(|_| format!("its {what} is not a JSON object without duplicate members"))
}

fn decode(what: &str, text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| format!("its {what} is not base64url without padding"))
}

/// An object without duplicate members, of which parsers would pick different
/// ones (RFC 7515 section 4, RFC 7519 section 4).
struct Unique(Object);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                let mut members = Object::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(de::Error::custom("a duplicate member"));
                    }
                }
                Ok(Unique(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
