//! Hashes of bcrypt, which accounts from other servers bring. Each is replaced at the
//! first sign-in.

use bcrypt::{HashParts, verify};
use secrecy::{ExposeSecret as _, SecretString};

/// A hash of so many rounds, as a power of two, takes about 250 ms, and each step up doubles that.
const MAX_ROUNDS: u32 = 13;
const MIN_ROUNDS: u32 = 4;
/// Bytes of a password that bcrypt takes; the rest may be anything.
const MAX_TAKEN: usize = 72;
/// Cost of a hash of 2^0 rounds, in the KiB times passes of Argon2 that take as long.
const COST_OF_ONE: u64 = 110;

/// A string such as `$2b$12$`, salt and output.
pub(super) struct BcryptHash<'a> {
    text: &'a str,
    /// bcrypt's "cost", of which each step doubles the time.
    pub rounds: u32,
}

impl<'a> BcryptHash<'a> {
    /// `None` when it is no such string, or costs too much.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let rounds = text.parse::<HashParts>().ok()?.get_cost();
        (Self::is_known(text) && (MIN_ROUNDS..=MAX_ROUNDS).contains(&rounds))
            .then_some(Self { text, rounds })
    }

    /// Why `text` is not parsed; `None` when it is not of bcrypt at all.
    pub(super) fn fault(text: &str) -> Option<String> {
        if !Self::is_known(text) {
            return None;
        }
        Some(match text.parse::<HashParts>().map(|it| it.get_cost()) {
            Ok(rounds) if rounds > MAX_ROUNDS => {
                format!("bcrypt cost {rounds} is over {MAX_ROUNDS}")
            }
            Ok(rounds) => format!("bcrypt cost {rounds} is under {MIN_ROUNDS}"),
            Err(_) => "it begins as one of bcrypt and does not go on as one".to_owned(),
        })
    }

    fn is_known(text: &str) -> bool {
        ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|it| text.starts_with(it))
    }

    pub(super) fn cost(&self) -> u64 {
        COST_OF_ONE << self.rounds
    }

    /// Could `password` become the account's own? Not one that the hash takes a part of:
    /// a tail that was typed wrong would.
    pub(super) fn takes_whole(password: &SecretString) -> bool {
        password.expose_secret().len() <= MAX_TAKEN
    }

    pub(super) fn fits(&self, password: &SecretString) -> bool {
        verify(password.expose_secret(), self.text).unwrap_or(false)
    }
}
