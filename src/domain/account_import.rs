//! Accounts of another server, with their password hashes: all of a file are added, or
//! none.

use std::collections::HashMap;
use std::io::{self, BufRead, Read as _};

use serde::Deserialize;

use super::names::{Email, Invalid, Username};
use crate::clock::UnixTime;
use crate::crypto::password;
use crate::store::{NewAccountRow, Store, StoreError};

/// Accounts in one file: all are added in one transaction, for which sign-ins wait.
pub const MAX_ACCOUNTS: usize = 100_000;
/// Longest line, and one byte more.
const MAX_LINE: usize = 64 * 1024 + 1;
/// Problems that are named.
const MAX_NAMED: usize = 100;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    username: String,
    email: Option<String>,
    password_hash: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("it has faults")]
    Problems(Problems),
    #[error("it has no account, only empty lines or nothing at all")]
    Empty,
    #[error("it has over {MAX_ACCOUNTS} accounts: split it")]
    TooMany,
    #[error("it cannot be read: {0}")]
    File(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Number and fault of each line that has one.
#[derive(Debug, Default)]
pub struct Problems(Vec<(usize, String)>);

impl Problems {
    /// In the order of the lines, one text each, of a bounded number.
    pub fn texts(mut self) -> Vec<String> {
        self.0.sort();
        let named = self.0.iter().take(MAX_NAMED);
        let mut texts: Vec<_> = named
            .map(|(line, what)| format!("line {line}: {what}"))
            .collect();
        match self.0.len().saturating_sub(MAX_NAMED) {
            0 => {}
            1 => texts.push("and one more line".to_owned()),
            more => texts.push(format!("and {more} more lines")),
        }
        texts
    }
}

/// What a file has.
#[derive(Debug)]
pub struct Accounts {
    /// Accounts to import, with the numbers of their lines.
    good: Vec<(usize, NewAccountRow)>,
    problems: Problems,
}

/// Reads JSON lines and checks each of them, and all of them together.
pub fn read(mut file: impl BufRead) -> Result<Accounts, ImportError> {
    let mut good = Vec::new();
    let mut problems = Problems::default();
    // The lines of names and of addresses.
    let mut seen: HashMap<(&str, String), usize> = HashMap::new();
    let mut count = 0;
    for line in 1.. {
        let mut bytes = Vec::new();
        let mut bounded = file.by_ref().take(MAX_LINE as u64);
        if bounded.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.len() == MAX_LINE {
            // What follows may be the rest of it.
            problems.0.push((line, "longer than 64 KiB".to_owned()));
            break;
        }
        let text = match line {
            1 => bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes),
            _ => &bytes,
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        count += 1;
        if count > MAX_ACCOUNTS {
            return Err(ImportError::TooMany);
        }
        let Ok(text) = str::from_utf8(text) else {
            problems.0.push((line, "not UTF-8".to_owned()));
            continue;
        };
        let row = match parse(text) {
            Ok(row) => row,
            Err(what) => {
                problems.0.push((line, what));
                continue;
            }
        };
        let name = Some(("username", row.username.clone()));
        let email = row
            .email
            .iter()
            .map(|(address, _)| ("email", address.clone()));
        let mut values = name.into_iter().chain(email);
        let twice = values.find_map(|(what, value)| {
            let first = *seen.entry((what, value)).or_insert(line);
            (first != line).then(|| format!("the {what} is that of line {first}"))
        });
        match twice {
            Some(text) => problems.0.push((line, text)),
            None => good.push((line, row)),
        }
    }
    match count == 0 && problems.0.is_empty() {
        true => Err(ImportError::Empty),
        false => Ok(Accounts { good, problems }),
    }
}

/// The fault never repeats what is in the line: that may be a secret.
fn parse(text: &str) -> Result<NewAccountRow, String> {
    let entry: Entry = serde_json::from_str(text).map_err(|e| {
        let kind = match e.classify() {
            serde_json::error::Category::Data => {
                "not an object with the fields username, password_hash and perhaps email"
            }
            _ => "not JSON",
        };
        kind.to_owned()
    })?;
    let invalid = |e: Invalid| e.to_string();
    if let Some(fault) = password::fault(&entry.password_hash) {
        return Err(format!("password_hash: {fault}"));
    }
    Ok(NewAccountRow {
        username: Username::parse(&entry.username)
            .map_err(invalid)?
            .into_string(),
        email: match entry.email {
            Some(email) => Some(Email::parse(&email).map_err(invalid)?.into_forms()),
            None => None,
        },
        password_hash: entry.password_hash,
    })
}

/// Adds all accounts and returns their number. With a fault in any line none is added, and
/// the lines whose accounts are taken are among the problems too.
pub async fn import(
    store: &Store,
    accounts: Accounts,
    now: UnixTime,
) -> Result<usize, ImportError> {
    let Accounts { good, mut problems } = accounts;
    let (lines, rows): (Vec<_>, Vec<_>) = good.into_iter().unzip();
    let only_check = !problems.0.is_empty();
    for index in store.insert_accounts(rows, now, only_check).await? {
        let what = "the username or the email is already registered";
        let line = lines.get(index).copied().unwrap_or(0);
        problems.0.push((line, what.to_owned()));
    }
    match problems.0.is_empty() {
        true => Ok(lines.len()),
        false => Err(ImportError::Problems(problems)),
    }
}
