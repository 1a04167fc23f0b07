//! A small token issuer.

pub mod clock;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod store;
