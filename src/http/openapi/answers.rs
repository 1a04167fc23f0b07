//! The answers of an operation, described from answers that the code gives:
//! their statuses and headers are read off.

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use utoipa::ToSchema;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{self, Content, Ref, RefOr, Responses};

use crate::http::access_log::REQUEST_ID;
use crate::http::conditional_get::ANY_ORIGIN;
use crate::http::error::{ApiError, ErrorBody};

const NOT_FOUND: &str = "NotFound";
/// Headers that are the same wherever they are, described once.
const SHARED: [HeaderName; 5] = [
    REQUEST_ID,
    header::X_CONTENT_TYPE_OPTIONS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ETAG,
    header::RETRY_AFTER,
];
/// Not described: OpenAPI has the type elsewhere, and `Connection` belongs to the hop.
const LEFT_OUT: [HeaderName; 2] = [header::CONTENT_TYPE, header::CONNECTION];

/// The answers of one operation, each from a sample of it.
#[derive(Default)]
pub(in crate::http) struct Answers(Responses);

impl Answers {
    /// An answer whose body is a `T` in JSON.
    pub(in crate::http) fn json<T: ToSchema>(
        self,
        sample: &Response,
        meaning: &str,
        extend: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
    ) -> Self {
        let described = extend(described(sample, meaning).content("application/json", json::<T>()));
        self.insert(sample, described)
    }

    /// An answer without a body.
    pub(in crate::http) fn bare(self, sample: &Response, meaning: &str) -> Self {
        let described = described(sample, meaning);
        self.insert(sample, described)
    }

    /// Failures.
    pub(in crate::http) fn errors(self, errors: impl IntoIterator<Item = ApiError>) -> Self {
        errors.into_iter().fold(self, |answers, error| {
            let meaning = meaning(&error);
            answers.json::<ErrorBody<'_>>(&error.into_response(), meaning, |it| it)
        })
    }

    /// A failure that is sent with one more header.
    pub(in crate::http) fn error_with(
        self,
        header: (HeaderName, HeaderValue),
        error: ApiError,
    ) -> Self {
        let meaning = meaning(&error);
        let sample = ([header], error).into_response();
        self.json::<ErrorBody<'_>>(&sample, meaning, |it| it)
    }

    /// The same to a HEAD: no bodies.
    pub(in crate::http) fn without_bodies(&self) -> Responses {
        let mut responses = self.0.clone();
        for response in responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                response.content.clear();
                response.links.clear();
            }
        }
        responses
    }

    fn insert(mut self, sample: &Response, described: ResponseBuilder) -> Self {
        let status = sample.status().as_str().to_owned();
        self.0.responses.insert(status, described.into());
        self
    }
}

impl From<Answers> for Responses {
    fn from(answers: Answers) -> Self {
        answers.0
    }
}

fn described(sample: &Response, meaning: &str) -> ResponseBuilder {
    // What `observe` puts on every answer.
    let always = [&REQUEST_ID, &header::X_CONTENT_TYPE_OPTIONS];
    let response = always
        .into_iter()
        .fold(ResponseBuilder::new(), |response, name| {
            response.header_ref(name.as_str(), shared(name))
        });
    let own = sample.headers().iter();
    own.filter(|(name, _)| !LEFT_OUT.contains(name))
        .fold(response, |response, (name, value)| {
            if SHARED.contains(name) {
                response.header_ref(name.as_str(), shared(name))
            } else {
                response.header(name.as_str(), constant(value))
            }
        })
        .description(meaning)
}

fn json<T: ToSchema>() -> Content {
    Content::new(Some(Ref::from_schema_name(T::name())))
}

fn shared(name: &HeaderName) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// The headers that [`SHARED`] names.
pub(super) fn headers() -> BTreeMap<String, RefOr<Header>> {
    let seconds = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1));
    let described = [
        (
            REQUEST_ID,
            pattern("^[A-Za-z0-9._-]{1,64}$"),
            "That of the request, if it has a harmless one; the log has the same.",
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            one_of(&HeaderValue::from_static("nosniff")),
            "The type is as told.",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            one_of(&ANY_ORIGIN.1),
            "Scripts on other pages may read it.",
        ),
        (
            header::ETAG,
            pattern("^\"[0-9a-f]{32}\"$"),
            "Equal bytes have equal tags, also over restarts.",
        ),
        (
            header::RETRY_AFTER,
            seconds,
            "Seconds after which to try again.",
        ),
    ];
    described
        .into_iter()
        .map(|(name, schema, meaning)| {
            let header = required(schema).description(Some(meaning)).build();
            (name.to_string(), RefOr::T(header))
        })
        .collect()
}

/// A header that always has this value.
fn constant(value: &HeaderValue) -> Header {
    required(one_of(value)).build()
}

fn required(schema: impl Into<Object>) -> HeaderBuilder {
    let schema: Object = schema.into();
    // The model has no such member, but what is put in here is written as it is.
    let required = Extensions::from_iter([("required", true)]);
    HeaderBuilder::new()
        .schema(Some(schema))
        .extensions(Some(required))
}

fn one_of(value: &HeaderValue) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([value.to_str().unwrap_or_default()]))
}

fn pattern(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
}

/// What a path answers that is not described.
pub(super) fn unknown_path() -> BTreeMap<String, RefOr<openapi::Response>> {
    let answers = Answers::default().errors([ApiError::NotFound]);
    let described = answers.0.responses.into_values();
    described
        .map(|response| (NOT_FOUND.to_owned(), response))
        .collect()
}

fn meaning(error: &ApiError) -> &'static str {
    match error {
        ApiError::BadRequest(_) => {
            "A field or the body is malformed, missing, null, mistyped, given twice or not acceptable."
        }
        ApiError::BadCredentials => "Unknown username or wrong password, which look the same.",
        ApiError::NotFound | ApiError::OnlyMetrics => "No such path.",
        ApiError::MethodNotAllowed(_) => "For every method that `Allow` does not name.",
        ApiError::TooSlow => "The body is too slow.",
        ApiError::Taken => "The username or the email is taken.",
        ApiError::TooLarge(_) => "The body is too large.",
        ApiError::UnsupportedMediaType => {
            "The body is neither JSON nor a form, or has a Content-Encoding."
        }
        ApiError::TooManyRequests(_) => "Too many calls from this address.",
        ApiError::Internal => "A fault of the service; its log says which.",
        ApiError::Unavailable(..) | ApiError::Overloaded => {
            "Not at the moment: busy, no database, or no key."
        }
    }
}
