//! RS256 for `jsonwebtoken` with keys that stay parsed. Its own back ends parse
//! the private key again at every signature, which costs three quarters of the
//! speed; its provider is one plain function for the whole process, so the
//! parsed keys live in a table here and an `EncodingKey` carries only the
//! number of its entry, never key material.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, aws_lc};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer};
use jsonwebtoken::{Algorithm, EncodingKey};

static PARSED: LazyLock<RwLock<HashMap<[u8; 8], Arc<RsaKeyPair>>>> = LazyLock::new(|| {
    // Only this module installs a provider, so the first call wins; were one
    // installed before, signing would fail loudly with an invalid key.
    let _ = PROVIDER.install_default();
    RwLock::default()
});

static NEXT: AtomicU64 = AtomicU64::new(0);

static PROVIDER: LazyLock<CryptoProvider> = LazyLock::new(|| CryptoProvider {
    signer_factory: kept_signer,
    ..aws_lc::DEFAULT_PROVIDER.clone()
});

/// A parsed key in the table; dropping it takes the entry out.
pub(super) struct KeptKey {
    number: [u8; 8],
    handle: EncodingKey,
}

impl KeptKey {
    /// Parses a private key in PKCS#8 DER of 2,048 bits or more, or says why not.
    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, String> {
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|e| e.to_string())?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        PARSED
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, Arc::new(pair));
        Ok(Self {
            number,
            handle: EncodingKey::from_rsa_der(&number),
        })
    }

    pub(super) fn encoding_key(&self) -> &EncodingKey {
        &self.handle
    }
}

impl Drop for KeptKey {
    fn drop(&mut self) {
        PARSED
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
    }
}

struct Rs256(Arc<RsaKeyPair>);

fn kept_signer(alg: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if *alg != Algorithm::RS256 {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let parsed = PARSED.read().unwrap_or_else(PoisonError::into_inner);
    match <[u8; 8]>::try_from(key.as_bytes()).map(|number| parsed.get(&number)) {
        Ok(Some(pair)) => Ok(Box::new(Rs256(Arc::clone(pair)))),
        _ => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}

impl Signer<Vec<u8>> for Rs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mut signed = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message,
                &mut signed,
            )
            .map_err(signature::Error::from_source)?;
        Ok(signed)
    }
}

impl JwtSigner for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::rsa::{KeySource as _, Rsa2048};

    #[test]
    fn a_key_signs_by_rs256_only_and_as_long_as_it_is_held() {
        let key = Rsa2048.generate().unwrap();
        let handle = key.encoding_key().clone();
        let sign = |alg| jsonwebtoken::crypto::sign(b"message", &handle, alg);
        assert!(sign(Algorithm::RS256).is_ok());
        let kind = sign(Algorithm::RS512).unwrap_err().into_kind();
        assert!(matches!(kind, ErrorKind::InvalidAlgorithm));
        drop(key);
        let kind = sign(Algorithm::RS256).unwrap_err().into_kind();
        assert!(matches!(kind, ErrorKind::InvalidKeyFormat));
    }
}
