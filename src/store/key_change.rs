//! A change of the keys, and the events that tell of it, for both engines.

use strum::{EnumString, IntoStaticStr};

use super::NewKey;
use crate::clock::UnixTime;
use crate::lifecycle::{KeySpan, Kid};

/// The rows of `keys` on which a change of keys is decided.
#[derive(Clone, Copy, Debug)]
pub enum KeySelection {
    All,
    /// As [`keys_at`](super::Store::keys_at) selects them.
    Unexpired {
        and_expired: usize,
    },
}

#[derive(Clone, Debug)]
pub struct NewAdoptedKey {
    pub kid: String,
    /// Fernet token.
    pub sealed: Vec<u8>,
    pub until: UnixTime,
}

/// A planned change of the keys, with the events that belong to it.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    pub insert: Option<NewKey>,
    pub revoke: Vec<Kid>,
    /// The operator's reason for `revoke`, `adopt` and `revoke_adopted`.
    pub reason: String,
    /// New sealed forms.
    pub reencrypt: Vec<(Kid, Vec<u8>)>,
    /// New times.
    pub retime: Vec<(Kid, KeySpan)>,
    /// New, or the same key with another end.
    pub adopt: Vec<NewAdoptedKey>,
    pub revoke_adopted: Vec<String>,
    /// New sealed forms.
    pub reencrypt_adopted: Vec<(String, Vec<u8>)>,
}

/// Stored in snake case in the columns `key_events.event` and `adopted_key_events.event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum KeyEventKind {
    Created,
    FirstSigned,
    Revoked,
    Reencrypted,
    Deleted,
    Adopted,
}

impl KeyEventKind {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A row of `key_events` or of `adopted_key_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    pub kid: String,
    pub kind: KeyEventKind,
    pub at: UnixTime,
    pub reason: Option<String>,
}

/// The latest `limit` of two lists of events, each in its order, by their times.
pub(super) fn merged_events(
    mut events: Vec<KeyEvent>,
    more: Vec<KeyEvent>,
    limit: u32,
) -> Vec<KeyEvent> {
    if more.is_empty() {
        return events;
    }
    events.extend(more);
    // Keeps the order of each list, unless the clock was set back meanwhile.
    events.sort_by_key(|event| event.at);
    let surplus = events.len().saturating_sub(limit as usize);
    events.split_off(surplus)
}
