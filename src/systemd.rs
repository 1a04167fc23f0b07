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
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The manager's variables; all none when the service runs under no manager.
#[derive(Clone, Debug, Default)]
pub struct Supervision {
    /// `NOTIFY_SOCKET`: a path, or `@` and the name of an abstract socket.
    socket: Option<SocketAddr>,
    /// `WATCHDOG_USEC`: without a message for this long the manager restarts the
    /// process.
    watchdog: Option<Duration>,
}

impl Supervision {
    /// Reads the process environment.
    pub fn from_env() -> Self {
        Self::from_parts(|name| std::env::var_os(name), std::process::id())
    }

    fn from_parts(get: impl Fn(&str) -> Option<OsString>, process: u32) -> Self {
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
    async fn keep_alive(&self, watchdog: Duration) {
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
    async fn notify(&self, state: &str) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::lifecycle::PolicyParts;

    fn reporter() -> (Reporter, StdDatagram, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = StdDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let minute = Duration::from_secs(60);
        let reporter = Reporter {
            supervision: supervision(&[("NOTIFY_SOCKET", path.to_str().unwrap())]),
            keys: Arc::default(),
            policy: Policy::new(PolicyParts {
                key_lifetime: 4 * minute,
                token_lifetime: minute,
                lead: minute,
                skew: minute,
                retention: minute,
            })
            .unwrap(),
            clock: Arc::new(SystemClock::new()),
            heartbeat: Arc::default(),
        };
        (reporter, manager, dir)
    }

    fn supervision(variables: &[(&str, &str)]) -> Supervision {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Supervision::from_parts(get, 7)
    }

    fn received(manager: &StdDatagram) -> Vec<String> {
        let mut buf = [0; 256];
        let next = || {
            let length = manager.recv(&mut buf).ok()?;
            Some(String::from_utf8(buf[..length].to_vec()).unwrap())
        };
        std::iter::from_fn(next).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_key_it_is_never_ready() {
        let (reporter, manager, _dir) = reporter();
        let stop = CancellationToken::new();
        let running = tokio::spawn(reporter.run(stop.clone()));
        tokio::time::sleep(Duration::from_secs(600)).await;
        stop.cancel();
        running.await.unwrap();
        let messages = received(&manager);
        assert_eq!(
            messages,
            ["STOPPING=1\nSTATUS=answering the last requests\n"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_rotation_hangs_the_watchdog_is_told_nothing() {
        let (reporter, manager, _dir) = reporter();
        let heartbeat = Arc::clone(&reporter.heartbeat);
        let running = tokio::spawn(async move {
            reporter.keep_alive(Duration::from_secs(30)).await;
        });
        // At 0, 15, 30 and 45 seconds; then there was no beat for a minute.
        tokio::time::sleep(Duration::from_secs(605)).await;
        assert_eq!(received(&manager), ["WATCHDOG=1\n"; 4]);
        heartbeat.beat();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(received(&manager), ["WATCHDOG=1\n"]);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_that_does_not_read_delays_nothing_for_long() {
        let (reporter, _manager, _dir) = reporter();
        let began = tokio::time::Instant::now();
        for _ in 0..1000 {
            reporter.notify("WATCHDOG=1\n").await;
            if began.elapsed() >= SEND_TIMEOUT {
                assert!(began.elapsed() < 2 * SEND_TIMEOUT);
                return;
            }
        }
        panic!("the queue of a socket is longer than a thousand");
    }

    #[test]
    fn sockets_are_paths_or_abstract_names() {
        for (named, is_socket) in [
            ("/run/notify", true),
            ("@notify", true),
            ("vsock:2:1", false),
            ("notify", false),
            ("@", false),
            ("", false),
        ] {
            let found = supervision(&[("NOTIFY_SOCKET", named)]);
            let socket = found.socket.as_ref();
            assert_eq!(socket.is_some(), is_socket);
            let name = socket.and_then(SocketAddr::as_abstract_name);
            assert_eq!(name.is_some(), named == "@notify");
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let socket = ("NOTIFY_SOCKET", "/run/notify");
        let usec = ("WATCHDOG_USEC", "30000000");
        for (variables, seconds) in [
            (&[socket, usec][..], Some(30)),
            (&[socket, usec, ("WATCHDOG_PID", "7")], Some(30)),
            (&[socket, usec, ("WATCHDOG_PID", "8")], None),
            (&[socket, usec, ("WATCHDOG_PID", "x")], None),
            (&[socket, ("WATCHDOG_USEC", "0")], None),
            (&[usec], None),
        ] {
            let watchdog = supervision(variables).watchdog;
            assert_eq!(watchdog, seconds.map(Duration::from_secs), "{variables:?}");
        }
    }
}
