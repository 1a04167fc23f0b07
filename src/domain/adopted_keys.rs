//! Public keys of another issuer, published beside our own until their tokens have
//! expired: read from its key set, sealed, opened. `snapshot` publishes them; nothing
//! signs with them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::bad_key::BadKey;
use crate::clock::UnixTime;
use crate::crypto::curves::is_point;
use crate::crypto::digest::sha256;
use crate::crypto::fernet::SealingKeys;
use crate::crypto::rsa::{CHECKED_BITS, PublicKey};
use crate::crypto::{SECRET_MEMBERS, jwk_text};
use crate::lifecycle::AdoptedTimes;
use crate::store::{AdoptedRow, NewAdoptedKey};

/// Adopted keys that are published at once.
pub const MAX_ADOPTED: usize = 8;
/// Bytes.
const MAX_KID: usize = 512;
/// Bytes of a key in the set; one of RSA with 8,192 bits has 1,500. Eight of this size leave
/// a set that all verifiers read: some stop at 50 KiB.
const MAX_MEMBERS: usize = 4096;
/// Members that are published as they are, beside those of the key's type; others are left
/// out.
const MEMBERS: [&str; 7] = ["alg", "key_ops", "kid", "kty", "use", "x5t", "x5t#S256"];

type Members = Map<String, Value>;

/// A public key for signatures, as another issuer publishes it.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicJwk {
    kid: String,
    /// SHA-256, by RFC 7638.
    thumbprint: [u8; 32],
    members: Members,
}

/// A key set, or a key of one, that is not adopted.
#[derive(Debug, thiserror::Error)]
pub enum UnfitSet {
    #[error("it is not a JSON object with an array \"keys\" of objects (RFC 7517 section 5)")]
    NotASet,
    #[error("it has no key")]
    Empty,
    #[error("it has {0} keys, and at most {MAX_ADOPTED} are adopted")]
    TooMany(usize),
    #[error("{0}: {1}")]
    Key(String, String),
}

/// Reads the keys of a key set, all of which must be fit.
pub fn parse(text: &[u8]) -> Result<Vec<PublicJwk>, UnfitSet> {
    let mut set: Members = serde_json::from_slice(text).map_err(|_| UnfitSet::NotASet)?;
    let Some(Value::Array(entries)) = set.remove("keys") else {
        return Err(UnfitSet::NotASet);
    };
    match entries.len() {
        0 => return Err(UnfitSet::Empty),
        // A set may hold thousands.
        n if n > MAX_ADOPTED => return Err(UnfitSet::TooMany(n)),
        _ => {}
    }
    let keys = entries.into_iter().map(|entry| match entry {
        Value::Object(members) => {
            let name = jwk_text(&members, "kid").map_or("a key without kid".to_owned(), named);
            let key = PublicJwk::new(members).and_then(PublicJwk::publishable);
            key.map_err(|why| UnfitSet::Key(name, why))
        }
        _ => Err(UnfitSet::NotASet),
    });
    keys.collect()
}

fn named(kid: &str) -> String {
    let start: String = kid.chars().take(64).collect();
    format!("key {start:?}")
}

impl PublicJwk {
    fn new(mut members: Members) -> Result<Self, String> {
        if let Some(name) = SECRET_MEMBERS
            .iter()
            .find(|name| members.contains_key(**name))
        {
            return Err(format!(
                "it has the secret member {name}: whoever fetched the set can sign; take the key out of use"
            ));
        }
        let kid = jwk_text(&members, "kid").unwrap_or_default().to_owned();
        // Text of PostgreSQL has no NUL.
        if kid.is_empty() || kid.len() > MAX_KID || kid.contains('\0') {
            return Err(format!(
                "its kid must be a string of 1 to {MAX_KID} bytes without NUL, or tokens cannot name it"
            ));
        }
        check_usage(&members)?;
        let thumbprint = thumbprint(&members)?;
        let of_type: &[&str] = match jwk_text(&members, "kty") {
            Some("RSA") => &["e", "n"],
            Some("EC") => &["crv", "x", "y"],
            _ => &["crv", "x"],
        };
        members.retain(|name, _| MEMBERS.contains(&&**name) || of_type.contains(&&**name));
        Ok(Self {
            kid,
            thumbprint,
            members,
        })
    }

    /// Leaves out hashes of certificates (RFC 7517 sections 4.8 and 4.9) that are none, and
    /// refuses `key_ops` of other types and large keys: verifiers may stumble over them.
    fn publishable(mut self) -> Result<Self, String> {
        for (name, size) in [("x5t", 20), ("x5t#S256", 32)] {
            let hash = jwk_text(&self.members, name).and_then(|it| URL_SAFE_NO_PAD.decode(it).ok());
            if hash.is_none_or(|hash| hash.len() != size) {
                self.members.remove(name);
            }
        }
        let operations = self.members.get("key_ops").and_then(Value::as_array);
        if operations.is_some_and(|all| !all.iter().all(Value::is_string)) {
            return Err("its key_ops must be strings".to_owned());
        }
        let written = serde_json::to_vec(&self.members).map_err(|e| e.to_string())?;
        match written.len() {
            0..=MAX_MEMBERS => Ok(self),
            size => Err(format!(
                "its public members have {size} bytes, and at most {MAX_MEMBERS} are published: verifiers stop reading large key sets"
            )),
        }
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// Its row, sealed with its end under an entry of `NOT_MY_KEY`.
    pub(super) fn sealed(
        &self,
        sealing_keys: &SealingKeys,
        entry: usize,
        until: UnixTime,
    ) -> NewAdoptedKey {
        let sealed = SealedMembers {
            adopted: self.members.clone(),
            until: until.as_secs(),
        };
        // Strings and numbers always have a JSON form.
        let plain = serde_json::to_vec(&sealed).unwrap_or_default();
        NewAdoptedKey {
            kid: self.kid.clone(),
            sealed: sealing_keys.seal_under(entry, &plain),
            until,
        }
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }
}

/// `use`, `key_ops` and `alg` (RFC 7517 sections 4.2 to 4.4) must be those of a key that
/// verifies signatures.
fn check_usage(members: &Members) -> Result<(), String> {
    if members.get("use").is_some_and(|it| *it != "sig") {
        return Err("its use must be sig: leave keys for encryption out".to_owned());
    }
    if let Some(operations) = members.get("key_ops") {
        let listed = operations.as_array();
        if !listed.is_some_and(|all| all.iter().any(|it| *it == "verify")) {
            return Err("its key_ops do not have verify".to_owned());
        }
    }
    let (kty, crv) = (jwk_text(members, "kty"), jwk_text(members, "crv"));
    let algorithms: &[&str] = match (kty, crv) {
        (Some("RSA"), _) => &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
        (Some("EC"), Some("P-256")) => &["ES256"],
        (Some("EC"), Some("P-384")) => &["ES384"],
        (Some("EC"), Some("P-521")) => &["ES512"],
        (Some("OKP"), Some("Ed25519")) => &["EdDSA", "Ed25519"],
        _ => {
            return Err(
                "it must be an RSA key, or one on P-256, P-384, P-521 or Ed25519".to_owned(),
            );
        }
    };
    let fits = |alg: &Value| alg.as_str().is_some_and(|alg| algorithms.contains(&alg));
    match members.get("alg").is_none_or(fits) {
        true => Ok(()),
        false => Err(format!("its alg must be {}", algorithms.join(" or "))),
    }
}

/// Checks the numbers as well. Those of RSA count without leading zeros, which some
/// issuers write, or one key had two thumbprints.
fn thumbprint(members: &Members) -> Result<[u8; 32], String> {
    let bytes = |name: &str, size: usize| {
        let decoded = jwk_text(members, name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        decoded
            .filter(|bytes| bytes.len() == size)
            .ok_or_else(|| format!("its {name} must be base64url of {size} bytes"))
    };
    let member = |name: &str| jwk_text(members, name).unwrap_or_default();
    let size = match member("crv") {
        _ if member("kty") == "RSA" => {
            return rsa_thumbprint(PublicKey {
                n: member("n").to_owned(),
                e: member("e").to_owned(),
            });
        }
        "P-384" => 48,
        "P-521" => 66,
        _ => 32,
    };
    let (crv, x) = (member("crv"), bytes("x", size)?);
    // RFC 7638 section 3.2, RFC 8037 appendix A.3; none of the values needs escaping.
    let required = match member("kty") {
        "EC" => {
            let y = bytes("y", size)?;
            if is_point(crv, &x, &y) != Some(true) {
                return Err("its point is not on its curve".to_owned());
            }
            format!(
                r#"{{"crv":"{crv}","kty":"EC","x":"{}","y":"{}"}}"#,
                member("x"),
                member("y")
            )
        }
        _ => format!(r#"{{"crv":"{crv}","kty":"OKP","x":"{}"}}"#, member("x")),
    };
    Ok(sha256(required.as_bytes()))
}

fn rsa_thumbprint(key: PublicKey) -> Result<[u8; 32], String> {
    let key = key
        .without_leading_zeros()
        .ok_or("its n and e must be base64url of numbers, without padding")?;
    let bits = key.modulus_bits().unwrap_or(0);
    if !CHECKED_BITS.contains(&bits) {
        return Err(format!(
            "it has {bits} bits and must have {} to {}",
            CHECKED_BITS.start(),
            CHECKED_BITS.end()
        ));
    }
    match key.has_fit_exponent() {
        true => Ok(key.thumbprint()),
        false => Err("its e must be odd and more than 1".to_owned()),
    }
}

/// JSON in the Fernet token of an adopted key.
#[derive(Deserialize, Serialize)]
struct SealedMembers {
    adopted: Members,
    until: i64,
}

/// An adopted key that was opened.
#[derive(Debug)]
pub struct AdoptedKey {
    row: AdoptedRow,
    /// The earlier of those in the row and under the seal.
    times: AdoptedTimes,
    jwk: PublicJwk,
}

impl AdoptedKey {
    pub fn open(row: &AdoptedRow, sealing_keys: &SealingKeys) -> Result<Self, BadKey> {
        let plain = sealing_keys.open(&row.sealed).ok_or(BadKey::NotOpened)?;
        let sealed: SealedMembers =
            serde_json::from_slice(&plain).map_err(|_| BadKey::NotAdopted)?;
        let jwk = PublicJwk::new(sealed.adopted).map_err(|_| BadKey::NotAdopted)?;
        if jwk.kid != row.kid {
            return Err(BadKey::WrongKid);
        }
        let until = row.times.until.min(UnixTime::from_secs(sealed.until));
        Ok(Self {
            row: row.clone(),
            times: AdoptedTimes { until, ..row.times },
            jwk,
        })
    }

    /// The same key as another row has it, which does not open here: its end is not
    /// taken, unless it is earlier.
    pub(super) fn with(&self, row: AdoptedRow) -> Self {
        let until = self.times.until.min(row.times.until);
        Self {
            times: AdoptedTimes { until, ..row.times },
            jwk: self.jwk.clone(),
            row,
        }
    }

    pub fn kid(&self) -> &str {
        &self.jwk.kid
    }

    pub fn times(&self) -> &AdoptedTimes {
        &self.times
    }

    pub(super) fn row(&self) -> &AdoptedRow {
        &self.row
    }

    pub(super) fn jwk(&self) -> &PublicJwk {
        &self.jwk
    }
}
