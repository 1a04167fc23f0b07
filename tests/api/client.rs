//! The address of a client behind proxies, whatever it writes into its headers.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use jwks_server::http::client_addr::{ClientAddr, Peer, TrustedProxies};
use proptest::prelude::*;

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
            headers.append("x-forwarded-for", HeaderValue::from_bytes(&line).unwrap());
        }
        let proxies = TrustedProxies::new(vec![network]);
        let found = proxies.client(Peer(trusted([0, 0, 1])), &headers);
        prop_assert_eq!(found, ClientAddr(client));
    }
}
