//! Readiness: faults that keep the service from answering.

use std::sync::Arc;
use std::time::Duration;

use super::key_ring::KeyRing;
use super::rotation::Heartbeat;
use crate::clock::Clock;
use crate::lifecycle::Policy;
pub use crate::store::CUT_OFF;
use crate::store::Store;

/// Checks all that answering needs. Cheap for any number of callers: the write
/// probe runs at most once a second.
pub struct Readiness {
    pub store: Store,
    pub keys: Arc<KeyRing>,
    pub heartbeat: Arc<Heartbeat>,
    pub policy: Policy,
    pub clock: Arc<dyn Clock>,
}

impl Readiness {
    /// Size of the write-ahead log in bytes, and whether too little is left on the
    /// disk for sign-ups.
    pub fn room(&self) -> (u64, bool) {
        (self.store.wal_bytes(), self.store.is_low_on_disk())
    }

    /// Replicas, or processes with the file open, this one too, and what they are called;
    /// `None` where their number is not known.
    pub async fn participants(&self) -> (&'static str, Option<usize>) {
        let what = match self.store.is_shared_by_replicas() {
            true => "Replicas seen",
            false => "Processes seen",
        };
        (what, self.store.participants().await)
    }

    /// Time for which changes that other replicas make to the keys are not known, or known
    /// and not loaded; zero for a file.
    pub fn unconfirmed_for(&self) -> Duration {
        self.store
            .unreachable_for()
            .max(self.heartbeat.unloaded_for())
    }

    /// All faults, in words without a path or a secret; none when ready.
    pub async fn faults(&self) -> Vec<&'static str> {
        let writable = self.store.is_writable(self.clock.monotonic()).await;
        [
            (!writable).then_some("the database cannot be written to"),
            (!self.can_sign()).then_some("no key can sign"),
            self.heartbeat
                .is_failing()
                .then_some("the rotation of keys fails"),
            self.heartbeat
                .hangs()
                .then_some("the rotation of keys hangs"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Can a published key sign a token now?
    fn can_sign(&self) -> bool {
        let now = self.clock.now();
        let snapshot = self.keys.snapshot();
        snapshot.signing(&self.policy, now).is_some() && snapshot.published(now).is_some()
    }
}
