//! Tokens as a client sees them: decoded, and verified against a key set.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::Value;

use crate::support::Reply;

pub struct Token(pub String);

impl Token {
    /// The token of a sign-in's answer; `None` when there is no string in it.
    pub fn of(reply: &Reply) -> Option<Self> {
        let json: Value = serde_json::from_slice(&reply.body).ok()?;
        json["token"].as_str().map(|text| Self(text.to_owned()))
    }

    pub fn header(&self) -> Value {
        self.part(0)
    }

    pub fn claims(&self) -> Value {
        self.part(1)
    }

    /// Empty when it is no string.
    pub fn kid(&self) -> String {
        self.header()["kid"].as_str().unwrap_or_default().to_owned()
    }

    /// True when signature and expiry are good under the key that the set names.
    pub fn verifies_against(&self, set: &Value) -> bool {
        let kid = self.kid();
        let keys = set["keys"].as_array().unwrap();
        let Some(jwk) = keys.iter().find(|key| key["kid"] == kid.as_str()) else {
            return false;
        };
        let (n, e) = (jwk["n"].as_str().unwrap(), jwk["e"].as_str().unwrap());
        let key = DecodingKey::from_rsa_components(n, e).unwrap();
        let mut rules = Validation::new(Algorithm::RS256);
        rules.leeway = 0;
        decode::<Value>(&self.0, &key, &rules).is_ok()
    }

    fn part(&self, n: usize) -> Value {
        let part = self.0.split('.').nth(n).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }
}

pub fn kids(set: &Value) -> Vec<String> {
    let keys = set["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}
