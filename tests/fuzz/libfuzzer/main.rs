//! One target of `targets.rs` under libFuzzer: the one that `FUZZ_TARGET` names.
#![no_main]
#![expect(
    clippy::unwrap_used,
    reason = "a harness that cannot go on should stop"
)]

#[path = "../targets/mod.rs"]
mod targets;

use std::sync::OnceLock;

use targets::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap();
        TARGET.set(Target::by_name(&name).unwrap()).unwrap();
    },
    |data: &[u8]| TARGET.get().unwrap().run(data)
);
