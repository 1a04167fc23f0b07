//! A proxy between a server and PostgreSQL that fails on demand.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a transaction ends with, or is alone.
const COMMITS: [&[u8]; 2] = [b"COMMIT\0", b"record_sign_ins($1"];

/// What becomes of the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    None,
    /// Nothing passes either way, as when a network drops packets.
    Silence,
    /// A COMMIT passes, and the connection ends before its answer.
    CutAfterCommit,
    /// The connection ends before a COMMIT.
    CutBeforeCommit,
    /// The server's version is 12.
    OldVersion,
}

#[derive(Clone)]
pub struct Proxy {
    fault: Arc<AtomicU8>,
    pub port: u16,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            fault: Arc::default(),
            port: listener.local_addr().unwrap().port(),
        };
        let this = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(this.clone().pass(client, to));
            }
        });
        proxy
    }

    pub fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault.load(Ordering::SeqCst) == fault as u8
    }

    async fn pass(self, mut client: TcpStream, to: u16) -> io::Result<()> {
        let mut server = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], to))).await?;
        let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
        loop {
            tokio::select! {
                read = client.read(&mut up) => {
                    let sent = &mut up[..read?];
                    self.while_silent().await;
                    if self.is(Fault::OldVersion) {
                        replace(sent);
                    }
                    let is_commit = COMMITS.iter().any(|it| sent.windows(it.len()).any(|part| part == *it));
                    if sent.is_empty() || is_commit && self.is(Fault::CutBeforeCommit) {
                        return Ok(());
                    }
                    server.write_all(sent).await?;
                    if is_commit && self.is(Fault::CutAfterCommit) {
                        let _ = server.read(&mut down).await?;
                        return Ok(());
                    }
                }
                read = server.read(&mut down) => {
                    let sent = &down[..read?];
                    self.while_silent().await;
                    if sent.is_empty() {
                        return Ok(());
                    }
                    client.write_all(sent).await?;
                }
            }
        }
    }

    async fn while_silent(&self) {
        while self.is(Fault::Silence) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Has the server answer 12, in as many bytes.
fn replace(sent: &mut [u8]) {
    const ASKED: &[u8] = b"current_setting('server_version_num')";
    if let Some(at) = sent.windows(ASKED.len()).position(|part| part == ASKED) {
        let place = &mut sent[at..at + ASKED.len()];
        place.fill(b' ');
        place[..8].copy_from_slice(b"'120022'");
    }
}
