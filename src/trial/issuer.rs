//! The issuer that the tried verifier trusts: a key set and discovery documents over
//! HTTP, and beside it a server that no good verifier calls.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use parking_lot::RwLock;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::TrialError;
use super::forge::Forge;
use super::page::Page;

pub const KEY_SET: &str = "/.well-known/jwks.json";

/// Both servers, bound: the tokens name their addresses.
pub struct Bound {
    issuer: TcpListener,
    elsewhere: TcpListener,
    pub addr: SocketAddr,
    /// URL of the server that no good verifier calls.
    pub elsewhere_url: String,
}

/// Both servers, until it is dropped.
pub struct TrialIssuer {
    served: Arc<Served>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Served {
    key_set: RwLock<Arc<Page>>,
    /// Other paths with their bodies.
    documents: Vec<(&'static str, String)>,
    fetched: AtomicUsize,
    fetched_elsewhere: AtomicUsize,
}

impl Bound {
    pub fn new(listen: SocketAddr) -> Result<Self, TrialError> {
        let bind = |addr| {
            let failed = |e| TrialError::Listen(addr, e);
            let listener = TcpListener::bind(addr).map_err(failed)?;
            let addr = listener.local_addr().map_err(failed)?;
            Ok::<_, TrialError>((listener, addr))
        };
        let (issuer, addr) = bind(listen)?;
        let (elsewhere, other) = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let elsewhere_url = format!("http://{other}");
        Ok(Self {
            issuer,
            elsewhere,
            addr,
            elsewhere_url,
        })
    }

    /// Serves the keys of `forge`. `url` is where verifiers reach the issuer.
    pub fn serve(self, forge: &Forge, url: &str) -> Result<TrialIssuer, TrialError> {
        let failed = |e: io::Error| TrialError::Listen(self.addr, e);
        let discovery = discovery(forge.issuer(), url);
        let [set, certificate] = forge.strangers()?;
        let documents = vec![
            ("/.well-known/openid-configuration", discovery.clone()),
            ("/.well-known/oauth-authorization-server", discovery),
            ("/jwks.json", set),
            ("/certificate.pem", certificate),
        ];
        let served = Arc::new(Served {
            documents,
            key_set: RwLock::new(Arc::new(Page::json(forge.key_set()))),
            ..Served::default()
        });
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed)?;
        let routers = [
            (self.issuer, Router::new().fallback(issuers)),
            (self.elsewhere, Router::new().fallback(strangers)),
        ];
        for (listener, router) in routers {
            listener.set_nonblocking(true).map_err(failed)?;
            let router = router.with_state(Arc::clone(&served));
            let _context = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            runtime.spawn(async move { axum::serve(listener, router).await });
        }
        Ok(TrialIssuer {
            served,
            _runtime: runtime,
        })
    }
}

impl TrialIssuer {
    /// Answers requests for the key set by this from now on.
    pub(super) fn serve(&self, page: Page) {
        *self.served.key_set.write() = Arc::new(page);
    }

    /// Requests so far for the key set, and to the server that no good verifier calls.
    pub fn fetched(&self) -> (usize, usize) {
        let served = &self.served;
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (count(&served.fetched), count(&served.fetched_elsewhere))
    }
}

/// The discovery document of an issuer that is reached at `url`.
pub(super) fn discovery(issuer: &str, url: &str) -> String {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{url}{KEY_SET}"),
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
    .to_string()
}

async fn issuers(State(served): State<Arc<Served>>, uri: Uri) -> Response {
    if uri.path() != KEY_SET {
        return document(&served, &uri, true);
    }
    served.fetched.fetch_add(1, Ordering::Relaxed);
    let page = Arc::clone(&served.key_set.read());
    answer(Page::clone(&page)).await
}

pub(super) async fn answer(page: Page) -> Response {
    tokio::time::sleep(page.delay).await;
    let status = StatusCode::from_u16(page.status).unwrap_or_default();
    let kind = [(header::CONTENT_TYPE, page.content_type)];
    let location = page
        .location
        .iter()
        .map(|it| (header::LOCATION, it.clone()));
    let location = AppendHeaders(location.collect::<Vec<_>>());
    (status, kind, location, page.body).into_response()
}

async fn strangers(State(served): State<Arc<Served>>, uri: Uri) -> Response {
    served.fetched_elsewhere.fetch_add(1, Ordering::Relaxed);
    document(&served, &uri, false)
}

fn document(served: &Served, uri: &Uri, well_known: bool) -> Response {
    let is_asked = |(path, _): &&(&str, String)| {
        *path == uri.path() && path.starts_with("/.well-known/") == well_known
    };
    match served.documents.iter().find(is_asked) {
        Some((_, body)) => {
            ([(header::CONTENT_TYPE, "application/json")], body.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
