//! `GET /openapi.json`: the service described as OpenAPI 3.1. The file is written
//! by hand; `tests/api/openapi.rs` and `tests/openapi/run.py` fail when it and
//! the answers of the service differ.

use std::sync::Arc;

use axum::Router;

use super::public_document::static_document;
use super::state::SharedState;
use crate::domain::document::Document;

pub(super) const PATH: &str = "/openapi.json";
pub(super) const TEXT: &str = include_str!("../../openapi.json");

pub(super) fn routes() -> Router<SharedState> {
    Router::new().route(PATH, static_document(&Arc::new(Document::from_json(TEXT))))
}
