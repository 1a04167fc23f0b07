//! Keys on elliptic curves. The service itself signs RS256 alone: `check` looks at such
//! keys, and `trial` and `sandbox` sign with them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P521_SHA512_FIXED, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::digest::sha256;
use super::rsa::{KeyError, SigningError};

/// A private key for ES256 or EdDSA.
pub enum CurveKey {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl CurveKey {
    /// `None` for an algorithm of no such key.
    pub fn generate(alg: &str) -> Option<Result<Self, KeyError>> {
        let made = match alg {
            "ES256" => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::P256),
            "EdDSA" => Ed25519KeyPair::generate().map(Self::Ed25519),
            _ => return None,
        };
        Some(made.map_err(|e| KeyError::NotMade(e.to_string())))
    }

    pub fn alg(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    /// The public key as a JWK (RFC 7518 section 6.2, RFC 8037 section 2), with its
    /// thumbprint for kid.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::P256(pair) => {
                // An uncompressed point: 4, x, y.
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                json!({"crv": "P-256", "kty": "EC", "x": text(x), "y": text(y)})
            }
            Self::Ed25519(pair) => {
                json!({"crv": "Ed25519", "kty": "OKP", "x": text(pair.public_key().as_ref())})
            }
        };
        // The members are in lexical order, as RFC 7638 wants them.
        jwk["kid"] = text(&sha256(jwk.to_string().as_bytes())).into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.alg().into();
        jwk
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        match self {
            Self::P256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|e| SigningError(e.to_string())),
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// True when the point is on one of the curves of RFC 7518 section 6.2.1.1; `None` for
/// a curve of another name.
pub fn is_point(curve: &str, x: &[u8], y: &[u8]) -> Option<bool> {
    let algorithm = match curve {
        "P-256" => &ECDSA_P256_SHA256_FIXED,
        "P-384" => &ECDSA_P384_SHA384_FIXED,
        "P-521" => &ECDSA_P521_SHA512_FIXED,
        _ => return None,
    };
    Some(ParsedPublicKey::new(algorithm, [&[4], x, y].concat()).is_ok())
}
