//! All the SQL. It sees sealed keys and password hashes, never a private key or
//! a password.

mod error;
mod sqlite;

pub use error::{BadRow, OpenError, StoreError};
pub use sqlite::{
    AccountId, AccountRow, Inspection, KeyEvent, KeyEventKind, KeyRow, NewAccountRow,
    Reseal, Resealed, SchemaState, SignInRecord, Store,
};
