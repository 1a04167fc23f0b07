//! Rows of `auth_logs` and what is asked of them, for both engines.

use std::net::IpAddr;

use super::AccountId;
use crate::clock::UnixTime;
use crate::lifecycle::Kid;

/// A sign-in that is about to be answered with a token.
#[derive(Clone, Debug)]
pub struct SignInRecord {
    pub account: AccountId,
    /// The account's name as stored.
    pub username: String,
    /// The hash that the password was checked against.
    pub password_hash: String,
    pub client: IpAddr,
    pub at: UnixTime,
    /// Replaces an outdated hash.
    pub new_hash: Option<String>,
    /// Key of the token, if it may be the first that the key has signed.
    pub first_use: Option<Kid>,
    /// Kid and thumbprint of the key of an expired token, unless it is withdrawn already.
    pub withdraw: Option<[Kid; 2]>,
}

/// Outcome of recording a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Written,
    /// Nothing was written: the account was deleted or disabled, or its hash replaced, since
    /// it was read.
    AccountChanged,
}

/// A row of `auth_logs`, with the name of its account. Bytes that are no UTF-8 are
/// replaced, and times left out that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInRow {
    pub id: i64,
    pub at: Option<UnixTime>,
    /// The client's address.
    pub client: String,
    /// None once the account was deleted.
    pub account: Option<AccountId>,
    pub username: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct SignInFilter {
    pub account: Option<AccountId>,
    /// The client's address.
    pub client: Option<String>,
    /// Not before.
    pub since: Option<UnixTime>,
    /// Before.
    pub until: Option<UnixTime>,
    /// The order of the ids is turned round.
    pub newest_first: bool,
    /// Only rows that come after the one with this id.
    pub past: Option<i64>,
    pub limit: u32,
}
