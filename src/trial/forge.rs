//! Tokens: good ones, and those of the cases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::TrialError;
use super::cases::{Case, Patch};
use super::reshape::reshaped;
use crate::clock::UnixTime;
use crate::crypto::curves::CurveKey;
use crate::crypto::forgery::{certificate, encrypted, hmac_sha256, pem, pkcs1, sign_as, spki};
use crate::crypto::rsa::{KeySource as _, PrivateKey, Rsa2048};

/// Time for which a good token is valid.
pub(super) const LIFETIME: Duration = Duration::from_secs(300);
/// What an RSA key can sign by, besides RS256.
pub(super) const RSA_ALGORITHMS: [&str; 3] = ["RS384", "RS512", "PS256"];
/// Kinds of keys that only signers in no key set, or in those of a case, have.
const CURVES: [&str; 2] = ["ES256", "EdDSA"];
/// The order of the group of P-256 (SEC 2, section 2.4.2).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
    0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Members of a JSON object, each with its value as text.
type Members = BTreeMap<String, String>;

#[derive(Clone)]
pub struct Forge {
    /// Both are in the key set; the first one signs good tokens.
    pub(super) keys: [Arc<PrivateKey>; 2],
    /// In no key set but the one that `jku` names.
    pub(super) stranger: Arc<PrivateKey>,
    /// One of each of `CURVES`.
    curves: Arc<[CurveKey]>,
    issuer: String,
    pub(super) audience: Option<String>,
    /// Members that replace those of good tokens; null removes one.
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
    /// URL of a server that no good verifier calls.
    elsewhere: String,
}

impl Forge {
    /// Makes keys, which takes a second.
    pub fn new(
        issuer: String,
        audience: Option<String>,
        claims: Map<String, Value>,
        elsewhere: String,
    ) -> Result<Self, TrialError> {
        let stranger = Rsa2048.generate()?.into();
        Self::with_stranger(stranger, issuer, audience, claims, elsewhere)
    }

    pub(super) fn with_stranger(
        stranger: Arc<PrivateKey>,
        issuer: String,
        audience: Option<String>,
        claims: Map<String, Value>,
        elsewhere: String,
    ) -> Result<Self, TrialError> {
        let curves = CURVES.iter().filter_map(|alg| CurveKey::generate(alg));
        Ok(Self {
            keys: [Rsa2048.generate()?.into(), Rsa2048.generate()?.into()],
            stranger,
            curves: curves.collect::<Result<Vec<_>, _>>()?.into(),
            issuer,
            audience,
            header: Map::new(),
            claims,
            elsewhere,
        })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn good(&self, now: UnixTime) -> Result<String, TrialError> {
        self.good_as("RS256", now)
    }

    /// A good token by an algorithm that an RSA key can have.
    pub(super) fn good_as(&self, alg: &str, now: UnixTime) -> Result<String, TrialError> {
        let (header, claims) = (object(&self.header()), object(&self.good_claims(now)));
        self.signed(&header, claims.as_bytes(), alg)
    }

    /// A good token by a key of another kind.
    pub(super) fn signed_by(&self, key: &CurveKey, now: UnixTime) -> Result<String, TrialError> {
        let mut header = self.header();
        header.insert("alg".to_owned(), quoted(key.alg()));
        if !self.header.contains_key("kid") {
            header.insert("kid".to_owned(), key.jwk()["kid"].to_string());
        }
        let (header, claims) = (object(&header), object(&self.good_claims(now)));
        let [header, claims] = [header, claims].map(|it| URL_SAFE_NO_PAD.encode(it));
        let message = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
        Ok(format!("{message}.{signature}"))
    }

    /// A token of good claims with any kid and `alg`, and one of the kinds of signatures.
    pub(super) fn named(
        &self,
        kid: &str,
        alg: &str,
        sign: &str,
        now: UnixTime,
    ) -> Result<String, TrialError> {
        let mut header = self.header();
        header.insert("kid".to_owned(), quoted(kid));
        header.insert("alg".to_owned(), quoted(alg));
        let claims = object(&self.good_claims(now));
        self.signed(&object(&header), claims.as_bytes(), sign)
    }

    /// A kid for the first key that no earlier run has used.
    pub(super) fn alias(&self, name: &str) -> String {
        format!("{}-{name}", kid(&self.keys[0]))
    }

    pub fn token(&self, case: &Case, now: UnixTime) -> Result<String, TrialError> {
        let [header, claims] = [
            (
                &case.header_text,
                self.header(),
                &case.header,
                &case.header_first,
                &case.header_last,
            ),
            (
                &case.claims_text,
                self.good_claims(now),
                &case.claims,
                &case.claims_first,
                &case.claims_last,
            ),
        ]
        .map(|(text, members, patch, first, last)| match text {
            Some(text) if text == "$token" => self.good(now),
            Some(text) => Ok(text.clone()),
            None => self.patched(members, patch, [first, last], now),
        });
        let (header, mut payload) = (header?, claims?.into_bytes());
        match case.form.as_deref() {
            Some("payload-not-utf8") => drop(payload.splice(1..1, *b"\"x\":\"\xff\",")),
            Some("payload-trailing") => payload.extend(b"{}"),
            _ => {}
        }
        let token = self.signed(&header, &payload, case.sign.as_deref().unwrap_or("RS256"))?;
        match case.form.as_deref() {
            None => Ok(token),
            Some("jwe") => Ok(encrypted(&self.keys[0], &kid(&self.keys[0]), &payload)?),
            Some("sig-other-token") => {
                let other = self.good(now)?;
                let [start, end] = [&token, &other].map(|token| token.rsplit_once('.'));
                Ok(start.map_or("", |it| it.0).to_owned() + "." + end.map_or("", |it| it.1))
            }
            Some(form) => reshaped(&token, form)
                .ok_or_else(|| TrialError::Table(format!("{}: no form {form}", case.id))),
        }
    }

    fn header(&self) -> Members {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": kid(&self.keys[0])});
        replaced(header, &self.header)
    }

    fn good_claims(&self, now: UnixTime) -> Members {
        let mut claims = json!({
            "iss": self.issuer, "sub": "trial", "iat": now.as_secs(), "exp": (now + LIFETIME).as_secs(),
            "jti": uuid::Uuid::new_v4().to_string(),
        });
        if let Some(audience) = &self.audience {
            claims["aud"] = audience.as_str().into();
        }
        replaced(claims, &self.claims)
    }

    fn patched(
        &self,
        mut members: Members,
        patch: &Patch,
        again: [&Patch; 2],
        now: UnixTime,
    ) -> Result<String, TrialError> {
        for (name, value) in patch {
            match value {
                Value::Null => drop(members.remove(name)),
                value => drop(members.insert(name.clone(), self.text(value, now)?)),
            }
        }
        let [first, last] = again.map(|patch| {
            let member = |(name, value): (&String, _)| Ok((name.clone(), self.text(value, now)?));
            patch
                .iter()
                .map(member)
                .collect::<Result<Members, TrialError>>()
        });
        let parts = [first?, members, last?].map(|members| object(&members));
        let parts: Vec<_> = parts
            .iter()
            .map(|it| it[1..it.len() - 1].to_owned())
            .collect();
        let parts: Vec<_> = parts.into_iter().filter(|it| !it.is_empty()).collect();
        Ok(format!("{{{}}}", parts.join(",")))
    }

    /// JSON of a value of the table.
    fn text(&self, value: &Value, now: UnixTime) -> Result<String, TrialError> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix('@') {
                Some(raw) => self.raw(raw, now.as_secs())?,
                None => quoted(&self.filled(text)?),
            },
            Value::Array(all) => {
                let all: Result<Vec<_>, _> = all.iter().map(|it| self.text(it, now)).collect();
                format!("[{}]", all?.join(","))
            }
            Value::Object(members) => {
                let member =
                    |(name, value): (&String, _)| Ok((self.filled(name)?, self.text(value, now)?));
                let members: Result<Members, TrialError> = members.iter().map(member).collect();
                object(&members?)
            }
            other => other.to_string(),
        })
    }

    fn raw(&self, raw: &str, now: i64) -> Result<String, TrialError> {
        let unknown = || TrialError::Table(format!("there is no value @{raw}"));
        if let Some(rest) = raw.strip_prefix("now") {
            return time(rest, now).ok_or_else(unknown);
        }
        if let Some((kind @ ("text" | "deep"), number)) = raw.split_once('-') {
            let number = number.parse().map_err(|_| unknown())?;
            return Ok(match kind {
                "text" => quoted(&"x".repeat(number)),
                _ => "[".repeat(number) + &"]".repeat(number),
            });
        }
        Ok(match raw {
            "null" | "1e400" => raw.to_owned(),
            "jwk" => jwk(&self.stranger).to_string(),
            "jwk-es256" => self.curve_jwk("ES256").to_string(),
            "jwk-eddsa" => self.curve_jwk("EdDSA").to_string(),
            "certificate" => quoted(&STANDARD.encode(certificate(&self.stranger)?)),
            _ => return Err(unknown()),
        })
    }

    fn filled(&self, text: &str) -> Result<String, TrialError> {
        let mut pieces = text.split('$');
        let mut filled = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_alphanumeric());
            let (name, rest) = piece.split_at(end.unwrap_or(piece.len()));
            filled += &match name {
                "iss" => self.issuer.clone(),
                "aud" => self.audience.clone().unwrap_or_default(),
                "kid" => kid(&self.keys[0]),
                "kid2" => kid(&self.keys[1]),
                "elsewhere" => self.elsewhere.clone(),
                _ => return Err(TrialError::Table(format!("there is no value ${name}"))),
            };
            filled += rest;
        }
        Ok(filled)
    }

    fn signed(&self, header: &str, payload: &[u8], sign: &str) -> Result<String, TrialError> {
        let header = URL_SAFE_NO_PAD.encode(header);
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = self.signature(sign, message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn curve(&self, alg: &str) -> Option<&CurveKey> {
        self.curves.iter().find(|key| key.alg() == alg)
    }

    pub(super) fn curve_jwk(&self, alg: &str) -> Value {
        self.curve(alg).map(CurveKey::jwk).unwrap_or_default()
    }

    fn signature(&self, sign: &str, message: &[u8]) -> Result<Vec<u8>, TrialError> {
        let [key, second] = &self.keys;
        if let Some(key) = self.curve(sign) {
            return Ok(key.sign(message)?);
        }
        let secret = match sign {
            "empty" => return Ok(Vec::new()),
            "zeros" => return Ok(vec![0; 256]),
            "second" => return Ok(second.sign(message)?),
            "stranger" => return Ok(self.stranger.sign(message)?),
            "ecdsa:zero" => return Ok(vec![0; 64]),
            "ecdsa:order" => return Ok(P256_ORDER.repeat(2)),
            "hmac:pem" => pem("PUBLIC KEY", &spki(key)?)?.into_bytes(),
            "hmac:pem-trimmed" => pem("PUBLIC KEY", &spki(key)?)?.trim_end().into(),
            "hmac:pkcs1" => pem("RSA PUBLIC KEY", &pkcs1(key))?.into_bytes(),
            "hmac:der" => spki(key)?,
            "hmac:modulus" => URL_SAFE_NO_PAD.decode(&key.public().n).unwrap_or_default(),
            "hmac:jwk" => jwk(key).to_string().into_bytes(),
            "hmac:empty" => Vec::new(),
            "hmac:trial" => b"trial".to_vec(),
            alg => return Ok(sign_as(key, alg, message)?),
        };
        Ok(hmac_sha256(&secret, message))
    }
}

pub(super) fn kid(key: &PrivateKey) -> String {
    URL_SAFE_NO_PAD.encode(key.public().thumbprint())
}

pub(super) fn jwk(key: &PrivateKey) -> Value {
    let public = key.public();
    json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid(key), "n": public.n, "e": public.e})
}

/// The members of an object with others in their place; null removes one.
fn replaced(object: Value, others: &Map<String, Value>) -> Members {
    let Value::Object(mut members) = object else {
        return Members::new();
    };
    members.extend(others.clone());
    let kept = members.into_iter().filter(|(_, value)| !value.is_null());
    kept.map(|(name, value)| (name, value.to_string()))
        .collect()
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn object(members: &Members) -> String {
    let member = |(name, text): (&String, _)| format!("{}:{text}", quoted(name));
    let members: Vec<_> = members.iter().map(member).collect();
    format!("{{{}}}", members.join(","))
}

/// A time some seconds away, perhaps with a fraction, or now in milliseconds.
fn time(rest: &str, now: i64) -> Option<String> {
    if let "" | "000" = rest {
        return Some(format!("{now}{rest}"));
    }
    let (offset, fraction) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
    let is_right = offset.starts_with(['+', '-'])
        && fraction.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    let offset: i64 = offset.parse().ok().filter(|_| is_right)?;
    Some(format!("{}{fraction}", now.saturating_add(offset)))
}
