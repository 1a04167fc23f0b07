//! What a forger of tokens can do with a public key, and signatures by other
//! algorithms than the service's own: `trial` tries verifiers with them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::pkcs1::LineEnding;
use rsa::pkcs1::pem::encode_string;

use super::rsa::{PrivateKey, SigningError};

/// Signature by `alg`, one of the names of RFC 7518 section 3.1 that RSA keys have here.
pub fn sign_as(key: &PrivateKey, alg: &str, message: &[u8]) -> Result<Vec<u8>, SigningError> {
    let encoding: &'static dyn RsaEncoding = match alg {
        "RS256" => &RSA_PKCS1_SHA256,
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        other => return Err(SigningError(format!("no RSA algorithm {other}"))),
    };
    let pair = key.pair();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
        .map_err(|e| SigningError(e.to_string()))?;
    Ok(signature)
}

pub fn hmac_sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, message).as_ref().to_vec()
}

/// The public key as PKCS#1 (RFC 8017 section A.1.1).
pub fn pkcs1(key: &PrivateKey) -> Vec<u8> {
    key.pair().public_key().as_ref().to_vec()
}

/// The public key as `SubjectPublicKeyInfo` (RFC 5280 section 4.1).
pub fn spki(key: &PrivateKey) -> Result<Vec<u8>, SigningError> {
    let pair = key.pair();
    let der: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
    der.map(|der| der.as_ref().to_vec())
        .map_err(|e| SigningError(e.to_string()))
}

/// PEM (RFC 7468), with a line end after the last line.
pub fn pem(label: &str, der: &[u8]) -> Result<String, SigningError> {
    encode_string(label, LineEnding::LF, der).map_err(|e| SigningError(e.to_string()))
}

/// A certificate of version 1 that the key signed itself, for the years 2025 to 2049.
pub fn certificate(key: &PrivateKey) -> Result<Vec<u8>, SigningError> {
    // sha256WithRSAEncryption; the common name "trial".
    let algorithm = der(
        0x30,
        b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00",
    );
    let name = der(0x30, b"\x31\x0e\x30\x0c\x06\x03\x55\x04\x03\x0c\x05trial");
    let times = [&b"250101000000Z"[..], b"491231235959Z"].map(|time| der(0x17, time));
    let body = [
        der(2, &[1]),
        algorithm.clone(),
        name.clone(),
        der(0x30, &times.concat()),
        name,
        spki(key)?,
    ];
    let body = der(0x30, &body.concat());
    let signature = [&[0][..], &key.sign(&body)?].concat();
    Ok(der(0x30, &[body, algorithm, der(3, &signature)].concat()))
}

/// An element of DER of less than 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let skip = length.iter().take_while(|&&byte| byte == 0).count();
    let length = match &length[skip..] {
        [] => vec![0],
        [short @ ..0x80] => vec![*short],
        long @ [_] => [&[0x81], long].concat(),
        long => [&[0x82], long].concat(),
    };
    [&[tag], &length[..], content].concat()
}

/// `payload` as a JWE for the holder of the key (RFC 7516 section 7.1), with a header
/// that names `kid`.
pub fn encrypted(key: &PrivateKey, kid: &str, payload: &[u8]) -> Result<String, SigningError> {
    let failed = |_: Unspecified| SigningError("encryption".to_owned());
    let spki = spki(key)?;
    let public = PublicEncryptingKey::from_der(&spki).map_err(|e| SigningError(e.to_string()))?;
    let oaep = OaepPublicEncryptingKey::new(public).map_err(failed)?;
    let (mut secret, mut iv) = ([0; 32], [0; NONCE_LEN]);
    fill(&mut secret).map_err(failed)?;
    fill(&mut iv).map_err(failed)?;
    let mut wrapped = vec![0; oaep.ciphertext_size()];
    let wrapped = oaep
        .encrypt(&OAEP_SHA256_MGF1SHA256, &secret, &mut wrapped, None)
        .map_err(failed)?;
    let header = format!(r#"{{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"{kid}","typ":"JWT"}}"#);
    let header = URL_SAFE_NO_PAD.encode(header);
    let content = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).map_err(failed)?);
    let mut text = payload.to_vec();
    let nonce = Nonce::assume_unique_for_key(iv);
    let tag = content
        .seal_in_place_separate_tag(nonce, Aad::from(header.as_bytes()), &mut text)
        .map_err(failed)?;
    let parts = [&*wrapped, &iv, &text, tag.as_ref()].map(|part| URL_SAFE_NO_PAD.encode(part));
    Ok(format!("{header}.{}", parts.join(".")))
}
