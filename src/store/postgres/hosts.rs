//! Connecting to one of the hosts in a URL. Each of their addresses has the same time, for
//! the whole way to a session: a machine that has lost its power, or that accepts and says
//! nothing, must not keep a replica from the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Error};

/// An address that does not answer is given up after this long, unless the URL has
/// another time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Tries the addresses in turn, that of the latest success first.
pub(super) struct InTurn<C> {
    pub(super) one: C,
    /// Index of the address to begin with.
    pub(super) next: Arc<AtomicUsize>,
}

impl<C: Connect> InTurn<C> {
    /// Returns an error when one of the addresses has given one. While all are silent it
    /// goes on, until the pool gives up.
    async fn connect_to_any(&self, config: Config) -> Result<(Client, JoinHandle<()>), Error> {
        loop {
            let addresses = addresses(&config).await;
            // A single one has until the pool gives up, which is after twice the limit.
            let times = if addresses.len() == 1 { 3 } else { 1 };
            let limit = times * limit(&config);
            let first = self.next.load(Ordering::Relaxed);
            let mut failure = None;
            for index in (0..addresses.len()).map(|turn| (first + turn) % addresses.len()) {
                // Whoever gives this attempt up begins the next one with the next address.
                self.next.store(index + 1, Ordering::Relaxed);
                match timeout(limit, self.one.connect(&addresses[index])).await {
                    Ok(Ok(connected)) => {
                        self.next.store(index, Ordering::Relaxed);
                        return Ok(connected);
                    }
                    Ok(Err(e)) => failure = Some(e),
                    Err(_) => {}
                }
            }
            if let Some(e) = failure {
                return Err(e);
            }
        }
    }
}

impl<C: Connect> Connect for InTurn<C> {
    fn connect(
        &self,
        config: &Config,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>>
    {
        Box::pin(self.connect_to_any(config.clone()))
    }
}

/// Time for one address.
pub(super) fn limit(config: &Config) -> Duration {
    config
        .get_connect_timeout()
        .copied()
        .unwrap_or(CONNECT_TIMEOUT)
}

/// The same for each address of each host.
async fn addresses(config: &Config) -> Vec<Config> {
    let (hosts, ports) = (config.get_hosts(), config.get_ports());
    let mut found = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        // One port is for all hosts.
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let resolved = match (config.get_hostaddrs().get(index), host) {
            (Some(&address), _) => vec![address],
            (None, Host::Unix(_)) => Vec::new(),
            (None, Host::Tcp(name)) => {
                match timeout(limit(config), lookup_host((name.as_str(), port))).await {
                    Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
                    // The driver tries again, and tells why not.
                    _ => Vec::new(),
                }
            }
        };
        let one = || {
            let mut one = without_hosts(config);
            match host {
                Host::Unix(path) => one.host_path(path),
                Host::Tcp(name) => one.host(name),
            };
            one.port(port);
            one
        };
        match resolved.is_empty() {
            true => found.push(one()),
            false => found.extend(resolved.into_iter().map(|address| {
                let mut one = one();
                one.hostaddr(address);
                one
            })),
        }
    }
    found
}

/// All else of a configuration.
fn without_hosts(config: &Config) -> Config {
    let mut this = Config::new();
    if let Some(user) = config.get_user() {
        this.user(user);
    }
    if let Some(password) = config.get_password() {
        this.password(password);
    }
    if let Some(name) = config.get_dbname() {
        this.dbname(name);
    }
    if let Some(options) = config.get_options() {
        this.options(options);
    }
    if let Some(name) = config.get_application_name() {
        this.application_name(name);
    }
    if let Some(&time) = config.get_tcp_user_timeout() {
        this.tcp_user_timeout(time);
    }
    if let Some(time) = config.get_keepalives_interval() {
        this.keepalives_interval(time);
    }
    if let Some(times) = config.get_keepalives_retries() {
        this.keepalives_retries(times);
    }
    // The whole attempt has the limit; the connection of TCP alone must not end before it.
    this.connect_timeout(limit(config) * 4)
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    this
}

#[cfg(test)]
#[path = "../../../tests/unit/hosts.rs"]
mod tests;
