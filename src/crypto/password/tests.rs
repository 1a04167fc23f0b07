use super::*;

fn workspace() -> Workspace {
    Workspace::new(Costs::DEFAULT, Arc::default())
}

fn verify(password: &str, stored: &str) -> Verdict {
    let stored = Against::Stored(stored.to_owned());
    let verdict = workspace().verify(&password.to_owned().into(), &stored);
    verdict.unwrap_or_else(|NoMemory| panic!("no memory"))
}

#[test]
fn a_new_hash_says_its_costs_and_fits_its_password_only() {
    let password = generate().unwrap();
    let phc = workspace().hash(&password).unwrap();
    assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
    assert_eq!(
        verify(password.expose_secret(), &phc),
        Verdict::Match { outdated: false }
    );
    assert_eq!(verify("other", &phc), Verdict::Mismatch);
}

/// Made by argon2-cffi 25.1.0 over the reference implementation, from "correct horse":
/// all three kinds, both versions, several lanes and lengths.
#[test]
fn hashes_of_other_programs_are_accepted_and_outdated() {
    let outdated = Verdict::Match { outdated: true };
    for phc in FOREIGN {
        assert_eq!(verify("correct horse", phc), outdated, "{phc}");
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
fn costs_are_taken_from_the_floor_to_the_ceiling() {
    for (memory_kib, passes, lanes, acceptable) in [
        (19_456, 2, 1, true),
        (19_455, 2, 1, false),
        (19_456, 1, 1, false),
        (19_456, 2, 0, false),
        (19_456, 2, 64, true),
        (19_456, 2, 65, false),
        (524_288, 2, 1, true),
        (524_288, 3, 1, false),
    ] {
        let costs = Costs {
            memory_kib,
            passes,
            lanes,
        };
        assert_eq!(costs.are_acceptable(), acceptable, "{costs:?}");
    }
}

fn stored(kind: &str, costs: &str, hash: &str) -> Option<Stored> {
    Stored::parse(&format!("${kind}${costs}$c2FsdHNhbHRzYWx0c2FsdA${hash}"))
}

#[test]
fn a_stored_hash_may_ask_for_as_much_as_the_ceiling() {
    for (costs, taken) in [
        ("m=1048576,t=1,p=1", true),
        ("m=1048577,t=1,p=1", false),
        ("m=524288,t=2,p=64", true),
        ("m=524288,t=2,p=65", false),
    ] {
        let found = stored("argon2id$v=19", costs, &"A".repeat(43));
        assert_eq!(found.is_some(), taken, "{costs}");
    }
}

#[test]
fn a_hash_that_differs_in_anything_from_a_new_one_is_outdated() {
    let (kind, costs, hash) = ("argon2id$v=19", "m=19456,t=2,p=1", "A".repeat(43));
    let is_new = |kind, costs, hash: &str| {
        let stored = stored(kind, costs, hash).unwrap();
        stored.is_current(Costs::DEFAULT)
    };
    assert!(is_new(kind, costs, &hash));
    assert!(!is_new("argon2i$v=19", costs, &hash));
    assert!(!is_new("argon2id$v=16", costs, &hash));
    assert!(!is_new(kind, costs, &"A".repeat(22)));
    for costs in ["m=19457,t=2,p=1", "m=19456,t=3,p=1", "m=19456,t=2,p=2"] {
        assert!(!is_new(kind, costs, &hash), "{costs}");
    }
}

#[test]
fn a_name_without_an_account_costs_the_work_of_one() {
    let mut space = workspace();
    let burnt = space.burn(&generate().unwrap(), Recipe::new(Costs::DEFAULT));
    assert!(burnt.is_ok());
    assert_eq!(space.blocks.len(), 19_456);
    let used = |block: &Block| block.as_ref().iter().any(|&word| word != 0);
    assert!(space.blocks.iter().all(used));
}

#[test]
fn memory_that_one_foreign_hash_needed_is_given_back() {
    let mut space = workspace();
    let password = "correct horse".to_owned().into();
    let verdict = space.verify(&password, &Against::Stored(FOREIGN[0].to_owned()));
    assert!(matches!(verdict, Ok(Verdict::Match { outdated: true })));
    assert_eq!(space.blocks.capacity(), 0);
    space.hash(&password).unwrap();
    assert_eq!(space.blocks.len(), 19_456);
}

#[test]
fn of_two_large_hashes_one_is_computed_at_a_time() {
    let mut space = workspace();
    let other = Arc::clone(&space.large);
    let computing = other.lock().unwrap();
    let recipe = |memory_kib| {
        Recipe::new(Costs {
            memory_kib,
            passes: 1,
            lanes: 1,
        })
    };
    let password = "correct horse".to_owned().into();
    assert!(space.burn(&password, recipe(LARGE_KIB)).is_ok());
    assert!(space.burn(&password, recipe(LARGE_KIB + 8)).is_err());
    drop(computing);
    assert!(space.burn(&password, recipe(LARGE_KIB + 8)).is_ok());
    // What new hashes are to cost is the operator's choice.
    space.costs.memory_kib = LARGE_KIB + 8;
    let _computing = other.lock().unwrap();
    assert!(space.burn(&password, recipe(LARGE_KIB + 8)).is_ok());
}

const FOREIGN: [&str; 4] = [
    "$argon2id$v=19$m=65536,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$Bts/9u/MNL5Rz4t+uOvVNPdkTFQA7SkSWpwcFp+YUnw",
    "$argon2i$v=19$m=1024,t=3,p=4$AAECAwQFBgcICQoLDA0ODw$bATvYJNoLF35C2ZIR4HyihJ88n6E/5EjYwf9jBZdBmc",
    "$argon2d$v=19$m=2048,t=1,p=1$AAECAwQFBgc$NjFf6d8j06kaH7NGu344Ng",
    "$argon2id$v=16$m=1024,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$97ZRxno/lMKTYcC6BeTrFyQbdZ2ulrOoj20T2qUVf7eYkNQ6Q+3IhmRjHTVVKb/G35C8ltwZSLd51wIeO038wA",
];
