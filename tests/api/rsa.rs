//! RSA keys: their form, their signatures and their thumbprints.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwks_server::crypto::rsa::{KeySource as _, PrivateKey, PublicKey, Rsa2048};

use crate::long::times;

#[test]
fn keys_have_a_modulus_of_256_bytes_with_its_top_bit_set() {
    for _ in 0..times(10, 200) {
        let key = Rsa2048.generate().unwrap();
        let n = URL_SAFE_NO_PAD.decode(&key.public().n).unwrap();
        assert_eq!((key.public().n.len(), n.len()), (342, 256));
        assert!(n[0] >= 0x80);
        assert_eq!(key.public().e, "AQAB");
    }
}

#[test]
fn a_key_read_from_its_own_pem_is_the_same() {
    let key = Rsa2048.generate().unwrap();
    let again = PrivateKey::from_pem(key.to_pem().as_bytes()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(again.to_pem(), key.to_pem());
}

#[test]
fn only_the_public_half_is_shown() {
    let key = Rsa2048.generate().unwrap();
    let shown = format!("PrivateKey({:?})", key.public());
    assert_eq!(format!("{key:?}"), shown);
}

#[test]
fn the_size_of_a_modulus_excludes_leading_zeros() {
    for (n, e, bits) in [
        ("AQAB", "AQAB", Some(17)),
        ("AAEAAQ", "AQAB", Some(17)),
        ("_w", "AQAB", Some(8)),
        ("AAA", "AQAB", None),
        ("", "AQAB", None),
        ("AQAB", "AA", None),
        ("A+/B", "AQAB", None),
    ] {
        let (n, e) = (n.to_owned(), e.to_owned());
        assert_eq!(PublicKey { n, e }.modulus_bits(), bits);
    }
}

#[test]
fn a_signature_is_good_for_its_message_and_key_only() {
    let key = Rsa2048.generate().unwrap();
    let mut signature = key.sign(b"message").unwrap();
    let mut padded = vec![0];
    padded.extend(URL_SAFE_NO_PAD.decode(&key.public().n).unwrap());
    let padded = PublicKey {
        n: URL_SAFE_NO_PAD.encode(padded),
        ..key.public().clone()
    };
    assert!(key.public().verifies(b"message", &signature));
    assert!(padded.verifies(b"message", &signature));
    assert!(!key.public().verifies(b"massage", &signature));
    let other = Rsa2048.generate().unwrap();
    assert!(!other.public().verifies(b"message", &signature));
    signature[0] ^= 1;
    assert!(!key.public().verifies(b"message", &signature));
}

/// The example of RFC 7638 section 3.1.
#[test]
fn the_thumbprint_is_that_of_the_rfc() {
    let public = PublicKey {
        n: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw".into(),
        e: "AQAB".into(),
    };
    assert_eq!(
        URL_SAFE_NO_PAD.encode(public.thumbprint()),
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    );
}
