//! The entries of `NOT_MY_KEY`, and what they open.

use jwks_server::crypto::fernet::{SealingKeyError, SealingKeys};
use zeroize::Zeroizing;

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
        assert_eq!(keys.open(&sealed).unwrap().as_slice(), b"secret");
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
        ("g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=", Published),
        ("g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl/XxhHHw", Published),
    ] {
        assert_eq!(SealingKeys::parse(text).unwrap_err(), reason, "{text}");
    }
}

#[test]
fn what_was_sealed_before_the_clock_was_set_back_opens() {
    let key = SealingKeys::generate();
    let keys = SealingKeys::parse(&key).unwrap();
    let key = ::fernet::Fernet::new(&key).unwrap();
    for sealed_at in [0, 1 << 33, 1 << 62] {
        let sealed = key.encrypt_at_time(b"secret", sealed_at);
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
        let opened = both.open_with_index(&sealed);
        assert_eq!(opened, Some((index, Zeroizing::new(b"secret".to_vec()))));
        assert_eq!(new.open(&sealed).is_some(), index == 0);
        assert_eq!(old.open(&sealed).is_some(), index == 1);
    }
    assert_eq!(format!("{both:?}"), "SealingKeys(2 keys, redacted)");
}

#[test]
fn a_changed_token_does_not_open() {
    let keys = SealingKeys::parse(&SealingKeys::generate()).unwrap();
    let mut sealed = keys.seal(b"secret");
    sealed[20] ^= 1;
    assert!(keys.open(&sealed).is_none());
}
