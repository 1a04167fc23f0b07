//! Address of a request's client: the peer's, or, behind a trusted proxy, the one
//! in `X-Forwarded-For`.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use crate::domain::client;

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
    pub fn key(self) -> ClientKey {
        ClientKey(client::number(self.0))
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Networks whose `X-Forwarded-For` is believed.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// A proxy that is not among them was told of in the log.
    is_other_told: AtomicBool,
}

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self {
            networks,
            is_other_told: AtomicBool::new(false),
        }
    }

    /// The client behind `peer`. The header is read from the right, where the
    /// nearest proxy wrote, up to the first hop that is not trusted: everything
    /// left of it may be forged by the client, and may be any bytes.
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> ClientAddr {
        let mut client = peer.0.to_canonical();
        if !self.trusts(client) {
            self.tell_of_other_proxy(client, headers);
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

    pub(super) fn trusts(&self, addr: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&addr))
    }

    /// One line in the life of the process, as any client can send these headers.
    fn tell_of_other_proxy(&self, peer: IpAddr, headers: &HeaderMap) {
        let is_told = || self.is_other_told.swap(true, Ordering::Relaxed);
        let has = |name| headers.contains_key(name);
        if (has(X_FORWARDED_FOR) || has(header::FORWARDED)) && !is_told() {
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

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

    /// Bytes that a header's value may have.
    fn junk() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8, Just(b',')];
        prop::collection::vec(byte, 0..40)
    }

    fn written(client: IpAddr, form: u8) -> String {
        match (client, form) {
            (IpAddr::V4(v4), 1) => format!("::ffff:{v4}"),
            (IpAddr::V4(v4), 2) => format!("{v4}:443"),
            (IpAddr::V6(v6), 1) => format!("[{v6}]"),
            (IpAddr::V6(v6), 2) => format!("[{v6}]:443"),
            _ => client.to_string(),
        }
    }

    proptest! {
        /// The proxies write on the right: the client's address, then their own.
        #[test]
        fn nothing_that_a_client_sends_hides_its_address(
            left in prop::collection::vec(junk(), 0..4),
            client in prop_oneof![
                any::<[u8; 4]>().prop_map(IpAddr::from),
                any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(bytes).to_canonical()),
            ],
            form in 0..3_u8,
            proxies in prop::collection::vec(any::<[u8; 3]>(), 0..3),
            is_own_line in any::<bool>(),
        ) {
            let trusted = |[a, b, c]: [u8; 3]| IpAddr::from([10, a, b, c]);
            let network: IpNet = "10.0.0.0/8".parse().unwrap();
            prop_assume!(!network.contains(&client));
            let mut lines = left;
            let hops = proxies.iter().map(|&p| trusted(p).to_string());
            let own = std::iter::once(written(client, form)).chain(hops);
            let own = own.collect::<Vec<_>>().join(", ").into_bytes();
            match lines.last_mut().filter(|_| !is_own_line) {
                Some(last) => last.extend([b", ", &own[..]].concat()),
                None => lines.push(own),
            }
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(&line).unwrap());
            }
            let proxies = TrustedProxies::new(vec![network]);
            let found = proxies.client(Peer(trusted([0, 0, 1])), &headers);
            prop_assert_eq!(found, ClientAddr(client));
        }
    }
}
