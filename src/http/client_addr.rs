//! Address of a request's client: the peer's, or, behind a trusted proxy, the one
//! in `X-Forwarded-For`.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use crate::client_key::ClientKey;

/// Address at the other end of the connection, in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Address of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

impl ClientAddr {
    pub fn key(self) -> ClientKey {
        ClientKey::of(self.0)
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Networks whose `X-Forwarded-For` is believed.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// The log has a warning of a proxy that is not among them.
    warned_of_untrusted_proxy: AtomicBool,
}

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self {
            networks,
            warned_of_untrusted_proxy: AtomicBool::new(false),
        }
    }

    /// The client behind `peer`. The header is read from the right, where the
    /// nearest proxy wrote, up to the first hop that is not trusted: everything
    /// left of it may be forged by the client, and may be any bytes.
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> ClientAddr {
        let mut client = peer.0.to_canonical();
        if !self.trusts(client) {
            self.warn_of_untrusted_proxy(client, headers);
            return ClientAddr(client);
        }
        let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        for hop in lines.flat_map(|line| line.as_bytes().rsplit(|&b| b == b',')) {
            let Some(addr) = parse_hop(hop) else {
                break;
            };
            client = addr;
            if !self.trusts(client) {
                break;
            }
        }
        ClientAddr(client)
    }

    /// True when the log has a warning of a proxy that is not trusted.
    pub(super) fn has_warned(&self) -> bool {
        self.warned_of_untrusted_proxy.load(Ordering::Relaxed)
    }

    pub(super) fn trusts(&self, addr: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&addr))
    }

    /// One line in the life of the process, as any client can send these headers.
    fn warn_of_untrusted_proxy(&self, peer: IpAddr, headers: &HeaderMap) {
        let has_warned = || self.warned_of_untrusted_proxy.swap(true, Ordering::Relaxed);
        let has = |name| headers.contains_key(name);
        if (has(X_FORWARDED_FOR) || has(header::FORWARDED)) && !has_warned() {
            tracing::warn!(
                "a request from {peer} names another client in X-Forwarded-For or Forwarded, which is ignored: if {peer} is your proxy, add it to TRUSTED_PROXIES, or all of its clients share one quota"
            );
        }
    }
}

/// An address, perhaps in brackets, perhaps with a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let addr = hop
        .parse()
        .ok()
        .or_else(|| {
            hop.parse()
                .map(|with_port: std::net::SocketAddr| with_port.ip())
                .ok()
        })
        .or_else(|| {
            let inner = hop.strip_prefix('[')?.strip_suffix(']')?;
            inner.parse::<Ipv6Addr>().map(IpAddr::V6).ok()
        })?;
    Some(addr.to_canonical())
}
