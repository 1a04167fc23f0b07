//! The rules: when keys live and sign, who has an account, what a token says.
//! Knows no HTTP and no SQL; may call store and crypto.

pub mod accounts;
pub mod database;
pub mod error;
pub mod hash_timing;
pub mod issuer;
pub mod key_admin;
pub mod key_ring;
pub mod names;
pub mod readiness;
pub mod rotation;
pub mod sign_in;
pub mod tokens;
pub mod verification;
