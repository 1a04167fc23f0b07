//! Documents for everyone: each answers GET, HEAD and OPTIONS in the same way.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use utoipa::ToSchema;
use utoipa::openapi::link::{Link, LinkBuilder};
use utoipa::openapi::path::PathItemBuilder;
use utoipa::openapi::{HttpMethod, PathItem};

use super::answers::Answers;
use super::requests::{conditional, operation};
use crate::domain::key_ring::Document;
use crate::http::conditional_get::{ANY_ORIGIN, METHODS, answer, preflight};
use crate::http::error::ApiError;

/// What an operation is called and said to do.
#[derive(Clone, Copy)]
pub(in crate::http) struct Text<'a> {
    pub(in crate::http) id: &'a str,
    pub(in crate::http) summary: &'a str,
    pub(in crate::http) description: &'a str,
}

/// A document that is served with `conditional_get::answer` and `conditional_get::with_cors`.
pub(in crate::http) struct PublicDocument {
    text: Text<'static>,
    /// Adds the answer that has it.
    with_body: fn(Answers, &Response, Link) -> Answers,
    missing: Option<ApiError>,
}

impl PublicDocument {
    /// A document that is a `T` in JSON. The id is what its operations end in.
    pub(in crate::http) fn of<T: ToSchema>(text: Text<'static>) -> Self {
        Self {
            text,
            with_body: |answers, sample, again| {
                answers.json::<T>(sample, "The document.", |it| it.link("revalidate", again))
            },
            missing: None,
        }
    }

    /// It may also be answered so.
    pub(in crate::http) fn or(mut self, missing: ApiError) -> Self {
        self.missing = Some(missing);
        self
    }

    /// The same with another id, for a second path.
    pub(in crate::http) fn named(mut self, id: &'static str) -> Self {
        self.text.id = id;
        self
    }

    /// Its operations, with answers that carry this `Cache-Control`.
    pub(super) fn item(self, caching: &HeaderValue) -> PathItem {
        let text = self.text;
        let [get, head, options] =
            ["get", "head", "options"].map(|method| format!("{method}{}", text.id));
        let answers = self.answers(&get, caching);
        let preflight = Answers::default()
            .bare(&preflight(), "Leave for scripts on other pages.")
            .error_with(ANY_ORIGIN, ApiError::MethodNotAllowed(METHODS));
        let headless = conditional(Text { id: &head, ..text }).responses(answers.without_bodies());
        let whole = conditional(Text { id: &get, ..text }).responses(answers);
        let allowed = operation(Text {
            id: &options,
            summary: "What is allowed here",
            ..text
        });
        PathItemBuilder::new()
            .operation(HttpMethod::Get, whole)
            .operation(HttpMethod::Head, headless)
            .operation(HttpMethod::Options, allowed.responses(preflight))
            .build()
    }

    fn answers(self, operation: &str, caching: &HeaderValue) -> Answers {
        let sample = Document::new(&());
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static("*"))]);
        let whole = answer(&sample, &HeaderMap::new(), caching).map(Body::new);
        let unchanged = answer(&sample, &known, caching).map(Body::new);
        let again = LinkBuilder::new()
            .operation_id(operation)
            .parameter("header.if-none-match", "$response.header.etag")
            .description("304 as long as it has not changed.");
        let answers = (self.with_body)(Answers::default(), &whole, again.build())
            .bare(&unchanged, "The client has it: `If-None-Match` names it.")
            .error_with(ANY_ORIGIN, ApiError::MethodNotAllowed(METHODS));
        match self.missing {
            Some(missing) => answers.error_with(ANY_ORIGIN, missing),
            None => answers,
        }
    }
}
