//! The issuer identifier (RFC 8414 section 2), as discovery needs it.

use std::net::{IpAddr, Ipv6Addr};

/// An https URL, or http on a loopback address; without query and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    url: String,
    /// Empty, or begins with a slash and does not end with one.
    path: String,
}

impl Issuer {
    /// The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(['?', '#']) {
            return Err("it must have no query and no fragment");
        }
        let (scheme, rest) = text.split_once("://").ok_or("it must be a URL")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let host = host(authority).ok_or("it must name a host, with no user before it")?;
        match scheme {
            "https" => {}
            "http" if is_loopback(host) => {}
            "http" => return Err("http is for loopback addresses only; use https"),
            _ => return Err("it must begin with https://"),
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.is_empty() && !path[1..].split('/').all(is_plain_segment) {
            return Err("its path may have letters, digits and -._~ between single slashes");
        }
        Ok(Self {
            url: text.to_owned(),
            path: path.to_owned(),
        })
    }

    /// The identifier as in `iss`.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    pub fn host(&self) -> Option<&str> {
        let (_, rest) = self.url.split_once("://")?;
        host(rest.split('/').next()?)
    }

    /// The path, without a slash at the end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        let url = self.url.strip_suffix('/').unwrap_or(&self.url);
        url.strip_suffix(&self.path).unwrap_or(url)
    }

    /// The URL of a path below the issuer, which begins with a slash.
    pub fn join(&self, below: &str) -> String {
        format!("{}{below}", self.url.trim_end_matches('/'))
    }
}

/// The host of an authority that is a host, or a host and a port.
pub fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let has_port = port.is_none_or(is_port);
    let is_host = match bracketed(host) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_label),
    };
    (has_port && is_host).then_some(host)
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

fn is_label(label: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    !label.is_empty() && label.chars().all(fine)
}

pub fn is_loopback(host: &str) -> bool {
    let unbracketed = bracketed(host).unwrap_or(host);
    unbracketed.eq_ignore_ascii_case("localhost")
        || unbracketed
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn is_plain_segment(segment: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    !matches!(segment, "" | "." | "..") && segment.chars().all(fine)
}
