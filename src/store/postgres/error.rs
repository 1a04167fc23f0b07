//! Errors of the driver and of the server, by SQLSTATE.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::store::{OpenError, StoreError};

pub(super) const GRANT_CREATE: &str = "grant the user CREATE and USAGE on the schema";
const TAKES_WRITES: &str = "it must be a primary that takes writes: name all hosts in DATABASE_URL";

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::UNIQUE_VIOLATION) => Self::AlreadyExists,
            Some(&SqlState::NO_DATA_FOUND) => Self::NoData(text(&error)),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::NotPermitted(text(&error)),
            Some(code) if is_passing(code) => Self::Unavailable(text(&error)),
            // The connection was lost, or could not be made.
            None if error.is_closed() || error.as_db_error().is_none() => {
                Self::Unavailable(text(&error))
            }
            _ => Self::Refused(text(&error)),
        }
    }
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        let advice = match error.code().map(SqlState::code) {
            Some("3D000") => "create it, or correct DATABASE_URL",
            Some("28000" | "28P01") => "correct the user in DATABASE_URL, or PGPASSWORD",
            Some("42501") => GRANT_CREATE,
            Some("25006") => TAKES_WRITES,
            Some(_) => "the log of PostgreSQL says more",
            None if error.as_db_error().is_none()
                && ["authentication", "password missing"]
                    .iter()
                    .any(|it| text(&error).contains(it)) =>
            {
                "set PGPASSWORD or PGPASSFILE"
            }
            None if text(&error).contains("does not allow writes") => TAKES_WRITES,
            None if text(&error).contains("certificate") => {
                "name the host as its certificate does, and the certificate of its authority in PGSSLROOTCERT"
            }
            None => {
                "check that PostgreSQL runs, that DATABASE_URL names its hosts, and that it speaks TLS or sslmode=disable is wanted"
            }
        };
        Self::Server(text(&error), advice)
    }
}

/// Is it a state of the server, which a later attempt may not meet?
fn is_passing(code: &SqlState) -> bool {
    // Connections, resources, an operator's intervention, the system, and the server itself.
    ["08", "53", "57", "58", "XX"]
        .iter()
        .any(|class| code.code().starts_with(class))
        || [
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
        ]
        .contains(code)
}

/// One line without a value of a row or a secret: the server's detail has those.
pub(super) fn text(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| match cause.to_string() {
        cause if text.contains(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}
