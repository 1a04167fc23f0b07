//! Failures that are not the client's fault.

use super::tokens::TokenError;
use crate::crypto::password::HashError;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The hash would not start within two seconds.
    #[error("too many passwords are being hashed at once")]
    Overloaded,
    #[error("there is not enough memory to hash a password")]
    NoMemory,
    /// The account was changed during each of the attempts to record a sign-in.
    #[error("the account is changed all the time")]
    AccountContended,
    #[error("no key can sign")]
    NoSigningKey,
    /// It may be available again in a moment.
    #[error("{0}")]
    DatabaseUnavailable(String),
    /// Logged where it was found; the service stops.
    #[error("{}", StoreError::Replaced)]
    DatabaseReplaced,
    #[error("{0}")]
    Internal(String),
}

impl From<HashError> for ServiceError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded => Self::Overloaded,
            HashError::NoMemory => Self::NoMemory,
            HashError::Failed => Self::Internal(error.to_string()),
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Unknown(_) => {
                Self::DatabaseUnavailable(error.to_string())
            }
            StoreError::Replaced => Self::DatabaseReplaced,
            StoreError::AlreadyExists
            | StoreError::BadRow(_)
            | StoreError::Refused(_)
            | StoreError::NotPermitted(_)
            | StoreError::NoData(_)
            | StoreError::Revoked(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<TokenError> for ServiceError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NoKey => Self::NoSigningKey,
            TokenError::Signing(_) | TokenError::Join(_) => Self::Internal(error.to_string()),
        }
    }
}
