//! Answers of the issuer.

use std::time::Duration;

use serde_json::{Value, json};

use super::TrialError;

/// Answer to a request for the key set.
#[derive(Clone, Default)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) location: Option<String>,
    pub(super) delay: Duration,
    pub(super) body: String,
    /// Whether it is a document of an issuer, for anybody.
    pub(super) is_public: bool,
}

impl Page {
    pub(super) fn json(body: String) -> Self {
        Self {
            status: 200,
            content_type: "application/json".to_owned(),
            body,
            ..Self::default()
        }
    }

    pub(super) fn unavailable() -> Self {
        Self {
            status: 503,
            ..Self::default()
        }
    }
}

/// The answer to a request that was done.
pub(super) fn done(document: &Value) -> Page {
    Page::json(document.to_string())
}

/// The answer to a request that is refused.
pub(super) fn refused(status: u16, why: &str) -> Page {
    let page = done(&json!({ "error": why }));
    Page { status, ..page }
}

impl From<TrialError> for Page {
    fn from(error: TrialError) -> Self {
        refused(500, &error.to_string())
    }
}
