//! All the SQL. It sees sealed keys and password hashes, never a user's password, and no
//! private key but those that an earlier server left in the clear (`sqlite/take_over.rs`). This file and those named `_row` and `_change` have the types that the domain
//! sees, `engine.rs` the [`Store`], `sqlite/` and `postgres/` its methods, each of them
//! atomic. A method that changes keys reads their rows, calls a function of the domain that
//! decides, and writes its plan.

mod account_row;
mod copy;
mod engine;
mod error;
mod key_change;
mod key_row;
mod postgres;
mod sign_in_row;
mod sqlite;

use std::time::Duration;

use crate::clock::UnixTime;
pub use account_row::{
    AccountChange, AccountDetails, AccountFilter, AccountId, AccountRow, NewAccountRow, StateChange,
};
pub use copy::{Copied, CopyCallbacks, CopyError};
pub use engine::{Location, Store, copy};
pub use error::{BadRow, OpenError, StoreError};
use key_change::merged_events;
pub use key_change::{KeyChange, KeyEvent, KeyEventKind, KeySelection, NewAdoptedKey};
pub use key_row::{AdoptedRow, KeyRow, KeyRows, NewKey};
pub use postgres::{PgEnvironment, PostgresStore, ServerState, Target, UntrustedRole};
pub use sign_in_row::{Recorded, SignInFilter, SignInRecord, SignInRow};
pub use sqlite::SqliteStore;

/// Without an answer of PostgreSQL for this long a replica is cut off.
pub const CUT_OFF: Duration = Duration::from_secs(2);

/// Outcome of asking for a call under a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// One would be let in after this time.
    Wait(Duration),
}

/// Row of `service_settings` that is no setting: the longest `KEY_LIFETIME` that there
/// was, in seconds. The statements that select keys name it too.
const LONGEST_KEY_LIFETIME: &str = "longest_key_lifetime";
/// Row of `service_settings` that is no setting: rows were deleted whose bytes may be left
/// in the file.
const UNERASED: &str = "unerased";

/// The row of `service_settings` by which a write-ahead log is known to be its file's.
const WAL_MARK: &str = "wal_mark";
/// Events of deleted keys that are kept, the latest.
const KEPT_EVENTS: i64 = 10_000;

/// The schema of a database, compared with the one of this version.
#[derive(Debug)]
pub enum SchemaState {
    Current,
    /// The next start of the service makes the missing migrations.
    Older {
        has: usize,
        needs: usize,
    },
    /// A later version has made this step and perhaps more. Steps leave the schema usable
    /// for the version before them, as a rolling upgrade needs.
    Newer(String),
    /// The service would refuse it, for this reason.
    Unusable(OpenError),
}

/// State of a database, for commands that report on it.
#[derive(Debug)]
pub struct Inspection {
    /// Complaints of the database's own check; empty when it finds none.
    pub damages: Vec<String>,
    pub schema: SchemaState,
    /// All keys; without times when the schema is older than these.
    pub keys: KeyRows,
    /// Time of the latest sign-in that was recorded.
    pub last_sign_in: Option<UnixTime>,
}
