//! A small token issuer.

pub mod clock;
