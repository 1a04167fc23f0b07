//! Cryptography, and the only module that uses cipher libraries: Fernet, RSA
//! keys and signatures, JWTs, Argon2. Knows no clock, database or HTTP.

pub mod curves;
pub mod digest;
pub mod fernet;
pub mod forgery;
pub mod jwt;
pub mod password;
pub mod rsa;

use serde_json::{Map, Value};

/// Members of a JWK that private and symmetric keys have (RFC 7518 sections 6.2.2, 6.3.2
/// and 6.4.1).
pub const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A member of a JWK, if it is text.
pub fn jwk_text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}
