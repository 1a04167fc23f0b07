//! Passwords: generated as UUIDv4, stored as Argon2id hashes (RFC 9106) in PHC
//! strings; hashes of bcrypt, from other servers, are verified too. Hashing runs on its own
//! threads, see [`PasswordHasher`].

mod compute;
mod imported;
mod params;
mod queue;
#[cfg(test)]
#[path = "../../../tests/unit/hashing.rs"]
mod tests;
mod turns;

use rand::TryRng as _;
use secrecy::SecretString;
use zeroize::Zeroizing;

pub use params::{
    Costs, MAX_LANES, MAX_MEMORY_KIB, MAX_PASSES, MIN_MEMORY_KIB, MIN_PASSES, describe, fault,
    stored_cost,
};
pub use queue::PasswordHasher;

/// Longest password that is hashed, bytes.
pub const MAX_PASSWORD_LEN: usize = 1024;

/// Result of verifying a password against a stored hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    Match {
        /// A hash with the current parameters, if the stored one has others.
        replacement: Option<String>,
    },
    Mismatch,
    /// The stored text is no hash of Argon2 or bcrypt, or would cost more memory or
    /// time than this service spends on one.
    Unreadable,
}

/// Reasons for which a password was not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The hashing queue is longer than could start within about two seconds.
    #[error("too many passwords are being hashed at once")]
    Overloaded,
    #[error("there is not enough memory to hash a password")]
    NoMemory,
    #[error("the password could not be hashed")]
    Failed,
}

/// A new password: UUIDv4 (RFC 9562), 122 bits from the system's random number
/// generator; `None` when that fails.
pub fn generate() -> Option<SecretString> {
    let mut random = Zeroizing::new([0; 16]);
    rand::rngs::SysRng.try_fill_bytes(&mut *random).ok()?;
    let uuid = uuid::Builder::from_random_bytes(*random).into_uuid();
    Some(uuid.hyphenated().to_string().into())
}
