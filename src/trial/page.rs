//! Answers of the issuer.

use std::time::Duration;

/// Answer to a request for the key set.
#[derive(Clone, Default)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) location: Option<String>,
    pub(super) delay: Duration,
    pub(super) body: String,
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
