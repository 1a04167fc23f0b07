//! RSA keys. The `rsa` crate generates and reads them, since it is the fastest
//! at that; aws-lc-rs signs, since its private operations run in constant time
//! (those of `rsa` do not, see RUSTSEC-2023-0071). All of it is slow: call it
//! on a blocking thread.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use zeroize::Zeroizing;

use super::digest::sha256;

/// Size of a generated key.
const MODULUS_BITS: usize = 2048;
/// Sizes of keys that signatures are verified with. RFC 7518 section 3.3 sets
/// the minimum; larger keys would only cost time.
pub const CHECKED_BITS: RangeInclusive<usize> = 2048..=8192;

/// A private key, parsed once. `Debug` shows the public half only.
pub struct PrivateKey {
    pem: Zeroizing<String>,
    public: PublicKey,
    pair: Arc<RsaKeyPair>,
}

/// A public key as the JWK members of RFC 7518 section 6.3.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Modulus: base64url, no padding, no leading zero byte.
    pub n: String,
    /// Exponent, in the same encoding.
    pub e: String,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("not an RSA private key in PEM")]
    Unreadable,
    /// Too small for RS256 (RFC 7518 section 3.3), or inconsistent.
    #[error("not usable for RS256: {0}")]
    Unusable(String),
    /// No random numbers from the system, or a key that cannot be encoded.
    #[error("a key could not be made: {0}")]
    NotMade(String),
}

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
#[error("signing failed: {0}")]
pub struct SigningError(pub(super) String);

/// Source of new keys.
pub trait KeySource: Send + Sync + 'static {
    /// Slow: tens of milliseconds and more.
    fn generate(&self) -> Result<PrivateKey, KeyError>;
}

/// RSA keys of 2,048 bits from the system's random number generator.
#[derive(Debug, Clone, Copy)]
pub struct Rsa2048;

impl KeySource for Rsa2048 {
    fn generate(&self) -> Result<PrivateKey, KeyError> {
        let key = rsa::PrivateKey::new(&mut rand::rngs::SysRng, MODULUS_BITS)
            .map_err(|e| KeyError::NotMade(e.to_string()))?;
        PrivateKey::from_rsa(&key)
    }
}

impl PrivateKey {
    /// Reads a PEM file: PKCS#8, as this service writes it, or PKCS#1.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(pem).map_err(|_| KeyError::Unreadable)?;
        let key = rsa::PrivateKey::from_pkcs8_pem(text)
            .ok()
            .or_else(|| rsa::PrivateKey::from_pkcs1_pem(text).ok())
            .ok_or(KeyError::Unreadable)?;
        Self::from_rsa(&key)
    }

    /// The key as PKCS#8 PEM (RFC 7468 section 10). Secret: encrypt it before it
    /// is stored.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.pem.clone()
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature by RS256 (RFC 7518 section 3.3) over `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        sign(&self.pair, message)
    }

    pub(super) fn pair(&self) -> Arc<RsaKeyPair> {
        Arc::clone(&self.pair)
    }

    fn from_rsa(key: &rsa::PrivateKey) -> Result<Self, KeyError> {
        let not_made = |e: rsa::pkcs8::Error| KeyError::NotMade(e.to_string());
        let der = key.to_pkcs8_der().map_err(not_made)?;
        Ok(Self {
            pem: key.to_pkcs8_pem(LineEnding::LF).map_err(not_made)?,
            public: PublicKey {
                n: URL_SAFE_NO_PAD.encode(key.n().to_be_bytes_trimmed_vartime()),
                e: URL_SAFE_NO_PAD.encode(key.e().to_be_bytes_trimmed_vartime()),
            },
            // Refuses a modulus of under 2,048 bits.
            pair: RsaKeyPair::from_pkcs8(der.as_bytes())
                .map_err(|e| KeyError::Unusable(e.to_string()))?
                .into(),
        })
    }
}

pub(super) fn sign(pair: &RsaKeyPair, message: &[u8]) -> Result<Vec<u8>, SigningError> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message,
        &mut signature,
    )
    .map_err(|e| SigningError(e.to_string()))?;
    Ok(signature)
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.public).finish()
    }
}

impl PublicKey {
    /// The SHA-256 thumbprint of RFC 7638.
    pub fn thumbprint(&self) -> [u8; 32] {
        // Section 3.2: the required members in lexical order, no white space.
        // Base64url needs no escaping in JSON.
        let members = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, self.e, self.n);
        sha256(members.as_bytes())
    }

    /// Size of the modulus; `None` when a member is not base64url of a
    /// positive number.
    pub fn modulus_bits(&self) -> Option<usize> {
        let (n, _) = self.numbers()?;
        Some(n.len() * 8 - n[0].leading_zeros() as usize)
    }

    /// The same key with its numbers as RFC 7518 section 2 has them.
    pub fn without_leading_zeros(&self) -> Option<Self> {
        let (n, e) = self.numbers()?;
        Some(Self {
            n: URL_SAFE_NO_PAD.encode(n),
            e: URL_SAFE_NO_PAD.encode(e),
        })
    }

    /// Is the exponent odd and more than 1?
    pub fn has_fit_exponent(&self) -> bool {
        let is_fit = |e: &[u8]| e != [1] && e.last().is_some_and(|last| last % 2 == 1);
        self.numbers().is_some_and(|(_, e)| is_fit(&e))
    }

    /// True when `signature` is an RS256 signature over `message` by this key, whose
    /// size must be within [`CHECKED_BITS`].
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some((n, e)) = self.numbers() else {
            return false;
        };
        RsaPublicKeyComponents { n: &n, e: &e }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .is_ok()
    }

    /// Modulus and exponent without leading zero bytes, neither of them empty.
    fn numbers(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let number = |text: &str| {
            let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            bytes.drain(..zeros);
            (!bytes.is_empty()).then_some(bytes)
        };
        Some((number(&self.n)?, number(&self.e)?))
    }
}
