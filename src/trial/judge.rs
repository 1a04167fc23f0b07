//! Verdicts on answers.

use std::ops::RangeInclusive;
use std::str::FromStr;

use strum::IntoStaticStr;

use super::target::{Answer, TIMEOUT};

/// Bytes of a token above which servers may close the connection: that refuses it.
const LONG: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Verdict {
    Accepted,
    Refused,
    /// A status that neither accepts nor refuses, mostly 5xx.
    Error,
    Crash,
    #[strum(serialize = "no answer")]
    NoAnswer,
    /// A good token was refused beside it.
    #[strum(serialize = "says nothing")]
    SaysNothing,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Statuses or exit codes, such as `200-299` or `401,403`.
#[derive(Clone, Debug)]
pub struct Codes(Vec<RangeInclusive<u16>>);

impl FromStr for Codes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u16>();
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => Ok(number(first)?..=number(last)?),
            None => number(part).map(|code| code..=code),
        };
        let ranges: Result<_, std::num::ParseIntError> = text.split(',').map(range).collect();
        ranges
            .map(Self)
            .map_err(|_| "it is numbers and ranges, such as 200-299 or 401,403".to_owned())
    }
}

impl From<RangeInclusive<u16>> for Codes {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self(vec![range])
    }
}

impl Codes {
    fn contain(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

pub struct Judge {
    pub accept: Codes,
    pub refuse: Codes,
    /// Whether codes are exit codes of a command, of which all others are crashes.
    pub is_command: bool,
}

impl Judge {
    /// Takes a redirection, as to a page for signing in, for the way to refuse.
    pub(super) fn learn(&mut self, no_token: &Answer) {
        if let Answer::Code(code @ 300..400, _) = no_token
            && !self.is_command
            && !self.accept.contain(*code)
        {
            self.refuse.0.push(*code..=*code);
        }
    }

    pub(super) fn verdict(&self, answer: &Answer, token_len: usize) -> (Verdict, String) {
        match answer {
            Answer::Code(code, said) => {
                let verdict = if self.accept.contain(*code) {
                    Verdict::Accepted
                } else if self.refuse.contain(*code) {
                    Verdict::Refused
                } else if self.is_command {
                    Verdict::Crash
                } else {
                    Verdict::Error
                };
                let what = if self.is_command {
                    "exit code"
                } else {
                    "status"
                };
                let colon = if said.is_empty() { "" } else { ": " };
                (verdict, format!("{what} {code}{colon}{said}"))
            }
            Answer::Closed(why) if token_len > LONG => (Verdict::Refused, why.clone()),
            Answer::Closed(why) => (Verdict::NoAnswer, why.clone()),
            Answer::Unreachable(why) | Answer::Killed(why) => (Verdict::Crash, why.clone()),
            Answer::TimedOut => {
                let why = format!("none within {} s", TIMEOUT.as_secs());
                (Verdict::NoAnswer, why)
            }
        }
    }
}
