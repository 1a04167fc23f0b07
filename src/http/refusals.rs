//! Bounds the log lines of refusals. Of one client and in one second, one call over
//! a quota has a line, and twenty with any other status have; the others are counted,
//! and the next line has their number.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::client_addr::ClientAddr;
use crate::client_key::ClientKey;

const SECOND: Duration = Duration::from_secs(1);
/// Most entries. Refusals of further clients are counted together.
const MAX_ENTRIES: usize = 10_000;

/// In place of the status of a request that was not answered.
pub(super) const NO_STATUS: u16 = 0;

/// Latest refusals by client and status.
#[derive(Default)]
pub struct Refusals(Mutex<Latest>);

#[derive(Default)]
struct Latest {
    entries: HashMap<(ClientKey, u16), Recent>,
    /// Number of refusals that found no room among the entries.
    without_entry: u64,
    swept: Duration,
}

struct Recent {
    client: ClientAddr,
    /// Time of the first line of the second.
    since: Duration,
    lines: u32,
    unlogged: u64,
}

impl Refusals {
    /// Number of refusals before this one that had no line; none if it has none itself.
    pub(super) fn note(&self, client: ClientAddr, status: u16, now: Duration) -> Option<u64> {
        let limit = if status == 429 { 1 } else { 20 };
        let key = (client.key(), status);
        let mut latest = self.0.lock();
        if latest.entries.len() >= MAX_ENTRIES && !latest.entries.contains_key(&key) {
            // Not at each of them: the sweep looks at all entries.
            if now.saturating_sub(latest.swept) >= SECOND {
                latest.sweep(now);
            }
            if latest.entries.len() >= MAX_ENTRIES {
                latest.without_entry += 1;
                return None;
            }
        }
        let recent = latest.entries.entry(key).or_insert(Recent {
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
            return None;
        }
        recent.lines += 1;
        Some(std::mem::take(&mut recent.unlogged))
    }

    /// Logs the counts of clients that have been quiet for a second.
    pub fn sweep(&self, now: Duration) {
        self.0.lock().sweep(now);
    }
}

impl Latest {
    fn sweep(&mut self, now: Duration) {
        self.swept = now;
        self.entries.retain(|(_, status), recent| {
            let is_past = now.saturating_sub(recent.since) >= SECOND;
            if is_past && recent.unlogged > 0 {
                let (client, more) = (recent.client.0, recent.unlogged);
                tracing::info!(%client, status, more, "answered so without a line each");
            }
            !is_past
        });
        let more = std::mem::take(&mut self.without_entry);
        if more > 0 {
            tracing::info!(more, "refusals of other clients, without a line each");
        }
    }
}
