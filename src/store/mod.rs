//! All the SQL. It sees sealed keys and password hashes, never a private key or
//! a password.

mod sqlite;

pub use sqlite::{
    AccountId, AccountRow, Inspection, KeyEvent, KeyEventKind, KeyRow, NewAccountRow,
    OpenError, Reseal, Resealed, SchemaState, SignInRecord, Store, StoreError,
};
