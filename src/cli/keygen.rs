//! `keygen`: prints a fresh key for `NOT_MY_KEY`.

use std::io::Write as _;

use super::Failure;
use crate::config;

pub(super) fn run() -> Result<(), Failure> {
    // A closed pipe is a failure here, unlike with a listing: the key is lost.
    writeln!(
        std::io::stdout(),
        "{}",
        config::generate_sealing_key().as_str()
    )
    .map_err(|e| Failure::broken(format!("the key cannot be printed: {e}")))
}
