//! Signed tokens (RFC 7515, RFC 7519), made by `jsonwebtoken` with keys that stay
//! parsed. Its own back ends parse the private key at every signature, which costs
//! three quarters of the speed, and it hands a back end bytes only: so [`sign`]
//! leaves the parsed key in a thread local, where the back end below takes it.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::signature::RsaKeyPair;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, aws_lc};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::rsa::{self, PrivateKey, SigningError};

thread_local! {
    static SIGNING_KEY: RefCell<Option<Arc<RsaKeyPair>>> = const { RefCell::new(None) };
}

static PROVIDER: LazyLock<CryptoProvider> = LazyLock::new(|| CryptoProvider {
    signer_factory: rs256,
    ..aws_lc::DEFAULT_PROVIDER.clone()
});

/// The process has one provider, set once. False when `jsonwebtoken` was used before
/// the first [`sign`], and so has taken one of its own.
static IS_INSTALLED: LazyLock<bool> =
    LazyLock::new(|| LazyLock::force(&PROVIDER).install_default().is_ok());

/// A JWT of `claims`, signed by RS256. The header names the key `kid`.
/// Slow: call it on a blocking thread.
pub fn sign(key: &PrivateKey, kid: &str, claims: &impl Serialize) -> Result<String, SigningError> {
    if !*IS_INSTALLED {
        let why = "jsonwebtoken has another provider already";
        return Err(SigningError(why.to_owned()));
    }
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(kid.to_owned());
    SIGNING_KEY.set(Some(key.pair()));
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_rsa_der(&[]))
        .map_err(|e| SigningError(e.to_string()))
}

struct Rs256(Arc<RsaKeyPair>);

fn rs256(algorithm: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    match (algorithm, SIGNING_KEY.take()) {
        (Algorithm::RS256, Some(pair)) => Ok(Box::new(Rs256(pair))),
        _ => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}

impl Signer<Vec<u8>> for Rs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        rsa::sign(&self.0, message).map_err(signature::Error::from_source)
    }
}

impl JwtSigner for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}
