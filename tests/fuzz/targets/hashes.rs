//! PHC strings. All are read; those that are cheap enough to go on with are
//! also computed.

use std::sync::LazyLock;

use jwks_server::crypto::password::pool::PasswordHasher;
use jwks_server::crypto::password::{Against, Costs, Recipe, Verdict};
use tokio::runtime::Runtime;

/// KiB times passes that are computed: a millisecond or so.
const CHEAP: u64 = 1024;
/// What the service computes at most.
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
    let Some(recipe) = Recipe::of(text) else {
        return;
    };
    assert!(recipe.work() <= MOST, "{text}");
    if recipe.work() <= CHEAP {
        let (runtime, hasher) = &*HASHER;
        let before = hasher.work();
        let password = "a password".to_owned().into();
        let verdict = runtime.block_on(hasher.verify(password, Against::Stored(text.to_owned())));
        match verdict.unwrap() {
            Verdict::Match { .. } => panic!("{text} fits"),
            Verdict::Mismatch => assert_eq!(hasher.work() - before, recipe.work(), "{text}"),
            // Parameters that contradict each other.
            Verdict::Unreadable => assert_eq!(hasher.work(), before, "{text}"),
        }
    }
}
