//! The file where an error becomes a status and a body: always `{"error": "..."}`,
//! written for the client, without internals and without an echo of the request. Only
//! what hyper refuses before there is a request gets its body in `server/stream.rs`.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::accounts::SignUpError;
use crate::domain::error::ServiceError;
use crate::domain::names::Invalid;
use crate::domain::sign_in::SignInError;
use crate::metrics::SignInOutcome;

/// The scheme of the challenge in a 401 (RFC 9110 section 11.6.1).
#[derive(Clone, Copy, Debug)]
pub(super) enum Challenge {
    Basic,
    /// For credentials in the body. At a challenge of Basic a browser opens its own
    /// login box over the page whose script has sent them.
    Body,
}

pub(super) const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
/// Header fields of an answer with an error.
const FIELDS: usize = 8;
/// `Retry-After` of a 503.
const RETRY_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) enum ApiError {
    /// 400.
    BadRequest(Cow<'static, str>),
    /// 401: neither a body nor an `Authorization` that is understood.
    NoCredentials,
    /// 401: unknown name or wrong password.
    BadCredentials(Challenge),
    /// 403: a browser sends it for a page of another origin.
    OtherOrigin,
    /// 404.
    NotFound,
    /// 405; the value of `Allow`.
    MethodNotAllowed(&'static str),
    /// 408: the body did not arrive in time.
    TooSlow,
    /// 409: the name or the address is taken.
    Taken,
    /// 412: `If-Match` names no entity tag of the document.
    NoMatch,
    /// 413; the limit in bytes.
    TooLarge(usize),
    /// 415: neither JSON nor a form.
    UnsupportedMediaType,
    /// 429; the time until the next request is admitted.
    TooManyRequests(Duration),
    /// 431: over 100 header fields, or over 16 KiB of target and fields.
    HeaderSectionTooLarge,
    /// 500; the cause is in the log.
    Internal,
    /// 501: a transfer coding other than `chunked`.
    UnknownTransferCoding,
    /// 503; the reason, and `Retry-After`.
    Unavailable(Cow<'static, str>, Duration),
    /// 503: the hash would not start within two seconds.
    Overloaded,
    /// 404 on the listener for metrics.
    OnlyMetrics,
}

impl ApiError {
    /// A 503 for a reason that may pass in a moment.
    pub(super) fn busy(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Unavailable(why.into(), RETRY_AFTER)
    }

    /// A sign-in that failed; a 401 has the challenge.
    pub(super) fn from_sign_in(error: SignInError, challenge: Challenge) -> Self {
        match error {
            SignInError::BadCredentials => Self::BadCredentials(challenge),
            SignInError::Service(e) => e.into(),
        }
    }

    /// Label of the failure in the metric of sign-ins.
    pub(super) fn sign_in_outcome(&self) -> SignInOutcome {
        match self {
            Self::BadCredentials(_) => SignInOutcome::BadCredentials,
            Self::Overloaded => SignInOutcome::Overloaded,
            Self::Unavailable(..) => SignInOutcome::Unavailable,
            Self::Internal => SignInOutcome::Failed,
            _ => SignInOutcome::Malformed,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NoCredentials | Self::BadCredentials(_) => StatusCode::UNAUTHORIZED,
            Self::OtherOrigin => StatusCode::FORBIDDEN,
            Self::NotFound | Self::OnlyMetrics => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Taken => StatusCode::CONFLICT,
            Self::NoMatch => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::HeaderSectionTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnknownTransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(..) | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::BadRequest(why) => return why.clone(),
            Self::NoCredentials => {
                "no credentials: send username and password as JSON, as a form or by HTTP Basic"
            }
            Self::BadCredentials(_) => "unknown username or wrong password",
            Self::OtherOrigin => "pages of another origin may not use this path",
            Self::NoMatch => "the document has another entity tag than those in If-Match",
            Self::NotFound => {
                "there is nothing at this path; see GET /.well-known/jwks.json, POST /register and POST /auth"
            }
            Self::MethodNotAllowed(allow) => {
                return format!("this path answers only {allow}").into();
            }
            Self::TooSlow => "the body did not arrive in time",
            Self::Taken => "the username or the email is already registered",
            Self::TooLarge(limit) => return format!("the body is over {limit} bytes").into(),
            Self::UnsupportedMediaType => {
                "send the body as application/json or application/x-www-form-urlencoded, without Content-Encoding"
            }
            Self::TooManyRequests(_) => {
                "too many calls from this address; wait as long as Retry-After says"
            }
            Self::HeaderSectionTooLarge => {
                "the header section is over 16 KiB or has over 100 fields"
            }
            Self::UnknownTransferCoding => "the only transfer coding is chunked",
            Self::Internal => "something went wrong on the server",
            Self::Overloaded => "too many passwords are being hashed at once",
            Self::OnlyMetrics => {
                "there is nothing at this path; see GET /metrics, or GET / for people"
            }
            Self::Unavailable(why, _) => return why.clone(),
        })
    }
}

#[derive(Serialize)]
struct Body {
    error: Cow<'static, str>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let text = serde_json::to_vec(&Body { error: self.text() }).unwrap_or_default();
        let mut response = Response::new(text.into());
        *response.status_mut() = self.status();
        // A flood of refusals is made of this: room for all fields at once.
        *response.headers_mut() = HeaderMap::with_capacity(FIELDS);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        // Or a cache could give one client's 431 or 404 to others.
        let (name, value) = NO_STORE;
        response.headers_mut().insert(name, value);
        let (name, value) = match self {
            Self::NoCredentials => (header::WWW_AUTHENTICATE, challenge(Challenge::Basic)),
            Self::BadCredentials(scheme) => (header::WWW_AUTHENTICATE, challenge(scheme)),
            Self::MethodNotAllowed(allow) => (header::ALLOW, HeaderValue::from_static(allow)),
            Self::TooManyRequests(wait) | Self::Unavailable(_, wait) => {
                (header::RETRY_AFTER, whole_seconds(wait).into())
            }
            Self::Overloaded => (header::RETRY_AFTER, whole_seconds(RETRY_AFTER).into()),
            Self::TooSlow => (header::CONNECTION, HeaderValue::from_static("close")),
            _ => return response,
        };
        response.headers_mut().insert(name, value);
        response
    }
}

fn challenge(scheme: Challenge) -> HeaderValue {
    HeaderValue::from_static(match scheme {
        Challenge::Basic => r#"Basic realm="jwks-server", charset="UTF-8""#,
        Challenge::Body => r#"Body realm="jwks-server""#,
    })
}

/// Rounded up, at least 1, so that a client does not come back too early.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    let part = u64::from(wait.subsec_nanos() > 0);
    (wait.as_secs() + part).max(1)
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::BadRequest(invalid.to_string().into())
    }
}

impl From<SignUpError> for ApiError {
    fn from(error: SignUpError) -> Self {
        match error {
            SignUpError::AlreadyExists => Self::Taken,
            SignUpError::Service(e) => e.into(),
        }
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        // A full queue is the load of the moment, which the metrics count; a
        // replaced database file is in the log already.
        if !matches!(
            error,
            ServiceError::Overloaded | ServiceError::DatabaseReplaced
        ) {
            tracing::error!("{error}");
        }
        match error {
            ServiceError::Overloaded => Self::Overloaded,
            ServiceError::NoMemory => Self::busy("there is not enough memory at the moment"),
            ServiceError::NoSigningKey => Self::busy("no key is ready to sign at the moment"),
            ServiceError::AccountContended => {
                Self::busy("the account is being changed: try again in a moment")
            }
            ServiceError::DatabaseUnavailable(_) | ServiceError::DatabaseReplaced => {
                Self::busy("the database is not available at the moment")
            }
            ServiceError::Internal(_) => Self::Internal,
        }
    }
}
