//! PHC strings. All are read; those that are cheap enough to go on with are
//! also computed.

use std::sync::LazyLock;

use jwks_server::crypto::password::{Costs, PasswordHasher, Verdict, stored_work};
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
    let Some(work) = stored_work(text) else {
        return;
    };
    assert!(work <= MOST, "{text}");
    if work <= CHEAP {
        let (runtime, hasher) = &*HASHER;
        let before = hasher.work();
        let password = "a password".to_owned().into();
        let verdict = runtime.block_on(hasher.verify(0, password, Some(text.to_owned())));
        assert_eq!(verdict, Ok(Verdict::Mismatch), "{text}");
        assert_eq!(hasher.work() - before, work, "{text}");
    }
}
