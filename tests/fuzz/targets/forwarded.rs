//! `X-Forwarded-For`, a line of it for each line of the input.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue};
use jwks_server::http::client_addr::{ClientAddr, Peer, TrustedProxies};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

pub fn run(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|&b| b == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", value);
        }
    }
    let net = |text: &str| text.parse().unwrap();
    let some = TrustedProxies::new(vec![net("10.0.0.0/8"), net("2001:db8::/32")]);
    let client = some.client(Peer(PEER), &headers);
    // One address has one spelling, or a client would have two quotas.
    assert_eq!(client.0.to_canonical(), client.0);
    let text = String::from_utf8_lossy(data);
    let is_sent = text
        .split(['\n', ','])
        .any(|hop| is_named(hop.trim(), client.0));
    assert!(client.0 == PEER || is_sent, "{client:?} came from nowhere");
    let nobody = TrustedProxies::default().client(Peer(PEER), &headers);
    assert_eq!(nobody, ClientAddr(PEER));
}

fn is_named(hop: &str, addr: IpAddr) -> bool {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let with_port = hop.parse().map(|with_port: SocketAddr| with_port.ip());
    [bare.parse().ok(), with_port.ok()]
        .into_iter()
        .flatten()
        .any(|named: IpAddr| named.to_canonical() == addr)
}
