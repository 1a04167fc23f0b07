//! Tokens: their claims, lifetime and signing key.

use std::sync::Arc;

use serde::Serialize;
use tokio::task::JoinError;

use super::key_ring::KeyRing;
use super::opened_key::OpenedKey;
use crate::clock::{Clock, UnixTime};
use crate::crypto::jwt;
use crate::crypto::rsa::SigningError;
use crate::lifecycle::{self, Policy};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    Live,
    /// Expired, and signed by an expired key: for tests of verifiers.
    Expired,
}

#[derive(Clone, Debug)]
pub struct TokenIssuer {
    keys: Arc<KeyRing>,
    policy: Policy,
    fixed: Arc<FixedClaims>,
}

#[derive(Debug)]
struct FixedClaims {
    issuer: Option<String>,
    audience: Option<Audience>,
}

/// The claim `aud`: a string, or several in an array (RFC 7519 section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    /// Reads a list separated by commas; none when it has no entry.
    pub fn parse(list: &str) -> Option<Self> {
        let entries = list.split(',').map(str::trim).filter(|it| !it.is_empty());
        let mut entries: Vec<_> = entries.map(str::to_owned).collect();
        if entries.len() > 1 {
            return Some(Self::Several(entries));
        }
        entries.pop().map(Self::One)
    }

    /// The first entry.
    pub fn first(&self) -> Option<&str> {
        match self {
            Self::One(entry) => Some(entry),
            Self::Several(entries) => entries.first().map(String::as_str),
        }
    }
}

/// Claims of a token (RFC 7519 section 4.1). No `nbf`.
#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a Audience>,
    iat: i64,
    exp: i64,
    jti: String,
}

/// A token, with what the record of the sign-in needs.
#[derive(Debug)]
pub struct IssuedToken {
    pub token: String,
    pub at: UnixTime,
    pub kind: TokenKind,
    pub key: Arc<OpenedKey>,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// None within a few seconds.
    #[error("no key can sign")]
    NoKey,
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error("signing failed: {0}")]
    Join(#[from] JoinError),
}

impl TokenIssuer {
    /// `issuer` and `audience` become the claims `iss` and `aud`.
    pub fn new(
        keys: Arc<KeyRing>,
        policy: Policy,
        issuer: Option<String>,
        audience: Option<Audience>,
    ) -> Self {
        Self {
            keys,
            policy,
            fixed: Arc::new(FixedClaims { issuer, audience }),
        }
    }

    /// Has this process never publish the key again; the database says so already.
    pub fn withdraw(&self, key: &OpenedKey) {
        self.keys.withdraw(key.kid());
    }

    pub async fn issue(
        &self,
        kind: TokenKind,
        subject: String,
        clock: &dyn Clock,
    ) -> Result<IssuedToken, TokenError> {
        let policy = self.policy;
        let found = self.keys.wait_for(clock, |snapshot, now| {
            match kind {
                TokenKind::Live => Some((snapshot.signing(&policy, now)?, now)),
                TokenKind::Expired => snapshot.expired(now, self.keys.reading(clock).earliest),
            }
            .map(|(key, at)| (Arc::clone(key), at))
        });
        let ((key, at), now) = found.await.ok_or(TokenError::NoKey)?;
        let fixed = Arc::clone(&self.fixed);
        let signer = Arc::clone(&key);
        let token = tokio::task::spawn_blocking(move || {
            let (iat, exp) = match kind {
                TokenKind::Live => lifecycle::token_times(signer.times(), &policy, at),
                TokenKind::Expired => lifecycle::expired_token_times(signer.times(), &policy, at),
            };
            sign(&signer, &fixed, &subject, iat, exp)
        })
        .await??;
        Ok(IssuedToken {
            token,
            at: now,
            kind,
            key,
        })
    }
}

fn sign(
    key: &OpenedKey,
    fixed: &FixedClaims,
    subject: &str,
    iat: UnixTime,
    exp: UnixTime,
) -> Result<String, SigningError> {
    let claims = Claims {
        iss: fixed.issuer.as_deref(),
        sub: subject,
        aud: fixed.audience.as_ref(),
        iat: iat.as_secs(),
        exp: exp.as_secs(),
        jti: uuid::Uuid::new_v4().to_string(),
    };
    jwt::sign(key.private(), &key.kid().to_string(), &claims)
}
