//! PHC strings. All are read; those that are cheap enough to go on with are
//! also computed.

use std::sync::LazyLock;

use jwks_server::client_key::ClientKey;
use jwks_server::crypto::password::{Costs, PasswordCheck, PasswordHasher, stored_cost};
use tokio::runtime::Runtime;

/// KiB times passes that are computed: a millisecond or so.
const CHEAP: u64 = 1024;
/// The most that the service computes.
const MOST: u64 = 1024 * 1024;

static HASHER: LazyLock<(Runtime, PasswordHasher)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    (runtime, PasswordHasher::start(Costs::DEFAULT, 1).unwrap())
});

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(work) = stored_cost(text) else {
        return;
    };
    assert!(work <= MOST, "{text}");
    if work <= CHEAP {
        let (runtime, hasher) = &*HASHER;
        let before = hasher.computed_cost();
        let password = "a password".to_owned().into();
        let check =
            runtime.block_on(hasher.verify(ClientKey::OPERATOR, password, Some(text.to_owned())));
        assert_eq!(check, Ok(PasswordCheck::Mismatch), "{text}");
        assert_eq!(hasher.computed_cost() - before, work, "{text}");
    }
}
