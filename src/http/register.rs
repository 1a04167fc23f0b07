//! `POST /register`: a name and an address in, a password out.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::schema::Object;
use utoipa::openapi::{HttpMethod, PathItem, Required};

use super::auth;
use super::body;
use super::error::ApiError;
use super::openapi::{self, Answers, Text};
use super::state::SharedState;
use crate::domain::names::{Email, MAX_EMAIL_LEN, MAX_USERNAME_LEN, Username};

pub(super) const PATH: &str = "/register";
const METHODS: &str = "POST";

/// What the client must keep: the service does not.
#[derive(Serialize, ToSchema)]
pub(super) struct Registered<'a> {
    /// Shown once and kept nowhere.
    #[schema(format = "uuid")]
    password: &'a str,
}

pub(super) fn routes() -> Router<SharedState> {
    Router::new().route(
        PATH,
        post(register).fallback(|| async { ApiError::MethodNotAllowed(METHODS) }),
    )
}

async fn register(
    State(state): State<SharedState>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let bytes = body::read(&head.headers, body).await?;
    if bytes.is_empty() {
        return Err(ApiError::BadRequest(
            "the body is empty: send username and email".into(),
        ));
    }
    let mut fields = body::parse(&head.headers, &bytes)?;
    let username = Username::parse(&fields.username()?)?;
    let email = Email::parse(&fields.email()?)?;
    let password = state
        .accounts
        .sign_up(username, email, state.clock.now())
        .await?;
    tracing::info!("registered an account");
    Ok(show_once(&password))
}

fn show_once(password: &SecretString) -> Response {
    let shown = Registered {
        password: password.expose_secret(),
    };
    let no_store = HeaderValue::from_static("no-store");
    (
        StatusCode::CREATED,
        [(header::CACHE_CONTROL, no_store)],
        Json(shown),
    )
        .into_response()
}

/// The route as the service describes it.
pub(super) fn describe() -> PathItem {
    let sign_in = LinkBuilder::new()
        .operation_id(auth::OPERATION)
        .request_body(Some(serde_json::json!({
            "username": "$request.body#/username",
            "password": "$response.body#/password",
        })))
        .description("A token for the new account.");
    let answers = Answers::default()
        .json::<Registered<'_>>(
            &show_once(&SecretString::default()),
            "The account is on disk.",
            |it| it.link("signIn", sign_in.build()),
        )
        .errors(openapi::failures(METHODS))
        .errors([ApiError::Taken]);
    let operation = openapi::operation(Text {
        id: "register",
        summary: "Registers an account",
        description: "The service makes the password and does not keep it.",
    });
    let body = openapi::body(fields().0, Required::True);
    PathItem::new(
        HttpMethod::Post,
        operation.request_body(Some(body)).responses(answers),
    )
}

/// What it takes: as much of the rules as a schema can say.
pub(super) fn fields() -> (&'static str, Object) {
    let username = openapi::text(
        Some("username-case-preserved"),
        "RFC 8265 UsernameCasePreserved; at most 128 bytes in UTF-8 once normalised.",
    )
    .min_length(Some(1))
    .max_length(Some(MAX_USERNAME_LEN))
    .pattern(Some(r"^[^\s\x00-\x1f\x7f-\x9f]+$"));
    let email = openapi::text(
        Some("idn-email"),
        "RFC 6531, without a display name; at most 254 bytes in UTF-8.",
    )
    .min_length(Some(3))
    .max_length(Some(MAX_EMAIL_LEN));
    let both = openapi::fields([("username", username), ("email", email)]);
    ("NewAccount", both)
}
