//! HTTP requests of commands: bounded in time and size, and never redirected to
//! another scheme, nor led from elsewhere to this machine (`side.rs`).

mod side;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use ureq::config::ConfigBuilder;
use ureq::http::{HeaderMap, Request, Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Error};

pub(super) use side::is_on_this_machine;
use side::{Side, Sided, resolved};

/// Bytes; a response with a larger body is refused.
pub(super) const MAX_BODY: u64 = 1024 * 1024;
/// From resolving the name to the last byte.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a header section that may be sent.
const MAX_HEADERS: usize = 4 * 1024 * 1024;
const MAX_REDIRECTS: u32 = 3;
/// Addresses of one name that are asked.
const MAX_ADDRESSES: usize = 8;

/// A response of any status.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// A header's value; empty when it is missing or not text.
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

/// Sends requests for what one URL names, and for what is found there.
pub(super) struct Client {
    /// The URL is not on this machine, so nothing may lead here.
    stays_elsewhere: bool,
}

impl Client {
    pub(super) fn for_url(url: &str) -> Self {
        Self {
            stays_elsewhere: Side::of(url) == Side::Elsewhere,
        }
    }

    /// False for a URL on this machine that a stranger's document has.
    pub(super) fn may_ask(&self, url: &str) -> bool {
        !self.stays_elsewhere || Side::of(url) == Side::Elsewhere
    }

    fn side(&self, url: &str) -> Side {
        match self.stays_elsewhere {
            true => Side::Elsewhere,
            false => Side::of(url),
        }
    }

    fn agent(&self, url: &str, redirects: u32) -> Result<Agent, String> {
        let config = config(url, TIMEOUT, redirects)?.build();
        let resolver = Sided {
            side: self.side(url),
            url: url.to_owned(),
            resolver: DefaultResolver::default(),
        };
        let connector = DefaultConnector::default();
        Ok(Agent::with_parts(config, connector, resolver))
    }

    /// Fetches `url`. The error says what went wrong, without the URL.
    pub(super) fn get(&self, url: &str) -> Result<Reply, String> {
        read(self.agent(url, MAX_REDIRECTS)?.get(url).call())
    }

    /// Sends a request that follows no redirection, perhaps to one address of the name.
    pub(super) fn ask(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        addr: Option<SocketAddr>,
    ) -> Result<Reply, String> {
        let agent = match addr {
            None => self.agent(url, 0)?,
            // A proxy would look the name up by itself.
            Some(addr) => Agent::with_parts(
                config(url, TIMEOUT, 0)?.proxy(None).build(),
                DefaultConnector::default(),
                Pinned(addr),
            ),
        };
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(|e| e.to_string())?;
        read(agent.run(request))
    }

    /// Addresses of the name in `url` that may be asked.
    pub(super) fn addresses(&self, url: &str) -> Result<Vec<SocketAddr>, String> {
        let side = self.side(url);
        let found = resolved(url)?.filter(|addr| side.has(addr));
        let mut found: Vec<_> = found.take(MAX_ADDRESSES).collect();
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// Fetches `url`. The error says what went wrong, without the URL.
pub(super) fn get(url: &str) -> Result<Reply, String> {
    Client::for_url(url).get(url)
}

/// Fetches `url`, without following a redirection.
pub(super) fn get_within(url: &str, timeout: Duration) -> Result<Reply, String> {
    let agent: Agent = config(url, timeout, 0)?.build().into();
    read(agent.get(url).call())
}

/// Sends JSON to `url`.
pub(super) fn post(url: &str, json: &str) -> Result<Reply, String> {
    let agent: Agent = config(url, TIMEOUT, MAX_REDIRECTS)?.build().into();
    let request = agent.post(url).header("Content-Type", "application/json");
    read(request.send(json))
}

/// The name that the certificate of an https URL is for.
pub(super) fn tls_name(url: &str) -> Option<ServerName<'static>> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).ok()
}

/// Finds one address, whatever the name.
#[derive(Debug)]
struct Pinned(SocketAddr);

impl Resolver for Pinned {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

/// The URL of `path` at a service that listens on `host`, from the same machine.
pub(super) fn local_url(host: &str, port: u16, path: &str) -> String {
    let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
    let host = match unbracketed.parse::<IpAddr>() {
        // A service that listens on all addresses listens on this one too.
        Ok(IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => "[::1]".to_owned(),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => unbracketed.to_owned(),
    };
    format!("http://{host}:{port}{path}")
}

/// For requests with large headers, whose answers may redirect, but only to say so. Each
/// has a connection of its own: a server that closes one without a word after a failure
/// would spoil the next request.
pub(super) fn agent_without_redirects(url: &str, timeout: Duration) -> Result<Agent, String> {
    let config = config(url, timeout, 0)?
        .output_buffer_size(MAX_HEADERS)
        .max_idle_connections(0);
    Ok(config.build().into())
}

fn config(
    url: &str,
    timeout: Duration,
    redirects: u32,
) -> Result<ConfigBuilder<AgentScope>, String> {
    let (scheme, authority) = authority(url);
    if !["http", "https"]
        .iter()
        .any(|it| scheme.eq_ignore_ascii_case(it))
    {
        return Err("it is not an http or https URL".to_owned());
    }
    if authority.contains('@') {
        return Err("a user name or password in the URL is not supported".to_owned());
    }
    let secure = scheme.eq_ignore_ascii_case("https");
    let mut config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .https_only(secure)
        // Redirects from http could lead anywhere, so they are not followed.
        .max_redirects(if secure { redirects } else { 0 })
        .max_redirects_will_error(false)
        .user_agent(concat!("jwks-server/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls());
    if is_on_this_machine(url) {
        // A proxy would connect to its own machine.
        config = config.proxy(None);
    }
    Ok(config)
}

/// Scheme and authority of a URL.
pub(super) fn authority(url: &str) -> (&str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next();
    (scheme, authority.unwrap_or_default())
}

fn tls() -> TlsConfig {
    TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build()
}

fn read(response: Result<Response<Body>, Error>) -> Result<Reply, String> {
    let mut response = response.map_err(|e| reason(&e))?;
    let body = response
        .body_mut()
        .with_config()
        .limit(MAX_BODY)
        .read_to_vec()
        .map_err(|e| reason(&e))?;
    Ok(Reply {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body,
    })
}

fn reason(error: &Error) -> String {
    match error {
        Error::BodyExceedsLimit(_) => format!("the response is larger than {MAX_BODY} bytes"),
        Error::Timeout(_) => "no response in time".to_owned(),
        Error::RequireHttpsOnly(_) => "it redirects from https to http".to_owned(),
        Error::Other(why) => why.to_string(),
        other => other.to_string(),
    }
}
