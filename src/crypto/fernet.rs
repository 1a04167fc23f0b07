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
const FAR_FUTURE: u64 = u64::MAX / 2;

/// The entries of `NOT_MY_KEY`: the first encrypts, each decrypts. Never empty.
pub struct SealingKeys(Vec<fernet::Fernet>);

/// True when `entry` is a key that nobody gets from a random number generator: few
/// bytes over and over, or bytes that count up.
pub fn is_guessable(entry: &str) -> bool {
    const FEW: usize = 8;
    let Ok(bytes) = decode(entry.trim()) else {
        return false;
    };
    let mut distinct = bytes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let counts_up = bytes.windows(2).all(|two| two[1] == two[0].wrapping_add(1));
    distinct.len() <= FEW || counts_up
}

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

    /// Encrypts and authenticates `plain` under the first key: the text of a Fernet token.
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        self.seal_under(0, plain)
    }

    /// The same under the key at `index`, as [`open_with_index`](Self::open_with_index)
    /// returns it; under the first when there is no such key.
    pub fn seal_under(&self, index: usize, plain: &[u8]) -> Vec<u8> {
        let key = self.0.get(index).unwrap_or(&self.0[0]);
        key.encrypt(plain).into_bytes()
    }

    /// Decrypts what any of the keys encrypted; `None` when none did, or it was changed.
    pub fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.open_with_index(sealed).map(|(_, plain)| plain)
    }

    /// The same, with the index of the key that fits; 0 is the key that encrypts.
    pub fn open_with_index(&self, sealed: &[u8]) -> Option<(usize, Zeroizing<Vec<u8>>)> {
        let token = std::str::from_utf8(sealed).ok()?;
        self.0.iter().enumerate().find_map(|(n, key)| {
            let plain = key.decrypt_at_time(token, None, FAR_FUTURE).ok()?;
            Some((n, Zeroizing::new(plain)))
        })
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKeys({} keys, redacted)", self.0.len())
    }
}

fn decode(entry: &str) -> Result<Zeroizing<Vec<u8>>, SealingKeyError> {
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
    Ok(bytes)
}

fn parse_one(entry: &str) -> Result<fernet::Fernet, SealingKeyError> {
    let bytes = decode(entry)?;
    let canonical = Zeroizing::new(URL_SAFE.encode(&*bytes));
    if canonical.as_str() == PUBLISHED_SAMPLE {
        return Err(SealingKeyError::Published);
    }
    fernet::Fernet::new(&canonical).ok_or(SealingKeyError::NotBase64)
}
