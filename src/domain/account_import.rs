//! Accounts of another server, with their password hashes: all of a file are added, or
//! none.

use std::collections::HashMap;
use std::fmt;
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
const MAX_NAMED: usize = 10;

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
    #[error("nothing was imported: {0}")]
    Problems(Problems),
    #[error("the file has over {MAX_ACCOUNTS} accounts: split it")]
    TooMany,
    #[error("the file cannot be read: {0}")]
    File(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Number and fault of each line that has one.
#[derive(Debug, Default)]
pub struct Problems(Vec<(usize, String)>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (line, what)) in self.0.iter().take(MAX_NAMED).enumerate() {
            let before = if n == 0 { "" } else { "; " };
            write!(f, "{before}line {line}: {what}")?;
        }
        match self.0.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more lines"),
        }
    }
}

/// Accounts to import, with the numbers of their lines.
#[derive(Debug)]
pub struct Accounts(Vec<(usize, NewAccountRow)>);

/// Reads JSON lines and checks all of them.
pub fn read(mut file: impl BufRead) -> Result<Accounts, ImportError> {
    let mut accounts = Vec::new();
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
        let Ok(text) = String::from_utf8(bytes) else {
            problems.0.push((line, "not UTF-8".to_owned()));
            continue;
        };
        if text.trim().is_empty() {
            continue;
        }
        count += 1;
        if count > MAX_ACCOUNTS {
            return Err(ImportError::TooMany);
        }
        let row = match parse(&text) {
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
        for (what, value) in name.into_iter().chain(email) {
            if let Some(first) = seen.insert((what, value), line) {
                let text = format!("the {what} is that of line {first}");
                problems.0.push((line, text));
                break;
            }
        }
        accounts.push((line, row));
    }
    match problems.0.is_empty() {
        true => Ok(Accounts(accounts)),
        false => Err(ImportError::Problems(problems)),
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
    if password::describe(&entry.password_hash).is_none() {
        let text = "password_hash is no PHC string of Argon2 and no $2a$, $2b$ or $2y$ of bcrypt, or asks for too much work";
        return Err(text.to_owned());
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

/// Adds all accounts and returns their number.
pub async fn import(
    store: &Store,
    accounts: Accounts,
    now: UnixTime,
) -> Result<usize, ImportError> {
    let (lines, rows): (Vec<_>, Vec<_>) = accounts.0.into_iter().unzip();
    let taken = store.insert_accounts(rows, now).await?;
    if taken.is_empty() {
        return Ok(lines.len());
    }
    let problem = |index: usize| {
        let what = "the username or the email is already registered";
        (lines.get(index).copied().unwrap_or(0), what.to_owned())
    };
    Err(ImportError::Problems(Problems(
        taken.into_iter().map(problem).collect(),
    )))
}
