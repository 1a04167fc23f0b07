//! jsonwebtoken with a `JwkSet` that is held as long as the server allows: it
//! fetches nothing itself. The set is asked for again with If-None-Match, and
//! kept while the server cannot be reached.

use std::env::var;
use std::error::Error;
use std::io::stdin;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

const VERSIONS: &str = include_str!("Cargo.lock");

fn main() -> Result<(), Box<dyn Error>> {
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_issuer(&[var("ISSUER")?]);
    rules.set_audience(&[var("AUDIENCE")?]);
    rules.set_required_spec_claims(&["exp", "iss", "aud"]);
    let mut held = HeldSet::new(var("JWKS_URL")?);
    println!("ready jsonwebtoken {}", locked("jsonwebtoken"));
    for token in stdin().lines() {
        match verify(&token?, &mut held, &rules) {
            Ok(()) => println!("ok"),
            Err(error) => println!("no {error:?}"),
        }
    }
    Ok(())
}

fn verify(token: &str, held: &mut HeldSet, rules: &Validation) -> Result<(), Box<dyn Error>> {
    let kid = decode_header(token)?.kid.ok_or("no kid")?;
    let key = held.current()?.find(&kid).ok_or("unknown kid")?;
    decode::<Value>(token, &DecodingKey::from_jwk(key)?, rules)?;
    Ok(())
}

struct HeldSet {
    url: String,
    keys: Option<JwkSet>,
    etag: String,
    until: Instant,
}

impl HeldSet {
    fn new(url: String) -> Self {
        Self {
            url,
            keys: None,
            etag: String::new(),
            until: Instant::now(),
        }
    }

    fn current(&mut self) -> Result<&JwkSet, Box<dyn Error>> {
        if Instant::now() >= self.until
            && let Err(error) = self.fetch()
            && self.keys.is_none()
        {
            return Err(error);
        }
        self.keys.as_ref().ok_or_else(|| "no key set".into())
    }

    fn fetch(&mut self) -> Result<(), Box<dyn Error>> {
        let request = ureq::get(&self.url).header("If-None-Match", &self.etag);
        let mut answer = request.call()?;
        if answer.status() != 304 {
            self.keys = Some(serde_json::from_str(&answer.body_mut().read_to_string()?)?);
        }
        let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok());
        let caching = header("cache-control").unwrap_or_default();
        let max_age = caching.split_once("max-age=").map_or("0", |(_, n)| n);
        let (etag, max_age) = (
            header("etag").unwrap_or_default().to_owned(),
            max_age.parse()?,
        );
        self.etag = etag;
        self.until = Instant::now() + Duration::from_secs(max_age);
        Ok(())
    }
}

/// The version of a package in the lock file.
fn locked(package: &str) -> &str {
    let entry = VERSIONS.split_once(&format!("name = \"{package}\"\nversion = \""));
    entry
        .and_then(|(_, rest)| rest.split('"').next())
        .unwrap_or("?")
}
