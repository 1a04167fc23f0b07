//! Sealing private keys for the database with Fernet. The timestamp inside a
//! Fernet token is never taken as a lifetime: a key lives as long as its row says.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Base64 as people paste it: padding may be lost, and the last character may
/// carry bits that Python's decoder drops.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Bytes of a key.
const KEY_LEN: usize = 32;

/// The key in the sample file of the earlier server: anyone can look it up.
const PUBLISHED_SAMPLE: &str = "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=";

/// The time that a token is opened at, after every time it may carry: the crate
/// refuses one from the future, and a clock that was put back must not lock the
/// keys that were sealed before.
const AFTER_ALL: u64 = u64::MAX / 2;

/// One or more Fernet keys: the first seals, every one opens.
pub struct SealingKeys {
    all: Vec<fernet::Fernet>,
    /// The bytes of the first.
    first: Zeroizing<[u8; KEY_LEN]>,
}

/// Why a text is not a list of Fernet keys. Never holds any of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealingKeyError {
    /// The text, or an entry between two commas, is empty.
    #[error("an entry is empty")]
    Empty,
    /// The entry is not base64 in either alphabet.
    #[error("it is not url-safe base64")]
    NotBase64,
    /// The entry decodes to another number of bytes than 32.
    #[error("it decodes to {0} bytes")]
    WrongLength(usize),
    /// The entry stands in public documentation.
    #[error("it is a sample key that anyone can look up")]
    Published,
}

impl SealingKeys {
    /// Reads keys separated by commas: each 32 bytes in base64 of either
    /// alphabet (RFC 4648 sections 4 and 5), with or without padding. Both
    /// spellings of a key are the same key.
    pub fn parse(text: &str) -> Result<Self, SealingKeyError> {
        let mut all = Vec::new();
        let mut first = None;
        for entry in text.split(',') {
            let (key, bytes) = parse_one(entry.trim())?;
            all.push(key);
            first.get_or_insert(bytes);
        }
        let first = first.ok_or(SealingKeyError::Empty)?;
        Ok(Self { all, first })
    }

    /// A key for something else than sealing, which stays the same as long as
    /// the first key does and says nothing about it.
    pub fn derive(&self, purpose: &str) -> hmac::Key {
        let own = hmac::Key::new(hmac::HMAC_SHA256, &*self.first);
        let derived = hmac::sign(&own, purpose.as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }

    /// A fresh key from the system's randomness, in the form [`parse`](Self::parse) reads.
    pub fn generate() -> Zeroizing<String> {
        Zeroizing::new(fernet::Fernet::generate_key())
    }

    /// Encrypts and authenticates `plain` under the first key.
    pub fn seal(&self, plain: &[u8]) -> Sealed {
        self.seal_under(0, plain)
    }

    /// The same under the key at a place that [`open_and_tell`](Self::open_and_tell)
    /// has named; under the first where there is none.
    pub fn seal_under(&self, place: usize, plain: &[u8]) -> Sealed {
        let key = self.all.get(place).unwrap_or(&self.all[0]);
        Sealed(key.encrypt(plain).into_bytes())
    }

    /// Opens what any of the keys sealed; `None` when none did or it was changed.
    pub fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.open_and_tell(sealed).map(|(_, plain)| plain)
    }

    /// The same, with the place of the key that opened it; 0 is the one that seals.
    pub fn open_and_tell(&self, sealed: &[u8]) -> Option<(usize, Zeroizing<Vec<u8>>)> {
        let token = std::str::from_utf8(sealed).ok()?;
        self.all.iter().enumerate().find_map(|(n, key)| {
            let plain = key.decrypt_at_time(token, None, AFTER_ALL).ok()?;
            Some((n, Zeroizing::new(plain)))
        })
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKeys({} keys, redacted)", self.all.len())
    }
}

/// What [`SealingKeys::seal`] made: the text of a Fernet token, safe to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The token's text.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

fn parse_one(entry: &str) -> Result<(fernet::Fernet, Zeroizing<[u8; KEY_LEN]>), SealingKeyError> {
    if entry.is_empty() {
        return Err(SealingKeyError::Empty);
    }
    let url_safe = Zeroizing::new(entry.replace('+', "-").replace('/', "_"));
    let bytes = URL_SAFE
        .decode(url_safe.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| SealingKeyError::NotBase64)?;
    let raw = <[u8; KEY_LEN]>::try_from(bytes.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| SealingKeyError::WrongLength(bytes.len()))?;
    let canonical = Zeroizing::new(URL_SAFE.encode(&*bytes));
    if canonical.as_str() == PUBLISHED_SAMPLE {
        return Err(SealingKeyError::Published);
    }
    let key = fernet::Fernet::new(&canonical).ok_or(SealingKeyError::NotBase64)?;
    Ok((key, raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_key_is_the_same_key() {
        let key = "-_-_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxw=";
        let sealed = SealingKeys::parse(key).unwrap().seal(b"secret");
        for spelling in [
            key.to_owned(),
            key.trim_end_matches('=').to_owned(),
            key.replace('-', "+").replace('_', "/"),
            format!("  {key} "),
            format!("{},{key}", SealingKeys::generate().as_str()),
        ] {
            let keys = SealingKeys::parse(&spelling).unwrap();
            assert_eq!(keys.open(&sealed.0).unwrap().as_slice(), b"secret");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_reason() {
        use SealingKeyError::*;
        for (text, reason) in [
            ("", Empty),
            (",", Empty),
            ("kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", WrongLength(24)),
            (
                "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
                WrongLength(33),
            ),
            ("b'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='", NotBase64),
            ("<paste-generated-fernet-key>", NotBase64),
            (PUBLISHED_SAMPLE, Published),
            ("g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl/XxhHHw", Published),
        ] {
            assert_eq!(SealingKeys::parse(text).unwrap_err(), reason, "{text}");
        }
    }

    #[test]
    fn what_was_sealed_before_the_clock_was_put_back_opens() {
        let keys = SealingKeys::parse(&SealingKeys::generate()).unwrap();
        for sealed_at in [0, 1 << 33, 1 << 62] {
            let sealed = keys.all[0].encrypt_at_time(b"secret", sealed_at);
            assert_eq!(keys.open(sealed.as_bytes()).unwrap().as_slice(), b"secret");
        }
    }

    #[test]
    fn the_first_key_seals_and_each_opens_and_is_told() {
        let (new, old) = (SealingKeys::generate(), SealingKeys::generate());
        let both = SealingKeys::parse(&format!("{},{}", *new, *old)).unwrap();
        let [new, old] = [new, old].map(|key| SealingKeys::parse(&key).unwrap());
        for (sealed, place) in [
            (both.seal(b"secret"), 0),
            (both.seal_under(1, b"secret"), 1),
            (both.seal_under(2, b"secret"), 0),
        ] {
            let opened = both.open_and_tell(&sealed.0);
            assert_eq!(opened, Some((place, Zeroizing::new(b"secret".to_vec()))));
            assert_eq!(new.open(&sealed.0).is_some(), place == 0);
            assert_eq!(old.open(&sealed.0).is_some(), place == 1);
        }
        assert_eq!(format!("{both:?}"), "SealingKeys(2 keys, redacted)");
    }

    #[test]
    fn a_changed_token_does_not_open() {
        let keys = SealingKeys::parse(&SealingKeys::generate()).unwrap();
        let mut sealed = keys.seal(b"secret").into_bytes();
        sealed[20] ^= 1;
        assert!(keys.open(&sealed).is_none());
    }
}
