//! `POST /auth`: credentials in, a token out; with `?expired` one that is
//! expired, of an expired key.

use std::net::IpAddr;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, header, request::Parts};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde::Serialize;
use zeroize::Zeroizing;

use super::body;
use super::client::ClientAddr;
use super::error::ApiError;
use super::state::{AppState, SharedState};
use crate::domain::accounts::{Credentials, SignInError};
use crate::domain::tokens::TokenKind;
use crate::metrics::{SignIn, SignIns};

const PATH: &str = "/auth";
const METHODS: &str = "POST";

/// A JWT: RS256, `typ` JWT, `kid` of the key set; claims `sub`, `iat`, `exp`, `jti`,
/// and `iss` and `aud` where configured.
#[derive(Serialize)]
struct Issued {
    token: String,
}

pub(super) fn routes(state: &SharedState) -> Router<SharedState> {
    Router::new().route(
        PATH,
        // `route_layer` leaves the fallback alone: a wrong method is no sign-in.
        post(auth)
            .route_layer(state.quota.layer())
            .fallback(|| async { ApiError::MethodNotAllowed(METHODS) }),
    )
}

async fn auth(
    State(state): State<SharedState>,
    Extension(ClientAddr(client)): Extension<ClientAddr>,
    request: Request,
) -> Result<Response, ApiError> {
    let mut ending = Ending {
        sign_ins: &state.metrics.sign_ins,
        how: SignIn::Abandoned,
    };
    let (head, body) = request.into_parts();
    let kind = token_kind(&head);
    let outcome = sign_in(&state, client, kind, &head, body).await;
    ending.how = match &outcome {
        Ok(_) if kind == TokenKind::Expired => SignIn::ExpiredToken,
        Ok(_) => SignIn::Token,
        Err(e) => e.as_end_of_sign_in(),
    };
    outcome
}

/// Counts what became of a sign-in when it is over, also when it was cut off.
struct Ending<'a> {
    sign_ins: &'a SignIns,
    how: SignIn,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.sign_ins.ended(self.how);
    }
}

async fn sign_in(
    state: &AppState,
    client: IpAddr,
    kind: TokenKind,
    head: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let credentials = credentials(head, &body::read(&head.headers, body).await?)?;
    let name = credentials.username().to_owned();
    let note = |e: &SignInError| {
        if matches!(e, SignInError::BadCredentials) {
            tracing::info!(%client, username = ?shortened(&name), "sign-in refused");
        }
    };
    let verified = state.accounts.verify(credentials).await;
    let account = verified.inspect_err(note)?;
    let issued = state
        .tokens
        .issue(kind, account.username.clone(), &*state.clock)
        .await?;
    let user_id = account.id;
    let recorded = state.accounts.record(account, client, &issued).await;
    recorded.inspect_err(note)?;
    let token = issued.token;
    tracing::info!(%client, %user_id, "signed in");
    Ok(show(token))
}

fn show(token: String) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    ([(header::CACHE_CONTROL, no_store)], Json(Issued { token })).into_response()
}

/// A body beats a header; a scheme other than Basic is not for us.
fn credentials(head: &Parts, body: &Bytes) -> Result<Credentials, ApiError> {
    let (username, password) = if body.is_empty() {
        basic(&head.headers)?.ok_or_else(|| {
            ApiError::BadRequest(
                "no credentials: send username and password as JSON, as a form or by HTTP Basic"
                    .into(),
            )
        })?
    } else {
        let mut fields = body::parse(&head.headers, body)?;
        (fields.username()?, fields.password()?)
    };
    Ok(Credentials::new(username, password)?)
}

/// HTTP Basic (RFC 7617), in UTF-8.
fn basic(headers: &HeaderMap) -> Result<Option<(String, SecretString)>, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let Some((scheme, encoded)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let decoded = STANDARD.decode(encoded.trim()).ok().map(Zeroizing::new);
    decoded
        .and_then(|bytes| {
            let (name, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
            Some(Some((name.to_owned(), password.into())))
        })
        .ok_or_else(|| {
            ApiError::BadRequest(
                "the Basic credentials are not base64 of username:password in UTF-8".into(),
            )
        })
}

/// The parameter counts when it is there, with any value, once or often.
fn token_kind(head: &Parts) -> TokenKind {
    let query = head.uri.query().unwrap_or_default();
    let asked = query.split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_decode_str(name).eq(*b"expired")
    });
    if asked {
        TokenKind::Expired
    } else {
        TokenKind::Live
    }
}

/// Enough of a name to recognise it in the log, where it is escaped.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}
