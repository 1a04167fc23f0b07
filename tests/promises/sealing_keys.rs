//! Entries of `NOT_MY_KEY`, by number: each is newer than the one before.

use std::sync::{Arc, LazyLock, Mutex};

use jwks_server::crypto::fernet::SealingKeys;

/// Shared by all tests of the process.
static ENTRIES: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);

/// The entries that a process was given, the one that seals first.
pub type Entries = Vec<usize>;

/// The entries of a process that starts when `newest` is the newest one.
pub fn in_use(newest: usize) -> Entries {
    (0..=newest).rev().take(2).collect()
}

pub fn sealing_keys(entries: &[usize]) -> Arc<SealingKeys> {
    let mut all = ENTRIES.lock().unwrap();
    let needed = entries.iter().max().map_or(0, |newest| newest + 1);
    while all.len() < needed {
        all.push(SealingKeys::generate().to_string());
    }
    let given: Vec<_> = entries.iter().map(|n| all[*n].as_str()).collect();
    Arc::new(SealingKeys::parse(&given.join(",")).unwrap())
}

/// The newest entry up to `newest` that opens `sealed`, and the text in it.
pub fn opened_by(newest: usize, sealed: &[u8]) -> Option<(usize, Vec<u8>)> {
    let entries: Entries = (0..=newest).rev().collect();
    let (index, plain) = sealing_keys(&entries).open_with_index(sealed)?;
    Some((entries[index], plain.to_vec()))
}
