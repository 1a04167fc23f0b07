//! `keygen`: prints a key.

use zeroize::Zeroizing;

use super::{Failure, print};
use crate::crypto::fernet::SealingKeys;

pub(super) fn run() -> Result<(), Failure> {
    let line = Zeroizing::new(format!("{}\n", SealingKeys::generate().as_str()));
    print(&line)
}
