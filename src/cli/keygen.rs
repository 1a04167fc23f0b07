//! `keygen`: prints a key.

use std::io::Write as _;

use super::Failure;
use crate::crypto::fernet::SealingKeys;

pub(super) fn run() -> Result<(), Failure> {
    // Unlike a listing, a key that nobody has read is a failure.
    writeln!(std::io::stdout(), "{}", SealingKeys::generate().as_str())
        .map_err(|e| Failure::broken(format!("the key cannot be printed: {e}")))
}
