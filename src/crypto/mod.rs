//! Cryptography, and the only module that uses cipher libraries: Fernet, RSA
//! keys and signatures, JWTs, Argon2. Knows no clock, database or HTTP.

pub mod curves;
pub mod digest;
pub mod fernet;
pub mod forgery;
pub mod jwt;
pub mod password;
pub mod rsa;
