//! Hashes of bcrypt, which accounts from other servers bring. Each is replaced at the
//! first sign-in.

use bcrypt::{HashParts, verify};
use secrecy::{ExposeSecret as _, SecretString};

/// A hash of this cost takes about 250 ms, and each step up doubles that.
const MAX_COST: u32 = 13;
const MIN_COST: u32 = 4;
/// Work of a hash of cost 0, in the KiB times passes of Argon2 that take as long.
const WORK: u64 = 110;

/// A string such as `$2b$12$`, salt and output.
pub(super) struct BcryptHash<'a> {
    text: &'a str,
    pub cost: u32,
}

impl<'a> BcryptHash<'a> {
    /// `None` when it is no such string, or asks for too much work.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let is_known = ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|it| text.starts_with(it));
        let cost = text.parse::<HashParts>().ok()?.get_cost();
        (is_known && (MIN_COST..=MAX_COST).contains(&cost)).then_some(Self { text, cost })
    }

    pub(super) fn work(&self) -> u64 {
        WORK << self.cost
    }

    /// Of a longer password bcrypt takes the first 72 bytes.
    pub(super) fn fits(&self, password: &SecretString) -> bool {
        verify(password.expose_secret(), self.text).unwrap_or(false)
    }
}
