//! A small token issuer: a JSON Web Key Set whose keys rotate by themselves,
//! accounts, and sign-in, on one SQLite file.
//!
//! ```text
//! main ── cli ──────── what may be typed; reads the configuration, opens, runs
//!          │
//!         app ──────── the parts put together; start, serve, drain
//!          │
//! server ─ http ────── connections; routes, bodies, errors, quota
//!          │
//!        domain ────── the rules: lifecycle (pure), keys, rotation, accounts, tokens
//!        │    │
//!     store  crypto ── all the SQL; all the ciphers
//! ```
//!
//! Nothing points up, but for `http`, which takes its shared state from `app`.
//! [`store`] sees sealed keys and password hashes only, and [`crypto`] sees no
//! database; what `domain` gives the store to keep was sealed by
//! [`crypto::fernet`]. [`clock`] and [`metrics`] are leaves that everything may
//! use; [`config`] alone reads the environment. `argon2id-simd`, a package of its
//! own in `crypto`, does the heavy part of [`crypto::password`]; all the `unsafe`
//! there is, is in it.
//!
//! Where a request goes: [`http`] names the routes, one file each. Where a key
//! comes from: [`domain::rotation`] asks [`lifecycle`] what is due.
#![warn(unreachable_pub)]

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod http;
pub mod lifecycle;
pub mod metrics;
pub mod store;
pub mod systemd;
