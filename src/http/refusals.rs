//! Bounds the log lines of refusals. Of one client and in one second, one call over
//! a quota has a line and twenty calls of missing paths or methods have; the others
//! are counted, and the next line has their number.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::client::{ClientAddr, ClientKey};

const SECOND: Duration = Duration::from_secs(1);
/// Most entries. Refusals of further clients have a line each.
const MAX_ENTRIES: usize = 10_000;

/// Latest refusals by client and status.
#[derive(Default)]
pub struct Refusals(Mutex<HashMap<(ClientKey, u16), Recent>>);

struct Recent {
    client: ClientAddr,
    /// Time of the first line of the second.
    since: Duration,
    lines: u32,
    unlogged: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It gets a line; so many before it had none.
    Line(u64),
    Counted,
}

impl Refusals {
    pub(super) fn note(&self, client: ClientAddr, status: u16, now: Duration) -> Note {
        let limit = match status {
            429 => 1,
            404 | 405 => 20,
            _ => return Note::Line(0),
        };
        let mut entries = self.0.lock();
        if entries.len() >= MAX_ENTRIES {
            remove_past(&mut entries, now);
            if entries.len() >= MAX_ENTRIES {
                return Note::Line(0);
            }
        }
        let recent = entries.entry((client.key(), status)).or_insert(Recent {
            client,
            since: now,
            lines: 0,
            unlogged: 0,
        });
        if now.saturating_sub(recent.since) >= SECOND {
            (recent.since, recent.lines) = (now, 0);
        }
        if recent.lines == limit {
            recent.unlogged += 1;
            return Note::Counted;
        }
        recent.lines += 1;
        Note::Line(std::mem::take(&mut recent.unlogged))
    }

    /// Logs the counts of clients that have been quiet for a second.
    pub fn sweep(&self, now: Duration) {
        remove_past(&mut self.0.lock(), now);
    }
}

fn remove_past(entries: &mut HashMap<(ClientKey, u16), Recent>, now: Duration) {
    entries.retain(|(_, status), recent| {
        let is_past = now.saturating_sub(recent.since) >= SECOND;
        if is_past && recent.unlogged > 0 {
            let (client, more) = (recent.client.0, recent.unlogged);
            tracing::info!(%client, status, more, "answered so without a line each");
        }
        !is_past
    });
}
