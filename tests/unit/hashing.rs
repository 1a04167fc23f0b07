//! Hashing on one thread: what is computed, and what is left in its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::Block;

use super::compute::Workspace;
use super::params::{Costs, Hash, stored_cost};
use super::*;

fn workspace() -> Workspace {
    Workspace::new(Costs::DEFAULT.params().unwrap(), Arc::default())
}

fn parse(kind: &str, costs: &str, hash: &str) -> Option<Hash> {
    Hash::parse(&format!("${kind}${costs}$c2FsdHNhbHRzYWx0c2FsdA${hash}"))
}

#[test]
fn a_hash_that_differs_in_any_parameter_from_a_new_one_is_outdated() {
    let (kind, costs, hash) = ("argon2id$v=19", "m=19456,t=2,p=1", "A".repeat(43));
    let is_current = |kind, costs, hash: &str| {
        let parsed = parse(kind, costs, hash).unwrap();
        parsed.is_current(&Costs::DEFAULT.params().unwrap())
    };
    assert!(is_current(kind, costs, &hash));
    assert!(!is_current("argon2i$v=19", costs, &hash));
    assert!(!is_current("argon2id$v=16", costs, &hash));
    assert!(!is_current(kind, costs, &"A".repeat(22)));
    for costs in ["m=19457,t=2,p=1", "m=19456,t=3,p=1", "m=19456,t=2,p=2"] {
        assert!(!is_current(kind, costs, &hash), "{costs}");
    }
}

#[test]
fn without_a_readable_hash_the_cost_is_that_of_a_current_one() {
    let computed = Arc::new(AtomicU64::new(0));
    let mut workspace = Workspace::new(Costs::DEFAULT.params().unwrap(), Arc::clone(&computed));
    let password = generate().unwrap();
    let hash = workspace.hash(&password).unwrap();
    for (stored, check) in [
        (
            Some(hash.as_str()),
            PasswordCheck::Match { replacement: None },
        ),
        (Some("no hash"), PasswordCheck::Unreadable),
        (None, PasswordCheck::Mismatch),
    ] {
        computed.store(0, Ordering::Relaxed);
        assert_eq!(workspace.verify(&password, stored), Ok(check));
        assert_eq!(computed.load(Ordering::Relaxed), 2 * 19_456);
    }
    assert_eq!(stored_cost(&hash), Some(2 * 19_456));
    // The memory shows that it was computed and not only counted.
    assert_eq!(workspace.blocks.len(), 19_456);
    let is_filled = |block: &Block| block.as_ref().iter().any(|&word| word != 0);
    assert!(workspace.blocks.iter().all(is_filled));
}

#[test]
fn memory_that_only_an_outdated_hash_needed_is_given_back() {
    let mut workspace = workspace();
    let password = "wrong".to_owned().into();
    let check = workspace.verify(&password, Some(LARGER));
    assert_eq!(check, Ok(PasswordCheck::Mismatch));
    assert_eq!(workspace.blocks.capacity(), 0);
    workspace.hash(&password).unwrap();
    assert_eq!(workspace.blocks.len(), 19_456);
}

#[test]
fn memory_of_a_hash_of_one_pass_is_wiped() {
    let mut workspace = workspace();
    let check = workspace.verify(&"wrong".to_owned().into(), Some(OF_ONE_PASS));
    assert_eq!(check, Ok(PasswordCheck::Mismatch));
    assert_eq!(workspace.blocks.len(), 2048);
    let is_wiped = |block: &Block| block.as_ref().iter().all(|&word| word == 0);
    assert!(workspace.blocks.iter().all(is_wiped));
}

const LARGER: &str = "$argon2id$v=19$m=65536,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$Bts/9u/MNL5Rz4t+uOvVNPdkTFQA7SkSWpwcFp+YUnw";
const OF_ONE_PASS: &str = "$argon2d$v=19$m=2048,t=1,p=1$AAECAwQFBgc$NjFf6d8j06kaH7NGu344Ng";
