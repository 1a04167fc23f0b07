//! Tells the service manager how the service fares (sd_notify(3)): when it is
//! ready, that it is alive, that it stops. Does nothing where nobody asks.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Supervision;
use crate::domain::keys::KeyRing;
use crate::domain::lifecycle::Policy;
use crate::domain::pulse::Pulse;

/// How long a message may wait for a manager that does not read.
const PATIENCE: Duration = Duration::from_secs(1);
/// A rotation that has not been heard of for so long hangs: it goes round twice
/// a second, and the longest that it does at a time is to wait for a lock on
/// the database and to make a key.
const HANGS_AFTER: Duration = Duration::from_secs(60);

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
    pub pulse: Arc<Pulse>,
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
            let silence = self.pulse.silence();
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
            pulse: Arc::default(),
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
        let pulse = Arc::clone(&reporter.pulse);
        let running = tokio::spawn(async move {
            reporter.keep_alive(Duration::from_secs(30)).await;
        });
        // At 0, 15, 30 and 45 seconds; then nothing was heard for a minute.
        tokio::time::sleep(Duration::from_secs(605)).await;
        assert_eq!(received(&manager), ["WATCHDOG=1\n"; 4]);
        pulse.beat();
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
}
