//! Tokens, against another implementation of JWT.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use jwks_server::crypto::jwt::sign;
use jwks_server::crypto::rsa::{KeySource as _, PrivateKey, Rsa2048};
use serde_json::{Value, json};

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
