//! `POST /register`: a user name and an e-mail address in, a password out.

use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use super::access_log::Caller;
use super::client_addr::ClientAddr;
use super::error::{ApiError, NO_STORE};
use super::state::SharedState;
use super::{body, quota};
use crate::domain::names::{Email, Username};

const PATH: &str = "/register";
const METHODS: &str = "POST";

#[derive(Serialize)]
struct Registered<'a> {
    /// Shown once and kept nowhere.
    password: &'a str,
}

pub(super) fn routes(state: &SharedState) -> Router<SharedState> {
    Router::new().route(
        PATH,
        // As for `/auth`, 405 comes before 429.
        post(register)
            .route_layer(quota::layer(&state.register_quota, state))
            .fallback(|| async { ApiError::MethodNotAllowed(METHODS) }),
    )
}

async fn register(
    State(state): State<SharedState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, ApiError> {
    super::within_time(&caller.id, sign_up(state, caller.client, request)).await
}

async fn sign_up(
    state: SharedState,
    client: ClientAddr,
    request: Request,
) -> Result<Response, ApiError> {
    state.register_quota.admit_everywhere(client).await?;
    let (parts, body) = request.into_parts();
    let bytes = body::read(body).await?;
    if bytes.is_empty() {
        return Err(ApiError::BadRequest(
            "the body is empty: send username and email".into(),
        ));
    }
    let mut fields = body::parse(&parts.headers, &bytes)?;
    let username = Username::parse(&fields.username()?)?;
    let email = Email::parse(&fields.email()?)?;
    let password = state
        .accounts
        .sign_up(username, email, client.0, state.clock.now())
        .await?;
    tracing::info!("registered an account");
    Ok(password_response(&password))
}

fn password_response(password: &SecretString) -> Response {
    let shown = Registered {
        password: password.expose_secret(),
    };
    (StatusCode::CREATED, [NO_STORE], Json(shown)).into_response()
}
