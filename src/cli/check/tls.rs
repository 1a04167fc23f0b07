//! Certificates of an https URL, as each address of its name sends them: whether this
//! machine trusts the chain, and for how long it is valid.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection};
use rustls_platform_verifier::BuilderVerifierExt as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::cli::fetch::{self, Client};
use crate::cli::report::Report;
use crate::clock::{Clock as _, SystemClock, UnixTime};

const CHECK: &str = "certificate";
/// Longest wait for the server during the handshake, and for each of its bytes.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Days left under which the finding warns: most automatic renewals come earlier.
const RENEWED: u64 = 30;
/// Days left under which it says to renew at once.
const URGENT: u64 = 14;
/// Characters of a name that are shown.
const MAX_NAME: usize = 100;

/// A chain that this machine trusts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Chain {
    length: usize,
    issuer: String,
    /// First `notAfter` in it. Roots behind the server's own certificate do not count,
    /// since verifiers have theirs.
    ends: Duration,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum ChainError {
    Connection(String),
    Handshake(String),
}

pub(super) fn check(client: &Client, url: &str, report: &mut Report) {
    let Some(name) = fetch::tls_name(url) else {
        return;
    };
    let config = match config() {
        Ok(config) => config,
        Err(why) => return report.warn(CHECK, why, "look after this machine's certificates"),
    };
    let mut chains = BTreeMap::<_, Vec<_>>::new();
    for addr in client.addresses(url).unwrap_or_default() {
        let found = chain(addr, &name, &config);
        chains.entry(found).or_default().push(addr.ip().to_string());
    }
    let now = SystemClock::new().now();
    for (chain, addresses) in chains {
        report_chain(chain, &addresses.join(", "), now, report);
    }
}

fn report_chain(chain: Result<Chain, ChainError>, at: &str, now: UnixTime, report: &mut Report) {
    let chain = match chain {
        Ok(chain) => chain,
        Err(ChainError::Handshake(why)) => {
            let advice = "serve a valid certificate for this name, with those between it and an authority that verifiers trust";
            return report.fail(CHECK, format!("{at}: {why}"), advice);
        }
        // Perhaps this machine has no IPv6, or a proxy is the only way out.
        Err(ChainError::Connection(why)) => {
            let advice = "let all addresses of the name answer, or take it out of the name";
            return report.warn(CHECK, format!("{at}: {why}"), advice);
        }
    };
    let now = u64::try_from(now.as_secs()).unwrap_or(0);
    let days = chain.ends.as_secs().saturating_sub(now) / (24 * 60 * 60);
    let until = httpdate::fmt_http_date(UNIX_EPOCH + chain.ends);
    let text = format!(
        "{at}: {} sent, trusted here, by {}; {days} days left, until {until}",
        chain.length, chain.issuer
    );
    match days {
        ..URGENT => report.warn(
            CHECK,
            text,
            "renew it now: when it ends, every verifier fails",
        ),
        URGENT..RENEWED => report.warn(CHECK, text, "renew it, and see why nothing has yet"),
        _ => report.ok(CHECK, text),
    }
}

fn config() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(config.with_no_client_auth()))
}

fn chain(
    addr: SocketAddr,
    name: &ServerName<'static>,
    config: &Arc<ClientConfig>,
) -> Result<Chain, ChainError> {
    let unconnected = |e: io::Error| ChainError::Connection(e.to_string());
    let failed = |kind| ChainError::Handshake(interruption(kind));
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT).map_err(unconnected)?;
    stream
        .set_read_timeout(Some(TIMEOUT))
        .map_err(unconnected)?;
    stream
        .set_write_timeout(Some(TIMEOUT))
        .map_err(unconnected)?;
    let mut connection = ClientConnection::new(Arc::clone(config), name.clone())
        .map_err(|e| ChainError::Handshake(message(&e)))?;
    let since = Instant::now();
    while connection.is_handshaking() {
        while connection.wants_write() {
            let written = connection.write_tls(&mut stream);
            written.map_err(|e| failed(e.kind()))?;
        }
        let read = connection.read_tls(&mut stream);
        if read.map_err(|e| failed(e.kind()))? == 0 {
            return Err(failed(ErrorKind::UnexpectedEof));
        }
        if since.elapsed() > TIMEOUT {
            return Err(failed(ErrorKind::TimedOut));
        }
        let read = connection.process_new_packets();
        read.map_err(|e| ChainError::Handshake(message(&e)))?;
    }
    let unreadable = || ChainError::Handshake("the certificates cannot be read".to_owned());
    let sent = connection.peer_certificates().unwrap_or_default();
    let sent: Result<Vec<_>, _> = sent.iter().map(|it| Certificate::from_der(it)).collect();
    let sent = sent.map_err(|_| unreadable())?;
    let length = sent.len();
    let issuer = sent
        .first()
        .ok_or_else(unreadable)?
        .tbs_certificate
        .issuer
        .to_string();
    let parts = sent.into_iter().map(|it| it.tbs_certificate);
    let ends = parts
        .enumerate()
        .filter(|(n, it)| *n == 0 || it.issuer != it.subject)
        .map(|(_, it)| it.validity.not_after.to_unix_duration());
    Ok(Chain {
        length,
        issuer: issuer.chars().take(MAX_NAME).collect(),
        ends: ends.min().ok_or_else(unreadable)?,
    })
}

/// Message for a connection that stalled or ended before the handshake did.
fn interruption(kind: ErrorKind) -> String {
    match kind {
        // Reads that time out report WouldBlock on Linux.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("no TLS handshake within {} s", TIMEOUT.as_secs())
        }
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "it closed the connection during the handshake".to_owned()
        }
        other => format!("the handshake failed: {other}"),
    }
}

fn message(error: &rustls::Error) -> String {
    use CertificateError::{Expired, ExpiredContext, UnknownIssuer};
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            Expired | ExpiredContext { .. } => "it, or one that was sent with it, has expired",
            UnknownIssuer => "this machine does not trust the chain that was sent",
            _ => return error.to_string(),
        }
        .to_owned(),
        other => other.to_string(),
    }
}
