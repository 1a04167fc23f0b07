//! Reasons for which a row of keys, ours or adopted, gives no key.

use crate::crypto::rsa::KeyError;

/// Reason for which a row gives no key.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// No entry of `NOT_MY_KEY` opens it, or it was changed.
    #[error("it does not open under NOT_MY_KEY")]
    NotOpened,
    #[error(transparent)]
    Unusable(#[from] KeyError),
    #[error("it was tampered with: it is not the key that its kid names")]
    WrongKid,
    #[error("it was tampered with: no adopted key is encrypted there")]
    NotAdopted,
    #[error("it is not encrypted; a start encrypts such keys only while it takes a file over")]
    InTheClear,
    #[error(
        "another program added it: its kid is no thumbprint, and it was not there when the file was taken over"
    )]
    Added,
}
