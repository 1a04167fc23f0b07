use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::Block;
use secrecy::ExposeSecret as _;

use super::compute::Workspace;
use super::params::{Costs, Hash, stored_work};
use super::*;

fn workspace() -> Workspace {
    Workspace::new(Costs::DEFAULT.params().unwrap(), Arc::default())
}

fn verify(password: &str, stored: &str) -> Verdict {
    let password = password.to_owned().into();
    workspace().verify(&password, Some(stored)).unwrap()
}

#[test]
fn a_new_hash_names_its_parameters_and_fits_its_password_only() {
    let password = generate().unwrap();
    let phc = workspace().hash(&password).unwrap();
    assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
    assert_ne!(workspace().hash(&password).unwrap(), phc);
    assert_eq!(
        verify(password.expose_secret(), &phc),
        Verdict::Match { replacement: None }
    );
    assert_eq!(verify("other", &phc), Verdict::Mismatch);
}

/// Made by argon2-cffi 25.1.0 over the reference implementation, from "correct horse":
/// all three kinds, both versions, several lanes and lengths.
#[test]
fn hashes_of_other_programs_are_accepted_and_replaced() {
    for phc in FOREIGN {
        let Verdict::Match { replacement } = verify("correct horse", phc) else {
            panic!("{phc}");
        };
        let replaced = verify("correct horse", &replacement.unwrap());
        assert_eq!(replaced, Verdict::Match { replacement: None });
        assert_eq!(verify("correct horsf", phc), Verdict::Mismatch, "{phc}");
    }
}

#[test]
fn an_absurd_or_broken_hash_is_unreadable() {
    for phc in [
        "",
        "password123",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA",
        "$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=1024,t=1025,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=18$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=19456,t=0,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=19456,t=2,p=1$c2E$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=16,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert_eq!(verify("x", phc), Verdict::Unreadable, "{phc}");
    }
}

#[test]
fn costs_are_accepted_from_the_floor_to_the_ceiling() {
    for (memory_kib, passes, lanes, acceptable) in [
        (19_456, 2, 1, true),
        (19_455, 2, 1, false),
        (19_456, 1, 1, false),
        (19_456, 2, 0, false),
        (19_456, 2, 64, true),
        (19_456, 2, 65, false),
        (262_144, 4, 1, true),
        (262_144, 5, 1, false),
        (262_145, 2, 1, false),
    ] {
        let costs = Costs {
            memory_kib,
            passes,
            lanes,
        };
        assert_eq!(costs.are_acceptable(), acceptable, "{costs:?}");
    }
}

fn parse(kind: &str, costs: &str, hash: &str) -> Option<Hash> {
    Hash::parse(&format!("${kind}${costs}$c2FsdHNhbHRzYWx0c2FsdA${hash}"))
}

#[test]
fn a_stored_hash_may_ask_for_256_mebibytes_and_a_gibibyte_of_work() {
    for (costs, accepted) in [
        ("m=262144,t=1,p=1", true),
        ("m=262145,t=1,p=1", false),
        ("m=262144,t=4,p=64", true),
        ("m=262144,t=5,p=64", false),
        ("m=262144,t=4,p=65", false),
        ("m=8,t=131072,p=1", true),
        ("m=8,t=131073,p=1", false),
    ] {
        let parsed = parse("argon2id$v=19", costs, &"A".repeat(43));
        assert_eq!(parsed.is_some(), accepted, "{costs}");
    }
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
fn without_a_readable_hash_the_work_is_that_of_a_current_one() {
    let work = Arc::new(AtomicU64::new(0));
    let mut workspace = Workspace::new(Costs::DEFAULT.params().unwrap(), Arc::clone(&work));
    let password = generate().unwrap();
    let hash = workspace.hash(&password).unwrap();
    for (stored, verdict) in [
        (Some(hash.as_str()), Verdict::Match { replacement: None }),
        (Some("no hash"), Verdict::Unreadable),
        (None, Verdict::Mismatch),
    ] {
        work.store(0, Ordering::Relaxed);
        assert_eq!(workspace.verify(&password, stored), Ok(verdict));
        assert_eq!(work.load(Ordering::Relaxed), 2 * 19_456);
    }
    assert_eq!(stored_work(&hash), Some(2 * 19_456));
    // The memory shows that it was computed and not only counted.
    assert_eq!(workspace.blocks.len(), 19_456);
    let is_filled = |block: &Block| block.as_ref().iter().any(|&word| word != 0);
    assert!(workspace.blocks.iter().all(is_filled));
}

#[test]
fn memory_that_only_an_outdated_hash_needed_is_given_back() {
    let mut workspace = workspace();
    let password = "wrong".to_owned().into();
    let verdict = workspace.verify(&password, Some(FOREIGN[0]));
    assert_eq!(verdict, Ok(Verdict::Mismatch));
    assert_eq!(workspace.blocks.capacity(), 0);
    workspace.hash(&password).unwrap();
    assert_eq!(workspace.blocks.len(), 19_456);
}

#[test]
fn memory_of_a_hash_of_one_pass_is_wiped() {
    let mut workspace = workspace();
    let verdict = workspace.verify(&"wrong".to_owned().into(), Some(FOREIGN[2]));
    assert_eq!(verdict, Ok(Verdict::Mismatch));
    assert_eq!(workspace.blocks.len(), 2048);
    let is_wiped = |block: &Block| block.as_ref().iter().all(|&word| word == 0);
    assert!(workspace.blocks.iter().all(is_wiped));
}

const FOREIGN: [&str; 4] = [
    "$argon2id$v=19$m=65536,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$Bts/9u/MNL5Rz4t+uOvVNPdkTFQA7SkSWpwcFp+YUnw",
    "$argon2i$v=19$m=1024,t=3,p=4$AAECAwQFBgcICQoLDA0ODw$bATvYJNoLF35C2ZIR4HyihJ88n6E/5EjYwf9jBZdBmc",
    "$argon2d$v=19$m=2048,t=1,p=1$AAECAwQFBgc$NjFf6d8j06kaH7NGu344Ng",
    "$argon2id$v=16$m=1024,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$97ZRxno/lMKTYcC6BeTrFyQbdZ2ulrOoj20T2qUVf7eYkNQ6Q+3IhmRjHTVVKb/G35C8ltwZSLd51wIeO038wA",
];
