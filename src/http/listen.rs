//! Sockets: the addresses that a host name means, bound and listening.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

#[derive(Debug)]
pub struct Listeners {
    pub service: Vec<TcpListener>,
    /// Empty unless `METRICS_ADDR` is set.
    pub metrics: Vec<TcpListener>,
}

/// Listens on the sockets of [`bind`]. Must be called within a Tokio runtime.
pub fn listen(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let sockets = bind(host, port)?.into_iter();
    sockets.map(|socket| socket.listen(BACKLOG)).collect()
}

/// Binds sockets for `host`: an address, or a name, for each of its addresses.
/// `localhost` means both loopback addresses, as far as the machine has them.
/// Port 0 picks one port for all. Resolving a name blocks.
pub fn bind(host: &str, port: u16) -> io::Result<Vec<TcpSocket>> {
    let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
    if unbracketed.eq_ignore_ascii_case("localhost") {
        return bind_loopback(port);
    }
    let mut sockets = Vec::new();
    let mut port = port;
    for mut addr in (unbracketed, port).to_socket_addrs()? {
        addr.set_port(port);
        let socket = bind_one(addr)?;
        port = socket.local_addr()?.port();
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind_loopback(port: u16) -> io::Result<Vec<TcpSocket>> {
    /// A port that the system picks for IPv4 may be taken for IPv6.
    const TRIES: usize = 16;
    let mut tries = if port == 0 { TRIES } else { 1 };
    loop {
        tries -= 1;
        let v4 = bind_one(SocketAddr::from(([127, 0, 0, 1], port)))?;
        let both = v4.local_addr()?.port();
        match bind_one(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], both))) {
            Ok(v6) => return Ok(vec![v4, v6]),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Err(e),
            // A machine without IPv6.
            Err(_) => return Ok(vec![v4]),
        }
    }
}

fn bind_one(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}
