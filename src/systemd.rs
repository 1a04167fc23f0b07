//! Messages to the service manager, as in sd_notify(3): ready, alive, stopping.
//! Sends nothing when `NOTIFY_SOCKET` is not set.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::key_ring::KeyRing;
use crate::domain::rotation::Heartbeat;
use crate::lifecycle::Policy;

/// Longest wait for a manager that does not read its messages.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The manager's variables; all none when the service runs under no manager.
#[derive(Clone, Debug, Default)]
pub struct Supervision {
    /// `NOTIFY_SOCKET`: a path, or `@` and the name of an abstract socket.
    pub socket: Option<SocketAddr>,
    /// `WATCHDOG_USEC`: without a message for this long the manager restarts the
    /// process.
    pub watchdog: Option<Duration>,
}

impl Supervision {
    /// Reads the process environment.
    pub fn from_env() -> Self {
        Self::from_parts(|name| std::env::var_os(name), std::process::id())
    }

    /// The same from variables that `get` returns, for the process of that number.
    pub fn from_parts(get: impl Fn(&str) -> Option<OsString>, process: u32) -> Self {
        let Some(named) = get("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let socket = match named.as_bytes() {
            [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name).ok(),
            path @ [b'/', ..] => SocketAddr::from_pathname(OsStr::from_bytes(path)).ok(),
            _ => None,
        };
        if socket.is_none() {
            tracing::warn!(
                "NOTIFY_SOCKET is neither a path nor a name after @; the service manager is told nothing"
            );
        }
        let number = |name| get(name)?.to_str()?.parse::<u64>().ok();
        // WATCHDOG_PID names another process when that one started this one.
        let is_for_this_process = get("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID").is_some_and(|pid| pid == u64::from(process));
        let micros = number("WATCHDOG_USEC").filter(|&micros| is_for_this_process && micros > 0);
        Self {
            watchdog: micros.map(Duration::from_micros),
            socket,
        }
    }
}

/// The task that sends the messages.
pub struct Reporter {
    pub supervision: Supervision,
    pub keys: Arc<KeyRing>,
    pub policy: Policy,
    pub clock: Arc<dyn Clock>,
    pub heartbeat: Arc<Heartbeat>,
}

impl Reporter {
    /// Reports until `stop`, and then that it stops. To be started when the
    /// service listens.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.report() => {}
        }
        self.notify("STOPPING=1\nSTATUS=answering the last requests\n")
            .await;
    }

    /// Does not return.
    async fn report(&self) {
        let signs = || {
            self.keys.wait_for(&*self.clock, |snapshot, now| {
                snapshot.signing(&self.policy, now).map(drop)
            })
        };
        while signs().await.is_none() {}
        self.notify("READY=1\nSTATUS=a key signs\n").await;
        match self.supervision.watchdog {
            Some(watchdog) => self.keep_alive(watchdog).await,
            None => std::future::pending().await,
        }
    }

    /// Sends keep-alive messages while the runtime and the rotation loop run.
    /// Does not return.
    pub async fn keep_alive(&self, watchdog: Duration) {
        loop {
            if self.heartbeat.hangs() {
                let silence = self.heartbeat.silence();
                tracing::error!("the key rotation has hung for {silence:?}");
            } else {
                self.notify("WATCHDOG=1\n").await;
            }
            tokio::time::sleep(watchdog / 2).await;
        }
    }

    /// Sends a message to the service manager. A failure is only logged.
    pub async fn notify(&self, state: &str) {
        let Some(socket) = &self.supervision.socket else {
            return;
        };
        let sent = tokio::time::timeout(SEND_TIMEOUT, send(socket, state)).await;
        if let Err(e) = sent.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            tracing::warn!("the service manager was not told {state:?}: {e}");
        }
    }
}

/// Connects for each message: the manager may have been restarted since the last.
async fn send(to: &SocketAddr, state: &str) -> io::Result<()> {
    let socket = StdDatagram::unbound()?;
    socket.connect_addr(to)?;
    socket.set_nonblocking(true)?;
    let socket = UnixDatagram::from_std(socket)?;
    socket.send(state.as_bytes()).await.map(drop)
}
