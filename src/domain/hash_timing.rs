//! Time that one password hash takes on this machine, for `doctor`.

use std::time::{Duration, Instant};

use crate::client_key::ClientKey;
use crate::crypto::password::{self, Costs, PasswordHasher};

/// Measures a hash on one thread, and returns the shorter time of two: the first hash
/// also has to get its memory from the system.
pub async fn measure(costs: Costs) -> Result<Duration, String> {
    let hasher = PasswordHasher::start(costs, 1).map_err(|e| e.to_string())?;
    let mut best = Duration::MAX;
    for _ in 0..2 {
        let password = password::generate().ok_or("the system has no random numbers")?;
        let began = Instant::now();
        hasher
            .hash(ClientKey::OPERATOR, password)
            .await
            .map_err(|e| e.to_string())?;
        best = best.min(began.elapsed());
    }
    Ok(best)
}
