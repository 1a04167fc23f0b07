//! Bytes in, bytes out: Fernet sealing, RSA keys and signatures, Argon2
//! passwords. No clock, no database, no HTTP.

pub mod fernet;
pub mod password;
pub mod rsa;
mod signer;
