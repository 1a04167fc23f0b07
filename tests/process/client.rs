//! An HTTP/1.1 client small enough to send anything, from any loopback address.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::standstill::patiently;
use crate::support::{JSON, PATIENCE};

/// A connection that stays open between requests.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(addr: SocketAddr) -> Self {
        Self::from_address(addr, Ipv4Addr::LOCALHOST)
    }

    /// A connection that comes from `source`, any of 127.0.0.0/8.
    pub fn from_address(addr: SocketAddr, source: Ipv4Addr) -> Self {
        Self::try_from_address(addr, source).expect("a connection")
    }

    /// `None` when nobody listens.
    pub fn try_from_address(addr: SocketAddr, source: Ipv4Addr) -> Option<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::new(IpAddr::V4(source), 0).into())
            .unwrap();
        socket.connect(&addr.into()).ok()?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self {
            stream: BufReader::new(stream),
        })
    }

    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.write_request(method, path, headers, body);
        self.read_reply(method)
    }

    /// Sends a request without reading its answer.
    pub fn write_request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        self.write(&request(method, path, headers, body));
    }

    /// One request; `None` when the connection ends before its answer.
    pub fn try_send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Reply> {
        let request = request(method, path, headers, body);
        self.stream.get_mut().write_all(&request).ok()?;
        self.try_read_reply(method)
    }

    /// A sign-in or a sign-up; `None` when the connection ends before its answer.
    pub fn try_post(&mut self, path: &str, body: &[u8]) -> Option<Reply> {
        patiently(|| self.try_send("POST", path, &[JSON], body))
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub fn read_reply(&mut self, method: &str) -> Reply {
        self.try_read_reply(method).expect("an answer")
    }

    /// `None` when the connection ends before an answer.
    pub fn try_read_reply(&mut self, method: &str) -> Option<Reply> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
        };
        if method != "HEAD" && status != 204 && status != 304 {
            let length = reply.header("content-length").parse().unwrap_or(0);
            reply.body = vec![0; length];
            self.stream.read_exact(&mut reply.body).ok()?;
        }
        Some(reply)
    }

    /// Waits until the other side closes; the bytes that came before.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(e) if e.kind() != std::io::ErrorKind::ConnectionReset => {
                panic!("the connection is still open: {e}")
            }
            _ => rest,
        }
    }

    /// The next line without its end; `None` when the connection has ended.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(n) if n > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}
