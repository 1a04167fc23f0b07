//! The quotas over all replicas: what one replica lets in by its own log is asked of the
//! database, which keeps the same sliding second for all.

use super::error::ServiceError;
use crate::client_key::ClientKey;
pub use crate::store::Admission;
use crate::store::{Store, StoreError};

#[derive(Clone)]
pub struct SharedQuota {
    pub store: Store,
}

impl SharedQuota {
    /// Lets a call in that is among the `rate` of the client's last second. `quota`: its
    /// name.
    pub async fn admit(
        &self,
        quota: &'static str,
        client: ClientKey,
        rate: usize,
    ) -> Result<Admission, ServiceError> {
        let admitted = self.store.admit_call(quota, client, rate).await;
        // Whatever the reason, the call was not counted; later it may be.
        Ok(admitted.map_err(StoreError::or_later)?)
    }
}
