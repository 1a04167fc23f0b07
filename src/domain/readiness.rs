//! Whether the service can do its work at the moment, and what keeps it from it.

use std::sync::Arc;

use super::key_ring::KeyRing;
use super::rotation::Heartbeat;
use crate::clock::Clock;
use crate::lifecycle::Policy;
use crate::store::Store;

/// Looks after all that answering needs. Cheap enough for anyone to ask: the
/// database is tried once a second at most, however many ask.
pub struct Readiness {
    store: Store,
    keys: Arc<KeyRing>,
    heartbeat: Arc<Heartbeat>,
    policy: Policy,
    clock: Arc<dyn Clock>,
}

impl Readiness {
    /// Over the parts that it looks at.
    pub fn new(
        store: Store,
        keys: Arc<KeyRing>,
        heartbeat: Arc<Heartbeat>,
        policy: Policy,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            keys,
            heartbeat,
            policy,
            clock,
        }
    }

    /// What is wrong, in words without a path or a secret; nothing, when the
    /// service is ready.
    pub async fn faults(&self) -> Vec<&'static str> {
        let writable = self.store.is_writable(self.clock.monotonic()).await;
        [
            (!writable).then_some("the database cannot be written to"),
            (!self.can_sign()).then_some("no key can sign"),
            self.heartbeat
                .is_failing()
                .then_some("the rotation of keys fails"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether a token could be signed now, with a key that is published.
    fn can_sign(&self) -> bool {
        let now = self.clock.now();
        let snapshot = self.keys.snapshot();
        snapshot.signing(&self.policy, now).is_some() && snapshot.published(now).is_some()
    }
}
