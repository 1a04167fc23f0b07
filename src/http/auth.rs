//! `POST /auth`: credentials in, a token out; with `?expired` an expired token,
//! signed by an expired key.

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, header, request::Parts};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde::Serialize;
use zeroize::Zeroizing;

use super::access_log::Caller;
use super::client_addr::ClientAddr;
use super::error::{ApiError, Challenge, NO_STORE};
use super::state::{AppState, SharedState};
use super::{body, quota};
use crate::domain::sign_in::Credentials;
use crate::domain::tokens::TokenKind;
use crate::metrics::{SignInOutcome, SignIns};

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
        // `route_layer` does not apply to the fallback: 405 comes before 429.
        post(auth)
            .route_layer(quota::layer(&state.auth_quota, state))
            .fallback(|| async { ApiError::MethodNotAllowed(METHODS) }),
    )
}

async fn auth(
    State(state): State<SharedState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, ApiError> {
    super::within_time(&caller.id, sign_in(state, caller.client, request)).await
}

async fn sign_in(
    state: SharedState,
    client: ClientAddr,
    request: Request,
) -> Result<Response, ApiError> {
    state.auth_quota.admit_everywhere(client).await?;
    let mut counted = Counted {
        sign_ins: &state.metrics.sign_ins,
        outcome: SignInOutcome::Abandoned,
    };
    let (parts, body) = request.into_parts();
    let kind = token_kind(&parts);
    let issued = issue(&state, client, &parts, body, kind).await;
    counted.outcome = match &issued {
        Ok(_) if kind == TokenKind::Expired => SignInOutcome::ExpiredToken,
        Ok(_) => SignInOutcome::Token,
        Err(e) => ApiError::sign_in_outcome(e),
    };
    Ok(token_response(issued?))
}

async fn issue(
    state: &AppState,
    client: ClientAddr,
    parts: &Parts,
    body: Body,
    kind: TokenKind,
) -> Result<String, ApiError> {
    let bytes = body::read(body).await?;
    let (credentials, challenge) = credentials(parts, &bytes)?;
    let sign_in = &state.sign_in;
    let issued = sign_in.token_for(credentials, kind, client.0, &*state.clock);
    issued
        .await
        .map_err(|e| ApiError::from_sign_in(e, challenge))
}

/// Counts a sign-in when it is dropped, since a request may be cancelled at any
/// `await`.
struct Counted<'a> {
    sign_ins: &'a SignIns,
    outcome: SignInOutcome,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.sign_ins.ended(self.outcome);
    }
}

fn token_response(token: String) -> Response {
    ([NO_STORE], Json(Issued { token })).into_response()
}

/// A body that has credentials takes precedence over a header.
fn credentials(parts: &Parts, body: &Bytes) -> Result<(Credentials, Challenge), ApiError> {
    let mut fields = (!body.is_empty())
        .then(|| body::parse(&parts.headers, body))
        .transpose()?;
    // Some clients send `{}` or `null` where they mean no body.
    let by_header = match &fields {
        Some(fields) if fields.have_credentials() => None,
        _ => basic(&parts.headers)?,
    };
    let (challenge, (username, password)) = match (by_header, &mut fields) {
        (Some(pair), _) => (Challenge::Basic, pair),
        (None, Some(fields)) => (Challenge::Body, (fields.username()?, fields.password()?)),
        (None, None) => return Err(ApiError::NoCredentials),
    };
    Ok((Credentials::new(username, password)?, challenge))
}

/// HTTP Basic (RFC 7617), in UTF-8; none for other schemes, which are ignored.
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

/// The parameter counts when present, with any value, once or often.
fn token_kind(parts: &Parts) -> TokenKind {
    let query = parts.uri.query().unwrap_or_default();
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
