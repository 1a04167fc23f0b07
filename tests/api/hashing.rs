//! Hashes that are made and accepted, and admission to the hashing queues.

use std::time::Instant;

use jwks_server::client_key::ClientKey;
use jwks_server::crypto::password::{
    Costs, HashError, PasswordCheck, PasswordHasher, generate, stored_cost,
};
use secrecy::ExposeSecret as _;

/// Of each queue.
const CAPACITY: usize = 1024;

#[tokio::test]
async fn a_flood_is_cut_to_what_can_start_in_time_and_the_other_queue_goes_on() {
    let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
    let flood: Vec<_> = (0..2 * CAPACITY)
        .map(|_| {
            let hasher = hasher.clone();
            tokio::spawn(async move {
                hasher
                    .hash(ClientKey::OPERATOR, "p".to_owned().into())
                    .await
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    let check = hasher
        .verify(ClientKey::OPERATOR, "p".to_owned().into(), None)
        .await;
    assert_eq!(check, Ok(PasswordCheck::Mismatch));
    // Refusals must not wait in the queue; admitted jobs are answered.
    let mut refused = 0;
    for call in flood {
        match call.await.unwrap() {
            Ok(_) => {}
            Err(e) => {
                assert_eq!(e, HashError::Overloaded);
                refused += 1;
            }
        }
    }
    assert!(
        refused >= CAPACITY,
        "{refused} refused in {:?}",
        began.elapsed()
    );
}

async fn verify(password: &str, stored: &str) -> PasswordCheck {
    let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
    let password = password.to_owned().into();
    hasher
        .verify(ClientKey::OPERATOR, password, Some(stored.to_owned()))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_new_hash_names_its_parameters_and_fits_its_password_only() {
    let password = generate().unwrap();
    let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
    let phc = hasher
        .hash(ClientKey::OPERATOR, password.clone())
        .await
        .unwrap();
    assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
    assert_ne!(
        hasher
            .hash(ClientKey::OPERATOR, password.clone())
            .await
            .unwrap(),
        phc
    );
    assert_eq!(
        verify(password.expose_secret(), &phc).await,
        PasswordCheck::Match { replacement: None }
    );
    assert_eq!(verify("other", &phc).await, PasswordCheck::Mismatch);
}

/// Made by argon2-cffi 25.1.0 over the reference implementation, from "correct horse":
/// all three kinds, both versions, several lanes and lengths.
#[tokio::test]
async fn hashes_of_other_programs_are_accepted_and_replaced() {
    for phc in FOREIGN {
        let PasswordCheck::Match { replacement } = verify("correct horse", phc).await else {
            panic!("{phc}");
        };
        let replaced = verify("correct horse", &replacement.unwrap()).await;
        assert_eq!(replaced, PasswordCheck::Match { replacement: None });
        assert_eq!(
            verify("correct horsf", phc).await,
            PasswordCheck::Mismatch,
            "{phc}"
        );
    }
}

#[tokio::test]
async fn an_absurd_or_broken_hash_is_unreadable() {
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
        assert_eq!(verify("x", phc).await, PasswordCheck::Unreadable, "{phc}");
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
        let hash = "A".repeat(43);
        let phc = format!("$argon2id$v=19${costs}$c2FsdHNhbHRzYWx0c2FsdA${hash}");
        assert_eq!(stored_cost(&phc).is_some(), accepted, "{costs}");
    }
}

const FOREIGN: [&str; 4] = [
    "$argon2id$v=19$m=65536,t=3,p=2$AAECAwQFBgcICQoLDA0ODw$Bts/9u/MNL5Rz4t+uOvVNPdkTFQA7SkSWpwcFp+YUnw",
    "$argon2i$v=19$m=1024,t=3,p=4$AAECAwQFBgcICQoLDA0ODw$bATvYJNoLF35C2ZIR4HyihJ88n6E/5EjYwf9jBZdBmc",
    "$argon2d$v=19$m=2048,t=1,p=1$AAECAwQFBgc$NjFf6d8j06kaH7NGu344Ng",
    "$argon2id$v=16$m=1024,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$97ZRxno/lMKTYcC6BeTrFyQbdZ2ulrOoj20T2qUVf7eYkNQ6Q+3IhmRjHTVVKb/G35C8ltwZSLd51wIeO038wA",
];
