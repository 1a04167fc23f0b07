//! The work of a request, of a rotation tick and of a command: sign-in, accounts,
//! tokens, keys, verification. The rules of a key's life are in `lifecycle`.
//! Knows no HTTP and no SQL; calls store and crypto.

pub mod account_admin;
pub mod account_import;
pub mod accounts;
pub mod adopted_keys;
pub mod audit;
pub mod backup;
pub mod bad_key;
mod change_watch;
pub mod copy;
pub mod database;
pub mod document;
pub mod error;
pub mod hash_timing;
mod heartbeat;
pub mod issuer;
pub mod key_admin;
pub mod key_adoption;
pub mod key_ring;
pub mod names;
pub mod opened_key;
pub mod readiness;
pub mod rotation;
pub mod shared_quota;
pub mod sign_in;
pub mod snapshot;
pub mod tokens;
pub mod verification;
