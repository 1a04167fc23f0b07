//! A small JWT issuer: a JSON Web Key Set whose keys rotate by themselves,
//! accounts, and sign-in, on one SQLite file or on PostgreSQL.
//! ARCHITECTURE.md has the picture of the modules.
//!
//! `use` points down only; a test holds it so. [`config`], beside `domain`, is the
//! one reader of the environment and `.env`. [`store`] sees sealed keys and password hashes,
//! but for what an earlier server left in the clear; [`crypto`] sees no database: bytes in, bytes out. All `unsafe` is in the
//! package `crates/argon2id-simd`.
//!
//! A request: [`http::service()`], then one file for each route. A new key:
//! [`domain::rotation`], which asks [`lifecycle`] what is due.
#![warn(unreachable_pub)]

pub mod app;
pub mod cli;
pub mod client_key;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod http;
pub mod lifecycle;
pub mod metrics;
pub mod store;
pub mod systemd;
mod text;
pub mod trial;
