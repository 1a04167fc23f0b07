//! Rows of `users` and what is asked of them, for both engines.

use std::fmt;

use crate::clock::UnixTime;

/// The column `users.id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountId(pub(super) i64);

impl AccountId {
    pub fn from_row(id: i64) -> Self {
        Self(id)
    }

    pub fn as_i64(self) -> i64 {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Columns of `users` that sign-in needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    pub id: AccountId,
    pub username: String,
    /// PHC string; empty when the column holds no text.
    pub password_hash: String,
    pub is_disabled: bool,
}

/// All that operators see of an account. Bytes that are no UTF-8 are replaced, and times
/// left out that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountDetails {
    pub id: AccountId,
    pub username: String,
    pub email: Option<String>,
    pub password_hash: String,
    pub registered: Option<UnixTime>,
    pub last_sign_in: Option<UnixTime>,
    pub disabled: Option<StateChange>,
    /// Of an account that was disabled before and is not now.
    pub enabled: Option<StateChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    pub at: UnixTime,
    /// Always there for one that disabled the account.
    pub reason: Option<String>,
}

#[derive(Clone, Debug)]
pub struct AccountFilter {
    /// Of SQL's LIKE, for the name or the e-mail address.
    pub pattern: Option<String>,
    /// Only disabled accounts.
    pub disabled: bool,
    /// Only larger ids.
    pub after: i64,
    pub limit: u32,
}

#[derive(Clone, Debug)]
pub enum AccountChange {
    /// PHC string.
    SetHash(String),
    Disable {
        reason: String,
    },
    Enable {
        reason: Option<String>,
    },
    Delete {
        /// Or its rows of `auth_logs` stay, without the account.
        with_sign_ins: bool,
    },
}

#[derive(Clone, Debug)]
pub struct NewAccountRow {
    pub username: String,
    /// The address to store, and another form of it that nobody may have either.
    pub email: Option<(String, String)>,
    /// PHC string, or that of bcrypt.
    pub password_hash: String,
}
