//! The quotas over all replicas: what one replica lets in by its own log is asked of the
//! database, which keeps the same sliding second for all.

use std::time::Duration;

use super::error::ServiceError;
use crate::client::ClientKey;
use crate::store::Store;

#[derive(Clone)]
pub struct SharedQuota {
    pub store: Store,
}

impl SharedQuota {
    /// Lets a call in that is among the `rate` of the client's last second; or returns
    /// the time until one would be. `quota`: its name.
    pub async fn admit(
        &self,
        quota: &'static str,
        client: ClientKey,
        rate: usize,
    ) -> Result<Result<(), Duration>, ServiceError> {
        Ok(self.store.admit_call(quota, client, rate).await?)
    }
}
