//! A client as quotas and queues count it. Uses nothing of the service.

use std::net::IpAddr;

/// An IPv6 client has a whole /64 to itself, so all of it counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(u128);

impl ClientKey {
    /// Who uses the commands; no address has this key.
    pub const OPERATOR: Self = Self(1);

    pub fn of(addr: IpAddr) -> Self {
        Self(match addr {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
        })
    }

    pub fn to_bits(self) -> u128 {
        self.0
    }
}
