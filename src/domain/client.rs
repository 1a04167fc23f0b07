//! Numbers of clients, by which quotas and queues distinguish them.

use std::net::IpAddr;

/// Number of the client at an address. An IPv6 client has a whole /64 to itself, so
/// all of it counts as one.
pub fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}
