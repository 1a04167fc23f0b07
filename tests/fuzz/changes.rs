//! Changed copies of known inputs: cut, spliced, repeated, with bits flipped and
//! with tokens of the parsers' grammars inserted.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// Longer than what the service reads of a body.
const MAX_LEN: usize = 20 * 1024;

/// Characters and words that parsers have rules for.
const WORDS: [&[u8]; 24] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"\\u0000",
    b"\\ud800",
    b"%",
    b"%00",
    b"+",
    b"&",
    b"=",
    b",",
    b":",
    b"\n",
    b"\r\n",
    b"\0",
    b"$",
    b"${PORT}",
    b"'",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"4294967296",
    b"-1",
    b"\xff",
];

/// An endless stream of inputs, another one for each seed.
pub struct Changes {
    known: Vec<Vec<u8>>,
    random: SmallRng,
}

impl Changes {
    pub fn new(known: Vec<Vec<u8>>, seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self { known, random }
    }

    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.pick();
        for _ in 0..self.random.random_range(1..=6) {
            self.change(&mut input);
        }
        input.truncate(MAX_LEN);
        input
    }

    fn pick(&mut self) -> Vec<u8> {
        let n = self.random.random_range(0..self.known.len());
        self.known[n].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.random_range(0..=input.len());
        let end = self.random.random_range(at..=input.len());
        match self.random.random_range(0..6) {
            0 => drop(input.drain(at..end)),
            1 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            2 => {
                let n = self.random.random_range(0..WORDS.len());
                input.splice(at..at, WORDS[n].iter().copied());
            }
            3 => {
                let other = self.pick();
                let from = self.random.random_range(0..=other.len());
                input.splice(at.., other[from..].iter().copied());
            }
            4 => input.insert(at, self.random.random()),
            _ => {
                let bit = 1 << self.random.random_range(0..8);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= bit;
                }
            }
        }
    }
}
