//! Encryption of private keys for the database, with Fernet. The timestamp of a
//! Fernet token is not used as a lifetime: a key lives as long as its row says.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Base64 as people paste it: without padding perhaps, and with bits in the last
/// character that Python's decoder drops.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Length of a key, bytes.
const KEY_LEN: usize = 32;

/// The key in the sample file of the earlier server, which is public.
const PUBLISHED_SAMPLE: &str = "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=";

/// The moment at which a token is opened, later than any timestamp in one: the
/// crate refuses tokens from the future, but a clock that was set back must not
/// make keys unreadable.
const AFTER_ALL: u64 = u64::MAX / 2;

/// The entries of `NOT_MY_KEY`: the first encrypts, each decrypts. Never empty.
pub struct SealingKeys(Vec<fernet::Fernet>);

/// Reasons for which a text is not a list of Fernet keys. Holds none of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealingKeyError {
    #[error("an entry is empty")]
    Empty,
    #[error("it is not url-safe base64")]
    NotBase64,
    #[error("it decodes to {0} bytes")]
    WrongLength(usize),
    #[error("it is a sample key that anyone can look up")]
    Published,
}

impl SealingKeys {
    /// Reads keys separated by commas: each 32 bytes in base64 of either
    /// alphabet (RFC 4648 sections 4 and 5), with or without padding. Both
    /// spellings of a key are the same key.
    pub fn parse(text: &str) -> Result<Self, SealingKeyError> {
        let keys = text.split(',').map(|entry| parse_one(entry.trim()));
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// A new key from the system's random number generator, as text.
    pub fn generate() -> Zeroizing<String> {
        Zeroizing::new(fernet::Fernet::generate_key())
    }

    /// Encrypts and authenticates `plain` under the first key.
    pub fn seal(&self, plain: &[u8]) -> Sealed {
        self.seal_under(0, plain)
    }

    /// The same under the key at `index`, as [`open_with_index`](Self::open_with_index)
    /// returns it; under the first when there is no such key.
    pub fn seal_under(&self, index: usize, plain: &[u8]) -> Sealed {
        let key = self.0.get(index).unwrap_or(&self.0[0]);
        Sealed(key.encrypt(plain).into_bytes())
    }

    /// Decrypts what any of the keys encrypted; `None` when none did, or it was changed.
    pub fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.open_with_index(sealed).map(|(_, plain)| plain)
    }

    /// The same, with the index of the key that fits; 0 is the key that encrypts.
    pub fn open_with_index(&self, sealed: &[u8]) -> Option<(usize, Zeroizing<Vec<u8>>)> {
        let token = std::str::from_utf8(sealed).ok()?;
        self.0.iter().enumerate().find_map(|(n, key)| {
            let plain = key.decrypt_at_time(token, None, AFTER_ALL).ok()?;
            Some((n, Zeroizing::new(plain)))
        })
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKeys({} keys, redacted)", self.0.len())
    }
}

/// Text of a Fernet token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

fn parse_one(entry: &str) -> Result<fernet::Fernet, SealingKeyError> {
    if entry.is_empty() {
        return Err(SealingKeyError::Empty);
    }
    let url_safe = Zeroizing::new(entry.replace('+', "-").replace('/', "_"));
    let bytes = URL_SAFE
        .decode(url_safe.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| SealingKeyError::NotBase64)?;
    if bytes.len() != KEY_LEN {
        return Err(SealingKeyError::WrongLength(bytes.len()));
    }
    let canonical = Zeroizing::new(URL_SAFE.encode(&*bytes));
    if canonical.as_str() == PUBLISHED_SAMPLE {
        return Err(SealingKeyError::Published);
    }
    fernet::Fernet::new(&canonical).ok_or(SealingKeyError::NotBase64)
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
    fn what_was_sealed_before_the_clock_was_set_back_opens() {
        let keys = SealingKeys::parse(&SealingKeys::generate()).unwrap();
        for sealed_at in [0, 1 << 33, 1 << 62] {
            let sealed = keys.0[0].encrypt_at_time(b"secret", sealed_at);
            assert_eq!(keys.open(sealed.as_bytes()).unwrap().as_slice(), b"secret");
        }
    }

    #[test]
    fn the_first_key_seals_and_each_opens_and_has_its_index() {
        let (new, old) = (SealingKeys::generate(), SealingKeys::generate());
        let both = SealingKeys::parse(&format!("{},{}", *new, *old)).unwrap();
        let [new, old] = [new, old].map(|key| SealingKeys::parse(&key).unwrap());
        for (sealed, index) in [
            (both.seal(b"secret"), 0),
            (both.seal_under(1, b"secret"), 1),
            (both.seal_under(2, b"secret"), 0),
        ] {
            let opened = both.open_with_index(&sealed.0);
            assert_eq!(opened, Some((index, Zeroizing::new(b"secret".to_vec()))));
            assert_eq!(new.open(&sealed.0).is_some(), index == 0);
            assert_eq!(old.open(&sealed.0).is_some(), index == 1);
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
