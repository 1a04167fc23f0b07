//! What a token says, for how long, and which key signs it.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;

use super::key_ring::{KeyRing, OpenedKey};
use crate::clock::{Clock, UnixTime};
use crate::lifecycle::{self, Policy};

/// Which token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// One that verifies.
    Live,
    /// One that is expired, of an expired key: for testing verifiers.
    Expired,
}

/// Issues tokens. Clones share the keys.
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    keys: Arc<KeyRing>,
    policy: Policy,
    names: Arc<Names>,
}

#[derive(Debug)]
struct Names {
    issuer: Option<String>,
    audience: Option<String>,
}

/// The claims of RFC 7519 section 4.1 that a token has. No `nbf`.
#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    iat: i64,
    exp: i64,
    jti: String,
}

/// A token and what is to be written down of it.
#[derive(Debug)]
pub struct IssuedToken {
    /// The compact form (RFC 7515 section 7.1).
    pub token: String,
    /// The moment it was made at.
    pub at: UnixTime,
    /// Its key, if it is a live token: an expired one is no use of a key.
    pub live_key: Option<Arc<OpenedKey>>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No key has come within a few seconds.
    #[error("no key is fit to sign")]
    NoKey,
    /// The signature could not be made.
    #[error("signing failed: {0}")]
    Signing(String),
}

impl TokenIssuer {
    /// An issuer whose tokens carry `iss` and `aud` where they are given.
    pub fn new(
        keys: Arc<KeyRing>,
        policy: Policy,
        issuer: Option<String>,
        audience: Option<String>,
    ) -> Self {
        Self {
            keys,
            policy,
            names: Arc::new(Names { issuer, audience }),
        }
    }

    /// Makes a signed token for `subject`.
    pub async fn issue(
        &self,
        kind: TokenKind,
        subject: String,
        clock: &dyn Clock,
    ) -> Result<IssuedToken, TokenError> {
        let policy = self.policy;
        let picked = self.keys.wait_for(clock, |snapshot, now| match kind {
            TokenKind::Live => snapshot.signing(&policy, now).cloned(),
            TokenKind::Expired => snapshot.last_expired(now).cloned(),
        });
        let (key, now) = picked.await.ok_or(TokenError::NoKey)?;
        let names = Arc::clone(&self.names);
        let live_key = (kind == TokenKind::Live).then(|| Arc::clone(&key));
        let token = tokio::task::spawn_blocking(move || {
            let (iat, exp) = match kind {
                TokenKind::Live => lifecycle::token_times(key.times(), &policy, now),
                TokenKind::Expired => lifecycle::expired_token_times(key.times(), &policy, now),
            };
            sign(&key, &names, &subject, iat, exp)
        })
        .await
        .map_err(|e| TokenError::Signing(e.to_string()))??;
        Ok(IssuedToken {
            token,
            at: now,
            live_key,
        })
    }
}

fn sign(
    key: &OpenedKey,
    names: &Names,
    subject: &str,
    iat: UnixTime,
    exp: UnixTime,
) -> Result<String, TokenError> {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(key.kid().to_string());
    let claims = Claims {
        iss: names.issuer.as_deref(),
        sub: subject,
        aud: names.audience.as_deref(),
        iat: iat.as_secs(),
        exp: exp.as_secs(),
        jti: uuid::Uuid::new_v4().to_string(),
    };
    jsonwebtoken::encode(&header, &claims, key.private().encoding_key())
        .map_err(|e| TokenError::Signing(e.to_string()))
}
