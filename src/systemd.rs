//! Tells the service manager how the service fares (sd_notify(3)): when it is
//! ready, that it is alive, that it stops. Does nothing where nobody asks.

use std::ffi::OsString;
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

/// How long a message may wait for a manager that does not read.
const PATIENCE: Duration = Duration::from_secs(1);
/// A rotation that has not been heard of for so long hangs: it goes round twice
/// a second, and the longest that it does at a time is to wait for a lock on
/// the database and to make a key.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Where and how often to report; nowhere, when nobody asks.
#[derive(Clone, Debug, Default)]
pub struct Supervision {
    /// `NOTIFY_SOCKET`: a path, or a name after `@`.
    pub socket: Option<SocketAddr>,
    /// `WATCHDOG_USEC`: after so long without a sign of life the process is
    /// taken for hung.
    pub watchdog: Option<Duration>,
    /// What is worth a line in the log once there is one.
    pub notice: Option<String>,
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
        let number = |name| get(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = get("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID").is_some_and(|pid| pid == u64::from(process));
        let watchdog = number("WATCHDOG_USEC").filter(|&micros| is_ours && micros > 0);
        let socket = address(named.as_bytes());
        Self {
            notice: socket.is_none().then(|| {
                "NOTIFY_SOCKET is neither a path nor a name after @; the service manager is told nothing"
                    .to_owned()
            }),
            watchdog: watchdog.map(Duration::from_micros),
            socket,
        }
    }
}

fn address(named: &[u8]) -> Option<SocketAddr> {
    match named {
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(named)).ok(),
        _ => None,
    }
}

/// What is watched, and whom it is told.
pub struct Reporter {
    /// Who asks.
    pub supervision: Supervision,
    /// The keys, without which the service is not ready.
    pub keys: Arc<KeyRing>,
    /// The times that they follow.
    pub policy: Policy,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether the rotation goes round.
    pub heartbeat: Arc<Heartbeat>,
}

impl Reporter {
    /// Reports until `stop`, and that it stops. Call it when the service listens.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.report() => {}
        }
        self.tell("STOPPING=1\nSTATUS=answering what is under way\n")
            .await;
    }

    /// Does not end.
    async fn report(&self) {
        while self.first_key().await.is_none() {}
        self.tell("READY=1\nSTATUS=a key signs\n").await;
        match self.supervision.watchdog {
            Some(watchdog) => self.keep_alive(watchdog).await,
            None => std::future::pending().await,
        }
    }

    /// Signs of life, as long as the runtime goes on to here and the rotation
    /// goes round. Does not end.
    async fn keep_alive(&self, watchdog: Duration) {
        loop {
            let silence = self.heartbeat.silence();
            if silence < HANGS_AFTER {
                self.tell("WATCHDOG=1\n").await;
            } else {
                tracing::error!("the rotation of keys has hung for {silence:?}");
            }
            tokio::time::sleep(watchdog / 2).await;
        }
    }

    /// Waits for a key that signs, for some seconds at most.
    async fn first_key(&self) -> Option<()> {
        let signs = self.keys.wait_for(&*self.clock, |snapshot, now| {
            snapshot.signing(&self.policy, now).map(drop)
        });
        signs.await.map(drop)
    }

    /// A message that does not arrive is logged: the manager will act as it
    /// does towards a service that says nothing.
    async fn tell(&self, state: &str) {
        let Some(socket) = &self.supervision.socket else {
            return;
        };
        let sent = tokio::time::timeout(PATIENCE, send(socket, state)).await;
        if let Err(e) = sent.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            tracing::warn!("the service manager was not told {state:?}: {e}");
        }
    }
}

/// Each message goes over a socket of its own: the manager may have been
/// started anew since the last one.
async fn send(to: &SocketAddr, state: &str) -> io::Result<()> {
    let socket = StdDatagram::unbound()?;
    socket.connect_addr(to)?;
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)?
        .send(state.as_bytes())
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::{Config, Settings};
    use crate::crypto::fernet::SealingKeys;

    fn reporter() -> (Reporter, StdDatagram, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = StdDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let text = format!("NOT_MY_KEY={}", SealingKeys::generate().as_str());
        let settings = Settings::from_parts(HashMap::new(), Some(&text)).unwrap();
        let reporter = Reporter {
            supervision: Supervision {
                socket: Some(SocketAddr::from_pathname(path).unwrap()),
                ..Supervision::default()
            },
            keys: Arc::default(),
            policy: Config::from_settings(&settings).unwrap().policy,
            clock: Arc::new(SystemClock::new()),
            heartbeat: Arc::default(),
        };
        (reporter, manager, dir)
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
        let said = received(&manager);
        assert_eq!(said, ["STOPPING=1\nSTATUS=answering what is under way\n"]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_rotation_hangs_there_are_no_signs_of_life() {
        let (reporter, manager, _dir) = reporter();
        let heartbeat = Arc::clone(&reporter.heartbeat);
        let running = tokio::spawn(async move {
            reporter.keep_alive(Duration::from_secs(30)).await;
        });
        // At 0, 15, 30 and 45 seconds; then nothing was heard for a minute.
        tokio::time::sleep(Duration::from_secs(605)).await;
        assert_eq!(received(&manager), ["WATCHDOG=1\n"; 4]);
        heartbeat.beat();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(received(&manager), ["WATCHDOG=1\n"]);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_that_does_not_read_holds_nothing_up_for_long() {
        let (reporter, _manager, _dir) = reporter();
        let began = tokio::time::Instant::now();
        for _ in 0..1000 {
            reporter.tell("WATCHDOG=1\n").await;
            if began.elapsed() >= PATIENCE {
                assert!(began.elapsed() < 2 * PATIENCE);
                return;
            }
        }
        panic!("the queue of a socket is longer than a thousand");
    }

    fn supervision(variables: &[(&str, &str)]) -> Supervision {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Supervision::from_parts(get, 7)
    }

    #[test]
    fn sockets_are_paths_or_abstract_names_and_anything_else_is_remarked_upon() {
        let path = supervision(&[("NOTIFY_SOCKET", "/run/notify")]);
        let socket = path.socket.unwrap();
        assert_eq!(socket.as_pathname(), Some("/run/notify".as_ref()));
        let name = supervision(&[("NOTIFY_SOCKET", "@notify")]);
        let socket = name.socket.unwrap();
        assert_eq!(socket.as_abstract_name(), Some(b"notify".as_ref()));
        assert!(path.notice.is_none() && name.notice.is_none());
        for odd in ["vsock:2:1", "notify", "@"] {
            let odd = supervision(&[("NOTIFY_SOCKET", odd)]);
            assert!(odd.socket.is_none() && odd.notice.is_some());
        }
        for none in [vec![], vec![("NOTIFY_SOCKET", "")]] {
            let none = supervision(&none);
            assert!(none.socket.is_none() && none.notice.is_none());
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let socket = ("NOTIFY_SOCKET", "/run/notify");
        let usec = ("WATCHDOG_USEC", "30000000");
        let within = |pid: &[(&'static str, &'static str)]| {
            supervision(&[&[socket, usec], pid].concat()).watchdog
        };
        let seconds = Some(Duration::from_secs(30));
        assert_eq!(within(&[]), seconds);
        assert_eq!(within(&[("WATCHDOG_PID", "7")]), seconds);
        assert_eq!(within(&[("WATCHDOG_PID", "8")]), None);
        assert_eq!(within(&[("WATCHDOG_PID", "x")]), None);
        assert_eq!(
            supervision(&[socket, ("WATCHDOG_USEC", "0")]).watchdog,
            None
        );
        assert_eq!(supervision(&[usec]).watchdog, None);
    }
}
