//! The statements, a file for each table or two.

pub(super) mod accounts;
pub(super) mod key_admin;
pub(super) mod key_events;
pub(super) mod keys;

use super::Store;
use crate::store::{BadRow, StoreError};
use keys::KeyRow;
