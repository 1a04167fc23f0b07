//! Reading the token and the key set from the command line, standard input, a
//! file, or a URL, each up to a maximum size.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::cli::{Failure, fetch, operator};
use crate::config::{self, Settings, name};
use crate::domain::verification::KeySet;

/// Bytes; far more than fits into the header section of a request.
pub(in crate::cli) const MAX_TOKEN: u64 = 64 * 1024;
const JWKS: &str = "/.well-known/jwks.json";

pub(super) struct Sources {
    token: String,
    set: SetSource,
    env_file: Option<PathBuf>,
}

enum SetSource {
    Local,
    Url(String),
    File(PathBuf),
    Stdin,
}

/// A token, and what was taken off it: a verifier would refuse it with that.
pub(in crate::cli) struct Given {
    pub(in crate::cli) token: String,
    pub(super) taken_off: Vec<&'static str>,
}

/// A key set, with `ISSUER` and `AUDIENCE` when it is that of this machine's service.
pub(super) struct Fetched {
    pub(super) set: KeySet,
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

impl Sources {
    pub(super) fn new(
        token: String,
        jwks: Option<String>,
        env_file: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let set = match jwks {
            None => SetSource::Local,
            Some(text) if text == "-" => SetSource::Stdin,
            Some(text) => match text.split_once("://") {
                None => SetSource::File(PathBuf::from(text)),
                Some((scheme, _)) if is_http(scheme) => SetSource::Url(text),
                Some(_) => {
                    return Err(Failure::refused(
                        "--jwks is an http or https URL, a file, or -",
                    ));
                }
            },
        };
        if token == "-" && matches!(set, SetSource::Stdin) {
            return Err(Failure::refused(
                "only one of TOKEN and --jwks can be -: there is one standard input",
            ));
        }
        Ok(Self {
            token,
            set,
            env_file,
        })
    }

    pub(super) fn token(&self) -> Result<Given, Failure> {
        let refused = |why: String| Failure::refused(format!("the token cannot be read: {why}"));
        let token = match self.token.as_str() {
            "-" => {
                let bytes = bounded(io::stdin().lock(), MAX_TOKEN).map_err(refused)?;
                // Bytes that are not text are not base64url either.
                let text = String::from_utf8_lossy(&bytes);
                let line = text.strip_suffix('\n').unwrap_or(&text);
                line.strip_suffix('\r').unwrap_or(line).to_owned()
            }
            given => given.to_owned(),
        };
        Ok(unwrapped(&token))
    }

    pub(super) fn key_set(&self) -> Result<Fetched, Failure> {
        let (name, text, settings) = match &self.set {
            SetSource::Stdin => (
                "standard input".to_owned(),
                bounded(io::stdin().lock(), fetch::MAX_BODY),
                None,
            ),
            SetSource::File(path) => (
                path.display().to_string(),
                File::open(path)
                    .map_err(|e| e.to_string())
                    .and_then(|file| bounded(file, fetch::MAX_BODY)),
                None,
            ),
            SetSource::Url(url) => (url.clone(), fetch_set(url), None),
            SetSource::Local => {
                let settings = operator::settings(self.env_file.as_deref())?;
                let url = local_url(&settings)?;
                let text = fetch_set(&url);
                (url, text, Some(settings))
            }
        };
        let set = text.and_then(|text| KeySet::parse(&text).map_err(|e| e.to_string()));
        let set = set.map_err(|why| {
            let name = name.replace(char::is_control, "?");
            Failure::refused(format!("the key set of {name} cannot be used: {why}"))
        })?;
        let setting = |name| settings.as_ref()?.get(name).map(str::to_owned);
        Ok(Fetched {
            set,
            issuer: setting(name::ISSUER),
            audience: settings.as_ref().and_then(first_audience),
        })
    }
}

/// Each token has all entries of `AUDIENCE`.
fn first_audience(settings: &Settings) -> Option<String> {
    Some(config::audience(settings)?.first()?.to_owned())
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

fn local_url(settings: &Settings) -> Result<String, Failure> {
    let (host, port) = config::address(settings)?;
    if port == 0 {
        return Err(Failure::refused(
            "PORT=0 lets the service pick a port; give the URL of its key set with --jwks",
        ));
    }
    Ok(fetch::local_url(&host, port, JWKS))
}

/// The token in an answer of `/auth`, in the value of an `Authorization` field, or
/// between spaces.
pub(in crate::cli) fn unwrapped(text: &str) -> Given {
    let mut taken_off = Vec::new();
    let mut token = text.trim().to_owned();
    if token != text {
        taken_off.push("the white space around it");
    }
    let answer = serde_json::from_str::<serde_json::Value>(&token).ok();
    if let Some(inner) = answer.as_ref().and_then(|answer| answer["token"].as_str()) {
        token = inner.to_owned();
        taken_off.push("the JSON answer around it");
    }
    if let Some((scheme, rest)) = token.split_once(' ')
        && scheme.eq_ignore_ascii_case("bearer")
    {
        token = rest.trim_start().to_owned();
        taken_off.push("the word Bearer before it");
    }
    Given { token, taken_off }
}

pub(in crate::cli) fn fetch_set(url: &str) -> Result<Vec<u8>, String> {
    let reply = fetch::get(url)?;
    match reply.status {
        200 => Ok(reply.body),
        status @ 300..400 => Err(format!(
            "it redirects (status {status}); give the URL it redirects to"
        )),
        status => Err(format!("the response has status {status}")),
    }
}

pub(in crate::cli) fn bounded(from: impl Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    from.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is over {limit} bytes"));
    }
    Ok(bytes)
}
