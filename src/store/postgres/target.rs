//! `DATABASE_URL` of PostgreSQL: hosts, user and TLS, as libpq reads them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use deadpool_postgres::{ConfigConnectImpl, Manager, ManagerConfig, RecyclingMethod};
use rustix::fs::{Mode, OFlags};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::{CancelToken, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::text;
use super::hosts::{InTurn, limit};

/// Sent bytes may be unacknowledged for this long.
const USER_TIMEOUT: Duration = Duration::from_secs(2);
/// A clock that is further off than half of the default `CLOCK_SKEW` is wrong.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Largest file of passwords or certificates, bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Settings beside the URL, by libpq's names.
#[derive(Default)]
pub struct PgEnvironment<'a> {
    /// `PGPASSWORD`
    pub password: Option<&'a str>,
    /// `PGPASSFILE`, or `~/.pgpass` if there is one: lines of
    /// host:port:database:user:password.
    pub password_file: Option<&'a Path>,
    /// `PGSSLROOTCERT`: certificates in PEM in place of those that the machine trusts.
    pub root_certificates: Option<&'a Path>,
}

/// A database on PostgreSQL, and how to get to it.
#[derive(Clone)]
pub struct Target {
    config: Config,
    /// None without TLS. Made once: it holds the certificates that are trusted.
    tls: Option<MakeRustlsConnect>,
    /// Largest difference between the database's clock and the replica's.
    clock_tolerance: Duration,
    /// Index of the address to begin with, for all pools.
    next: Arc<AtomicUsize>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

/// Without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.config.get_hosts().iter().map(shown).collect();
        let name = self.config.get_dbname().unwrap_or_default();
        write!(f, "postgres://{}/{name}", hosts.join(","))
    }
}

impl Target {
    /// Reads `postgres://user@host1:port1,host2/db?…`. The error says what is wrong,
    /// without a password.
    pub fn parse(url: &str, environment: &PgEnvironment<'_>) -> Result<Self, String> {
        let (url, ssl_mode, root) = take_tls(url)?;
        let mut config: Config = url.parse().map_err(|e: tokio_postgres::Error| text(&e))?;
        if config.get_hosts().is_empty() {
            return Err("it names no host".to_owned());
        }
        if config.get_dbname().is_none() {
            return Err("it names no database, as in postgres://user@host/database".to_owned());
        }
        let root = root.as_deref().or(environment.root_certificates);
        let root = root.filter(|path| *path != Path::new("system"));
        if config
            .get_hosts()
            .iter()
            .any(|host| shown(host).contains('@'))
        {
            return Err("an @ in the user or the password is written %40".to_owned());
        }
        // A wrong certificate file is told before anything is connected.
        let tls = needs_tls(&config, ssl_mode.as_deref())?;
        let tls = tls.then(|| connector(root)).transpose()?;
        config
            .ssl_mode(match tls {
                Some(_) => SslMode::Require,
                None => SslMode::Disable,
            })
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .tcp_user_timeout(USER_TIMEOUT);
        if config.get_application_name().is_none() {
            config.application_name("jwks-server");
        }
        if config.get_password().is_none()
            && let Some(password) = find_password(&config, environment)?
        {
            config.password(password);
        }
        let first = match config.get_load_balance_hosts() {
            LoadBalanceHosts::Random => rand::random_range(0..config.get_hosts().len()),
            _ => 0,
        };
        Ok(Self {
            config,
            tls,
            clock_tolerance: CLOCK_TOLERANCE,
            next: Arc::new(AtomicUsize::new(first)),
        })
    }

    #[must_use]
    pub fn with_clock_tolerance(mut self, tolerance: Duration) -> Self {
        self.clock_tolerance = tolerance;
        self
    }

    /// The same with another name for its sessions.
    pub(super) fn named(&self, name: &str) -> Self {
        let mut this = self.clone();
        this.config.application_name(name);
        this
    }

    /// Name of its sessions.
    pub(super) fn name(&self) -> &str {
        self.config.get_application_name().unwrap_or_default()
    }

    pub(super) fn clock_tolerance(&self) -> Duration {
        self.clock_tolerance
    }

    pub fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) fn manager(&self) -> Manager {
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let config = self.config.clone();
        let next = Arc::clone(&self.next);
        match self.tls.clone() {
            None => {
                let one = ConfigConnectImpl { tls: NoTls };
                Manager::from_connect(config, InTurn { one, next }, recycling)
            }
            Some(tls) => {
                let one = ConfigConnectImpl { tls };
                Manager::from_connect(config, InTurn { one, next }, recycling)
            }
        }
    }

    /// Time in which each host is tried, and one more: a name may have two addresses.
    pub(super) fn connects_within(&self) -> Duration {
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(u32::MAX);
        limit(&self.config).saturating_mul(hosts.saturating_add(1))
    }

    /// Asks the server to end the statement of a connection.
    pub(super) async fn cancel(&self, token: &CancelToken) -> Result<(), String> {
        let asked = match self.tls.clone() {
            None => token.cancel_query(NoTls).await,
            Some(tls) => token.cancel_query(tls).await,
        };
        asked.map_err(|e| text(&e))
    }
}

/// `root`: the certificates that are trusted, in place of those that the machine does.
fn connector(root: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match root {
        None => builder
            .with_platform_verifier()
            .map_err(|e| e.to_string())?,
        Some(path) => builder.with_root_certificates(roots(path)?),
    };
    Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
}

/// The URL without sslmode and sslrootcert, and their values.
fn take_tls(url: &str) -> Result<(String, Option<String>, Option<PathBuf>), String> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut root) = (None, None);
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(value).decode_utf8();
        let value = value.map_err(|e| e.to_string())?.into_owned();
        match name {
            "sslmode" => mode = Some(value),
            "sslrootcert" => root = Some(PathBuf::from(value)),
            _ => rest.push(pair),
        }
    }
    let url = match rest.is_empty() {
        true => base.to_owned(),
        false => format!("{base}?{}", rest.join("&")),
    };
    Ok((url, mode, root))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let failed = |e: &dyn fmt::Display| format!("PGSSLROOTCERT {}: {e}", path.display());
    let contents = read(path).map_err(|e| failed(&e))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&contents) {
        let certificate = certificate.map_err(|e| failed(&e))?;
        roots.add(certificate).map_err(|e| failed(&e))?;
    }
    match roots.is_empty() {
        true => Err(failed(&"it has no certificate")),
        false => Ok(roots),
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
    }
}

fn shown(host: &Host) -> String {
    match host {
        Host::Unix(path) => path.display().to_string(),
        Host::Tcp(name) => name.clone(),
    }
}

/// The contents of a file of at most [`MAX_FILE`] bytes, which is no pipe.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe"));
    }
    let mut contents = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is over {MAX_FILE} bytes")));
    }
    Ok(contents)
}

/// All but to this machine, unless the URL says otherwise.
fn needs_tls(config: &Config, ssl_mode: Option<&str>) -> Result<bool, String> {
    let addresses = config.get_hostaddrs();
    let is_local = config.get_hosts().iter().all(is_local)
        && addresses.iter().all(|address| address.is_loopback());
    match ssl_mode {
        Some("disable") => Ok(false),
        Some("verify-full") => Ok(true),
        None => Ok(!is_local),
        Some(_) => Err("sslmode is verify-full or disable".to_owned()),
    }
}

/// `PGPASSWORD`, or else what `PGPASSFILE` has for this server.
fn find_password(
    config: &Config,
    environment: &PgEnvironment<'_>,
) -> Result<Option<String>, String> {
    match (environment.password, environment.password_file) {
        (Some(password), _) => Ok(Some(password.to_owned())),
        (None, Some(path)) => password_of(config, path),
        (None, None) => Ok(None),
    }
}

/// The password that a file in the form of libpq's .pgpass has for the hosts.
fn password_of(config: &Config, path: &Path) -> Result<Option<String>, String> {
    let failed =
        |why: &dyn fmt::Display| format!("the file of passwords {}: {why}", path.display());
    let text = String::from_utf8(read(path).map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate();
    let mut found = hosts.map(|(index, host)| {
        // One port is for all hosts.
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        password_for(config, host, port, &text)
    });
    let first = found.next().flatten();
    if found.any(|other| other != first) {
        return Err(failed(&"it must have one password for all hosts"));
    }
    let mode = path
        .metadata()
        .map_err(|e| failed(&e))?
        .permissions()
        .mode();
    if first.is_some() && mode & 0o077 != 0 {
        return Err(failed(&"other users may read it: chmod 600"));
    }
    Ok(first)
}

fn password_for(config: &Config, host: &Host, port: u16, text: &str) -> Option<String> {
    let wanted = [
        match host {
            // As libpq does for its socket.
            Host::Unix(_) => "localhost".to_owned(),
            Host::Tcp(name) => name.clone(),
        },
        port.to_string(),
        config.get_dbname().unwrap_or_default().to_owned(),
        config.get_user().unwrap_or_default().to_owned(),
    ];
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(fields).find_map(|mut fields| {
        let password = (fields.len() == 5).then(|| fields.pop())??;
        let fits = |(field, wanted): (&String, &String)| field == "*" || field == wanted;
        fields.iter().zip(&wanted).all(fits).then_some(password)
    })
}

/// Fields between colons; a backslash takes the next character as it is.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let taken = match character {
            ':' => {
                fields.push(String::new());
                continue;
            }
            '\\' => characters.next(),
            other => Some(other),
        };
        if let Some(field) = fields.last_mut() {
            field.extend(taken);
        }
    }
    fields
}
