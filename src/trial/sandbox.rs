//! An issuer for tests: each path below `/{realm}` is one of its own. Its requests; what a
//! realm is and does is in `realm.rs`. All of it is in memory.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE, ETAG,
    HOST, IF_NONE_MATCH, ORIGIN,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::runtime::Builder;

use super::cases::{Case, TrialStage, cases};
use super::forge::{Forge, kid};
use super::issuer::{KEY_SET, answer, discovery};
use super::page::{Page, done, refused};
use super::realm::{Fault, Realm};
use super::{TrialError, forge};
use crate::clock::UnixTime;
use crate::crypto::rsa::{KeySource as _, PrivateKey, Rsa2048};
use crate::domain::document::Document;
use crate::domain::issuer;

const OPENAPI: &str = include_str!("sandbox.json");
const MAX_REALMS: usize = 200;
/// The service's own, by default.
const CACHING: &str = "public, max-age=300";
const MAX_BODY: usize = 256 * 1024;
/// Set by browsers (Fetch Metadata); pages cannot change it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

pub struct Sandbox {
    addr: SocketAddr,
    cases: Vec<Case>,
    stranger: Arc<PrivateKey>,
    /// A realm is empty until its keys are made.
    realms: Mutex<BTreeMap<String, Arc<Mutex<Option<Realm>>>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sign {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    fault: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SetFault {
    fault: Option<String>,
    times: Option<u32>,
}

impl Sandbox {
    /// Makes a key, which takes a moment.
    pub fn new(addr: SocketAddr) -> Result<Self, TrialError> {
        Ok(Self {
            addr,
            cases: cases().map_err(|e| TrialError::Table(e.to_string()))?,
            stranger: Rsa2048.generate()?.into(),
            realms: Mutex::default(),
        })
    }

    /// Answers until the process ends.
    pub fn run(self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let router = Router::new()
            .fallback(any)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::new(self));
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, router).await
        })
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Result<Page, Page> {
        if (method, path) == (&Method::GET, "/openapi.json") {
            return Ok(Page::json(OPENAPI.to_owned()));
        }
        let unknown = || refused(404, "no such path; see /openapi.json");
        let (name, rest) = split(path).ok_or_else(unknown)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
            let why = "a realm is 1 to 64 letters, digits, - and _";
            return Err(refused(400, why));
        }
        if method == Method::DELETE && rest.is_empty() {
            self.realms.lock().remove(name);
            return Ok(done(&json!({})));
        }
        let realm = self.realm(name)?;
        let mut realm = realm.lock();
        let realm = match &mut *realm {
            Some(realm) => realm,
            empty => empty.insert(self.new_realm(name)?),
        };
        let now = realm.now();
        match (method.as_str(), rest) {
            ("POST", "/sign") => self.sign(realm, &parsed(body)?, now),
            ("POST", "/fault") => self.set_fault(realm, parsed(body)?),
            ("POST", "/clock") => realm.set_clock(&parsed(body)?),
            ("POST", "/rotate") => realm.rotate(&parsed(body)?, now),
            ("POST", "/emergency") => realm.emergency(now),
            ("GET", "/requests") => Ok(done(
                &json!({"requests": realm.requests, "forgotten": realm.forgotten}),
            )),
            ("DELETE", "/requests") => {
                (realm.requests, realm.forgotten) = (VecDeque::new(), 0);
                Ok(done(&json!({})))
            }
            ("GET" | "HEAD", _) => {
                let page = self.document(realm, rest, now).ok_or_else(unknown)?;
                realm.note(method.as_str(), rest, now);
                page.map(|page| Page {
                    is_public: true,
                    ..page
                })
            }
            _ => Err(unknown()),
        }
    }

    fn realm(&self, name: &str) -> Result<Arc<Mutex<Option<Realm>>>, Page> {
        let mut realms = self.realms.lock();
        if !realms.contains_key(name) && realms.len() >= MAX_REALMS {
            let why = format!("there are {MAX_REALMS} realms; DELETE one");
            return Err(refused(503, &why));
        }
        Ok(Arc::clone(realms.entry(name.to_owned()).or_default()))
    }

    fn new_realm(&self, name: &str) -> Result<Realm, TrialError> {
        let issuer = format!("http://{}/{name}", self.addr);
        let elsewhere = format!("{issuer}/elsewhere");
        let stranger = Arc::clone(&self.stranger);
        let forge = Forge::with_stranger(stranger, issuer, None, Map::new(), elsewhere)?;
        Ok(Realm {
            stale: forge.key_set(),
            forge,
            curve: None,
            retiring: Vec::new(),
            ahead: 0,
            fault: None,
            requests: VecDeque::new(),
            forgotten: 0,
        })
    }

    fn case(&self, id: &str, stage: TrialStage) -> Result<usize, Page> {
        let is_it = |case: &Case| case.stage() == stage && case.id == id;
        let at = self.cases.iter().position(is_it);
        at.ok_or_else(|| refused(400, &format!("no case of this kind has the id {id:?}")))
    }

    fn sign(&self, realm: &Realm, asked: &Sign, now: UnixTime) -> Result<Page, Page> {
        let mut forge = realm.forge.clone();
        forge.header.clone_from(&asked.header);
        forge.claims.clone_from(&asked.claims);
        forge.audience = asked
            .claims
            .get("aud")
            .and_then(|it| Some(it.as_str()?.to_owned()));
        let alg = asked.header.get("alg").and_then(Value::as_str);
        let token = match (&asked.fault, &realm.curve) {
            (Some(id), _) => {
                let case = &self.cases[self.case(id, TrialStage::Tokens)?];
                forge.token(case, now)?
            }
            (None, Some(key)) if alg.is_none_or(|alg| alg == key.alg()) => {
                forge.signed_by(key, now)?
            }
            (None, _) => match alg.filter(|alg| forge::RSA_ALGORITHMS.contains(alg)) {
                Some(alg) => forge.good_as(alg, now)?,
                None => forge.good(now)?,
            },
        };
        Ok(done(&json!({ "token": token })))
    }

    fn set_fault(&self, realm: &mut Realm, asked: SetFault) -> Result<Page, Page> {
        let case = match asked.fault.as_deref() {
            None => {
                realm.fault = None;
                return Ok(done(&json!({})));
            }
            Some("stale") => None,
            Some(id) if id.starts_with("set-") => Some(self.case(id, TrialStage::Sets)?),
            Some(id) => Some(self.case(&format!("set-{id}"), TrialStage::Sets)?),
        };
        let times = asked.times;
        realm.fault = Some(Fault { case, times });
        Ok(done(&json!({})))
    }

    /// A document of the issuer, or one that no good verifier asks for.
    fn document(&self, realm: &mut Realm, path: &str, now: UnixTime) -> Option<Result<Page, Page>> {
        let issuer = realm.forge.issuer();
        Some(Ok(match path {
            KEY_SET => return Some(self.key_set(realm, now)),
            "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server" => {
                Page::json(discovery(issuer, issuer))
            }
            "/elsewhere/jwks.json" | "/elsewhere/certificate.pem" => {
                match realm.forge.strangers() {
                    Ok([set, _]) if path.ends_with("json") => Page::json(set),
                    Ok([_, certificate]) => Page::json(certificate),
                    Err(e) => return Some(Err(e.into())),
                }
            }
            _ => return None,
        }))
    }

    fn key_set(&self, realm: &mut Realm, now: UnixTime) -> Result<Page, Page> {
        realm.fault.take_if(|it| it.times == Some(0));
        let Some(fault) = &mut realm.fault else {
            return Ok(Page::json(realm.key_set(now)));
        };
        fault.times = fault.times.map(|times| times - 1);
        let case = fault.case.and_then(|at| self.cases[at].set.as_ref());
        Ok(match case {
            None => Page::json(realm.stale.clone()),
            Some(set) => realm.forge.page(set, &kid(&realm.forge.keys[0]))?,
        })
    }
}

/// The realm of a path, and the path below it. RFC 8414 section 3.1 puts the issuer's
/// path behind that of its document.
fn split(path: &str) -> Option<(&str, &str)> {
    for document in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        if let Some(name) = path.strip_prefix(document) {
            return Some((name.strip_prefix('/')?, document));
        }
    }
    let path = path.strip_prefix('/')?;
    Some(path.split_at(path.find('/').unwrap_or(path.len())))
}

fn parsed<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Page> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|e| refused(400, &format!("the body: {e}")))
}

/// Answer to a request that a page of another site may have sent.
fn refusal(uri: &Uri, headers: &HeaderMap) -> Option<Page> {
    let value = |name| headers.get(name).map(|it| it.to_str().unwrap_or_default());
    let is_loopback = |it: &str| issuer::host(it).is_some_and(issuer::is_loopback);
    // DNS rebinding: a page's own name may resolve to this address.
    let host = uri.authority().map(Authority::as_str);
    if !host.or_else(|| value(&HOST)).is_none_or(is_loopback) {
        return Some(refused(421, "Host must be a loopback address or localhost"));
    }
    // A GET may make a realm, and use up a fault.
    let is_allowed = match value(&ORIGIN) {
        Some(origin) => {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some_and(is_loopback)
        }
        None => value(&SEC_FETCH_SITE)
            .is_none_or(|it| ["same-origin", "same-site", "none"].contains(&it)),
    };
    let why = "a page of another site may not use a realm";
    (!is_allowed).then(|| refused(403, why))
}

/// Makes keys and signatures, so on a thread that may be slow.
async fn any(
    State(sandbox): State<Arc<Sandbox>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = refusal(&uri, &headers) {
        return answer(refusal).await;
    }
    let known = headers.get(IF_NONE_MATCH).cloned();
    let answered = tokio::task::spawn_blocking(move || {
        let page = sandbox.answer(&method, uri.path(), &body);
        page.unwrap_or_else(|refused| refused)
    });
    let page = answered
        .await
        .unwrap_or_else(|e| refused(500, &e.to_string()));
    if page.is_public {
        return public(page, known).await;
    }
    answer(page).await
}

/// Sends a document with the headers that the service sends it with, or 304 when
/// `If-None-Match` names its entity tag (RFC 9110 section 13.1.2).
async fn public(page: Page, known: Option<HeaderValue>) -> Response {
    let is_good = page.status == 200;
    let document = Document::from_json(page.body.clone());
    let mut response = answer(page).await;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let caching = if is_good { CACHING } else { "no-store" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if !is_good {
        return response;
    }
    let exposed = HeaderValue::from_static("ETag");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    let is_known = known.is_some_and(|tags| document.is_named_in(tags.as_bytes(), "W/"));
    if let Ok(etag) = HeaderValue::from_maybe_shared(document.etag) {
        headers.insert(ETAG, etag);
    }
    if is_known {
        headers.remove(CONTENT_TYPE);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
    }
    response
}
