//! Which machine requests may reach: a stranger's document or redirection must not send them
//! to services on the loopback of the machine that the command runs on, nor a name whose
//! addresses change from one look to the next. Other addresses of this machine are not known,
//! and a proxy looks names up by itself.

use std::net::{SocketAddr, ToSocketAddrs as _};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::Authority;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Error, Proxy};

use super::authority;
use crate::domain::issuer;

/// Where the host of a URL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// On this machine, as its name says.
    NamedHere,
    /// On this machine, by all addresses of its name.
    Here,
    /// Elsewhere, also when one of its addresses leads here, which is not asked then.
    Elsewhere,
}

impl Side {
    pub(super) fn of(url: &str) -> Self {
        match is_on_this_machine(url) {
            true => Self::NamedHere,
            false => Self::by(resolved(url).into_iter().flatten()),
        }
    }

    fn by(found: impl Iterator<Item = SocketAddr>) -> Self {
        let mut found = found.peekable();
        match found.peek().is_some() && found.all(|addr| is_here(&addr)) {
            true => Self::Here,
            false => Self::Elsewhere,
        }
    }

    pub(super) fn has(self, addr: &SocketAddr) -> bool {
        self == Self::NamedHere || is_here(addr) == (self == Self::Here)
    }
}

/// Finds addresses of one side only. A host that is here may redirect elsewhere.
#[derive(Debug)]
pub(super) struct Sided {
    pub(super) side: Side,
    /// The URL that the side is of.
    pub(super) url: String,
    pub(super) resolver: DefaultResolver,
}

impl Resolver for Sided {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.resolver.resolve(uri, config, timeout)?;
        // The user's own choice, on whichever machine.
        let is_proxy = config.proxy().is_some_and(|proxy| is_at(proxy, uri));
        let is_other = uri.authority().map(Authority::as_str) != Some(authority(&self.url).1);
        if is_proxy || (is_other && self.side != Side::Elsewhere) {
            return Ok(found);
        }
        let mut kept = self.empty();
        let of_side = found.iter().filter(|addr| self.side.has(addr));
        of_side.for_each(|addr| kept.push(*addr));
        match (kept.is_empty(), self.side) {
            (false, _) => Ok(kept),
            (true, Side::Elsewhere) => Err(Error::Other("it leads to this machine".into())),
            (true, _) => Err(Error::Other("it leads away from this machine".into())),
        }
    }
}

fn is_at(proxy: &Proxy, uri: &Uri) -> bool {
    proxy.uri().authority() == uri.authority()
}

/// True when the name in `url` says so; it is not looked up.
pub(in crate::cli) fn is_on_this_machine(url: &str) -> bool {
    issuer::host(authority(url).1).is_some_and(issuer::is_loopback)
}

pub(super) fn resolved(url: &str) -> Result<impl Iterator<Item = SocketAddr> + use<>, String> {
    let uri: Uri = url.parse().map_err(|_| "it is not a URL".to_owned())?;
    let named = uri.scheme().zip(uri.authority());
    let name = named.and_then(|(scheme, at)| DefaultResolver::host_and_port(scheme, at));
    let name = name.ok_or("it has no host")?;
    name.to_socket_addrs().map_err(|e| e.to_string())
}

fn is_here(addr: &SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    // Linux connects the unspecified address to this machine.
    ip.is_loopback() || ip.is_unspecified()
}

#[cfg(test)]
#[path = "../../../tests/unit/fetch_side.rs"]
mod tests;
