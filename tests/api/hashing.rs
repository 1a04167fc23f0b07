//! Admission to the hashing queues.

use std::time::Instant;

use jwks_server::crypto::password::{Costs, HashError, PasswordHasher, Verdict};

/// Of each queue.
const CAPACITY: usize = 1024;

#[tokio::test]
async fn a_flood_is_cut_to_what_can_start_in_time_and_the_other_queue_goes_on() {
    let hasher = PasswordHasher::start(Costs::DEFAULT, 1).unwrap();
    let flood: Vec<_> = (0..2 * CAPACITY)
        .map(|_| {
            let hasher = hasher.clone();
            tokio::spawn(async move { hasher.hash(1, "p".to_owned().into()).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    let verdict = hasher.verify(1, "p".to_owned().into(), None).await;
    assert_eq!(verdict, Ok(Verdict::Mismatch));
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
