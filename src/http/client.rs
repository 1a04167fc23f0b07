//! Address of a request's client: the peer's, or, behind a trusted proxy, the one
//! in `X-Forwarded-For`.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Address at the other end of the connection, in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Address of the client. The access log puts it into the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

/// Key by which a quota counts clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(u128);

impl ClientAddr {
    /// An IPv6 client has a whole /64 to itself, so all of it counts as one.
    pub fn key(self) -> ClientKey {
        ClientKey(match self.0 {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
        })
    }
}

/// Networks whose `X-Forwarded-For` is believed.
#[derive(Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The client behind `peer`. The header is read from the right, where the
    /// nearest proxy wrote, up to the first hop that is not trusted: everything
    /// left of it may be forged by the client.
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> ClientAddr {
        let mut client = peer.0.to_canonical();
        if !self.trusts(client) {
            return ClientAddr(client);
        }
        let lines = headers.get_all("x-forwarded-for").into_iter().rev();
        for line in lines {
            let Ok(line) = line.to_str() else {
                return ClientAddr(client);
            };
            for hop in line.rsplit(',') {
                let Some(addr) = parse_hop(hop.trim()) else {
                    return ClientAddr(client);
                };
                client = addr;
                if !self.trusts(client) {
                    return ClientAddr(client);
                }
            }
        }
        ClientAddr(client)
    }

    pub(super) fn trusts(&self, addr: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&addr))
    }
}

/// An address, perhaps in brackets, perhaps with a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &str, peer: &str, forwarded: &[&str]) -> String {
        let nets = trusted.split_whitespace().map(|n| n.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let peer = Peer(peer.parse().unwrap());
        TrustedProxies::new(nets.collect())
            .client(peer, &headers)
            .0
            .to_string()
    }

    #[test]
    fn the_header_counts_only_from_trusted_peers_and_only_to_the_first_stranger() {
        for (trusted, peer, forwarded, expected) in [
            ("", "1.1.1.1", &["9.9.9.9"][..], "1.1.1.1"),
            ("10.0.0.0/8", "1.1.1.1", &["9.9.9.9"], "1.1.1.1"),
            ("10.0.0.0/8", "10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.0/8", "10.0.0.1", &["9.9.9.9"], "9.9.9.9"),
            ("10.0.0.0/8", "10.0.0.1", &["6.6.6.6, 9.9.9.9"], "9.9.9.9"),
            (
                "10.0.0.0/8",
                "10.0.0.1",
                &["6.6.6.6, 9.9.9.9, 10.0.0.2"],
                "9.9.9.9",
            ),
            (
                "10.0.0.0/8",
                "10.0.0.1",
                &["6.6.6.6", "9.9.9.9", "10.0.0.2"],
                "9.9.9.9",
            ),
            ("10.0.0.0/8", "10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            (
                "10.0.0.0/8",
                "10.0.0.1",
                &["9.9.9.9, junk, 10.0.0.2"],
                "10.0.0.2",
            ),
            ("10.0.0.0/8", "10.0.0.1", &["9.9.9.9:443"], "9.9.9.9"),
            (
                "10.0.0.0/8",
                "::ffff:10.0.0.1",
                &["[2001:db8::1]:443"],
                "2001:db8::1",
            ),
            ("::1/128", "::1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.0/8", "10.0.0.1", &["::ffff:9.9.9.9"], "9.9.9.9"),
        ] {
            assert_eq!(
                client(trusted, peer, forwarded),
                expected,
                "{peer} {forwarded:?}"
            );
        }
    }

    #[test]
    fn ipv6_counts_by_64_and_mapped_ipv4_as_ipv4() {
        let key = |addr: &str| ClientAddr(addr.parse::<IpAddr>().unwrap().to_canonical()).key();
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:1.2.3.4"), key("1.2.3.4"));
        assert_ne!(key("1.2.3.4"), key("1.2.3.5"));
    }
}
