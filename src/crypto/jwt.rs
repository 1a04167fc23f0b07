//! Signed tokens: the compact serialization of RFC 7515 section 7.1, with the
//! header that every token of this service has.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::rsa::{PrivateKey, SigningError};

#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    kid: &'a str,
}

/// A JWT of `claims`, signed by RS256. The header names the key `kid`.
/// Slow: call it on a blocking thread.
pub fn sign(key: &PrivateKey, kid: &str, claims: &impl Serialize) -> Result<String, SigningError> {
    let header = Header {
        typ: "JWT",
        alg: "RS256",
        kid,
    };
    let mut token = encode(&header)?;
    token.push('.');
    token.push_str(&encode(claims)?);
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

fn encode(part: &impl Serialize) -> Result<String, SigningError> {
    let json = serde_json::to_vec(part).map_err(|e| SigningError(e.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    use serde_json::{Value, json};

    use super::*;
    use crate::crypto::rsa::{KeySource as _, Rsa2048};

    #[test]
    fn another_implementation_accepts_a_token_with_its_own_key_only() {
        let [key, other] = [(); 2].map(|()| Rsa2048.generate().unwrap());
        let claims = json!({"sub": "é\"\\", "exp": 4_000_000_000u64});
        let token = sign(&key, "7", &claims).unwrap();
        let decoded = |key: &PrivateKey| {
            let public = key.public();
            let key = DecodingKey::from_rsa_components(&public.n, &public.e).unwrap();
            decode::<Value>(&token, &key, &Validation::new(Algorithm::RS256))
        };
        let good = decoded(&key).unwrap();
        assert_eq!(good.claims, claims);
        let header = serde_json::to_value(good.header).unwrap();
        assert_eq!(header, json!({"typ": "JWT", "alg": "RS256", "kid": "7"}));
        assert!(decoded(&other).is_err());
    }
}
