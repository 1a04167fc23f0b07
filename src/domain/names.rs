//! User names and e-mail addresses, parsed.

use email_address::{EmailAddress, Options};
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;
use precis_profiles::{OpaqueString, UsernameCasePreserved};

/// Longest user name, bytes.
pub const MAX_USERNAME_LEN: usize = 128;
/// Longest address, bytes: RFC 5321 section 4.5.3.1.3, less the angle brackets.
pub const MAX_EMAIL_LEN: usize = 254;

/// A user name: RFC 8265 UsernameCasePreserved, 1 to 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

/// An e-mail address, its domain in lower case and in A-labels (RFC 5890).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    address: String,
    /// The same address with the domain in U-labels.
    unicode: String,
}

/// An invalid value in a request. The text is for the client and does not
/// repeat the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(super) &'static str);

impl Username {
    /// Normalises and checks a name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > 4 * MAX_USERNAME_LEN {
            return Err(Invalid("username is longer than 128 bytes"));
        }
        if text.is_empty() {
            return Err(Invalid("username is empty"));
        }
        let name = UsernameCasePreserved::enforce(text).map_err(|_| {
            Invalid(
                "username has characters that are not allowed: no spaces, control or invisible characters (RFC 8265)",
            )
        })?;
        if name.len() > MAX_USERNAME_LEN {
            return Err(Invalid("username is longer than 128 bytes"));
        }
        Ok(Self(name.into_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

/// Forms of a name under which its account is looked up, in this order: as it is, since
/// earlier servers have stored names that are refused today, and normalised.
pub fn lookup_forms(name: String) -> [String; 2] {
    let prepared = Username::parse(&name).map_or_else(|_| name.clone(), Username::into_string);
    [name, prepared]
}

impl Email {
    /// Normalises and checks an address.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid = Invalid("email is not an e-mail address");
        if text.is_empty() {
            return Err(Invalid("email is empty"));
        }
        if text.len() > MAX_EMAIL_LEN {
            return Err(Invalid("email is longer than 254 bytes"));
        }
        // The free-form class of RFC 8264: no control and no invisible characters.
        let text = OpaqueString::enforce(text).map_err(|_| WRONG)?;
        let options = Options::default()
            .without_display_text()
            .with_minimum_sub_domains(0);
        let parsed = EmailAddress::parse_with_options(&text, options).map_err(|_| WRONG)?;
        let (local, domain) = (parsed.local_part(), parsed.domain());
        let domain = if domain.starts_with('[') {
            domain.to_lowercase()
        } else {
            idna::domain_to_ascii(domain).map_err(|_| WRONG)?
        };
        Ok(Self {
            unicode: format!("{local}@{}", idna::domain_to_unicode(&domain).0),
            address: format!("{local}@{domain}"),
        })
    }

    /// The address as it is stored, and in U-labels, as it was stored once.
    pub fn into_forms(self) -> (String, String) {
        (self.address, self.unicode)
    }
}
