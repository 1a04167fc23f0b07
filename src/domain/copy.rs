//! A move of the database to the other engine: which keys must open before it counts.

use super::adopted_keys::AdoptedKey;
use super::opened_key::OpenedKey;
use crate::clock::UnixTime;
use crate::crypto::fernet::SealingKeys;
use crate::store::{self, CopyCallbacks, KeyRows, Location};
pub use crate::store::{Copied, CopyError};

/// Copies the database `from` into the empty database `to`, all or nothing. `progress`
/// gets a table and the number of its rows that were copied so far. Blocks.
pub fn copy(
    [from, to]: [&Location; 2],
    live_ok: bool,
    sealing_keys: &SealingKeys,
    now: UnixTime,
    progress: &(dyn Fn(&str, u64) + Sync),
) -> Result<Copied, CopyError> {
    let callbacks = CopyCallbacks {
        check: &|source, copy| check(source, copy, sealing_keys, now),
        progress,
    };
    store::copy(from, to, live_ok, &callbacks)
}

/// Number of keys that do not open. One that is published must.
fn check(
    source: &KeyRows,
    copy: &KeyRows,
    sealing_keys: &SealingKeys,
    now: UnixTime,
) -> Result<usize, String> {
    if copy != source {
        return Err("its keys are not those of the source".to_owned());
    }
    let own = copy.rows.iter();
    let own = own.filter(|row| OpenedKey::open(row, sealing_keys).is_err());
    let own = own.map(|row| row.times.is_published_at(now));
    let adopted = copy.adopted.iter();
    let adopted = adopted.filter(|row| AdoptedKey::open(row, sealing_keys).is_err());
    let adopted = adopted.map(|row| row.times.is_published_at(now));
    let unopened: Vec<_> = own.chain(adopted).collect();
    match unopened
        .iter()
        .filter(|is_published| **is_published)
        .count()
    {
        0 => Ok(unopened.len()),
        count => Err(format!(
            "{count} published keys open under no entry of NOT_MY_KEY: set the one that they were made with; `keys list` names them"
        )),
    }
}
