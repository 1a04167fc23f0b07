//! Sealed keys. The first byte says what the others are: the text of the column
//! as it is, a Fernet token less its signature, what is inside a good token, or
//! the text of `NOT_MY_KEY`. The private keys in the corpus were made for it.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jwks_server::clock::UnixTime;
use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::domain::opened_key::OpenedKey;
use jwks_server::lifecycle::{KeyTimes, Kid};
use jwks_server::store::KeyRow;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

static KEYS: LazyLock<SealingKeys> = LazyLock::new(|| SealingKeys::parse(KEY).unwrap());

pub fn run(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    match kind {
        b'c' => opens(data),
        b't' => opens(&signed(data)),
        b'p' => {
            let sealed = KEYS.seal(data);
            assert_eq!(KEYS.open(&sealed).unwrap().as_slice(), data);
            opens(&sealed);
        }
        b'k' => parses(data),
        _ => {}
    }
}

/// Opens a row with this in it.
fn opens(sealed: &[u8]) {
    for (kid, signs_from) in [(1, None), (1 << 40, Some(UnixTime::from_secs(0)))] {
        let times = KeyTimes {
            kid: Kid::from_row(kid),
            serial: 1,
            created_at: None,
            signs_from,
            expires_at: UnixTime::from_secs(1),
            revoked: false,
            withdrawn: false,
        };
        let row = KeyRow {
            times,
            sealed: sealed.to_vec(),
            is_of_earlier_server: true,
            exp_is_too_late: false,
            thumbprint_kid: None,
        };
        if let Ok(key) = OpenedKey::open(&row, &KEYS) {
            // Whatever it is, it is a key that can be published.
            let public = key.private().public();
            assert!(public.n.len() >= 342 && !public.e.is_empty());
        }
    }
}

/// A token with a good signature over these bytes, however little sense they make.
fn signed(data: &[u8]) -> Vec<u8> {
    let key = STANDARD.decode(KEY).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key[..16]);
    let tag = hmac::sign(&key, data);
    URL_SAFE.encode([data, tag.as_ref()].concat()).into_bytes()
}

fn parses(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(keys) = SealingKeys::parse(text) {
        let sealed = keys.seal(b"secret");
        assert_eq!(keys.open(&sealed).unwrap().as_slice(), b"secret");
        assert!(KEYS.open(&sealed).is_none() || text.contains("AAECAw"));
    }
}
