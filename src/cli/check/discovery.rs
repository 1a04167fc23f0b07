//! Discovery documents of an issuer (RFC 8414, OpenID Connect Discovery).

use serde_json::Value;

use crate::cli::fetch::Client;
use crate::cli::report::Report;
use crate::domain::verification::KeySet;

const CHECK: &str = "discovery";
const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

pub(super) struct Found {
    /// URL of the key set, unless the documents name none that may be asked.
    pub(super) key_set: Option<String>,
    /// The issuer, when the URL was one.
    pub(super) issuer: Option<String>,
}

/// The key set that `url` is, or that the documents of the issuer `url` name.
pub(super) fn key_set(client: &Client, url: &str, report: &mut Report) -> Found {
    let itself = || Found {
        key_set: Some(url.to_owned()),
        issuer: None,
    };
    // A key set is one: no issuer answers with it at its own URL.
    if client
        .get(url)
        .is_ok_and(|reply| KeySet::parse(&reply.body).is_ok())
    {
        return itself();
    }
    let base = url.trim_end_matches('/');
    let places = [format!("{base}{OPENID}"), inserted(base)];
    let documents: Vec<_> = places
        .into_iter()
        .filter_map(|place| Some((document(client, &place)?, place)))
        .collect();
    let Some((first, place)) = documents.first() else {
        return itself();
    };
    for (document, place) in &documents {
        about(document, place, url, report);
    }
    let differs = |name: &str| documents.iter().any(|(it, _)| it[name] != first[name]);
    if differs("issuer") || differs("jwks_uri") {
        report.fail(
            CHECK,
            "the two documents have different issuers or key sets",
            "publish one document at both paths",
        );
    }
    Found {
        key_set: jwks_uri(client, first, place, report),
        issuer: Some(url.to_owned()),
    }
}

/// `jwks_uri` of the document at `place`, unless it may not be asked.
fn jwks_uri(client: &Client, document: &Value, place: &str, report: &mut Report) -> Option<String> {
    match document["jwks_uri"].as_str() {
        // A stranger's document must not send requests to services of this machine.
        Some(uri) if !client.may_ask(uri) => {
            let text = format!("{place} has a jwks_uri on the machine of whoever reads it");
            report.fail(
                CHECK,
                text,
                "give it a URL that others can reach; it is not asked",
            );
            None
        }
        Some(uri) => Some(uri.to_owned()),
        None => {
            let text = format!("{place} names no jwks_uri");
            report.fail(CHECK, text, "add the URL of the key set");
            None
        }
    }
}

/// RFC 8414 section 3.1 puts the path of the issuer behind that of the document.
fn inserted(base: &str) -> String {
    let start = base.find("://").map_or(0, |at| at + 3);
    let path = base[start..].find('/').map_or(base.len(), |at| start + at);
    format!("{}{OAUTH}{}", &base[..path], &base[path..])
}

fn document(client: &Client, url: &str) -> Option<Value> {
    let reply = client.get(url).ok().filter(|reply| reply.status == 200)?;
    let document: Value = serde_json::from_slice(&reply.body).ok()?;
    document.is_object().then_some(document)
}

fn about(document: &Value, place: &str, url: &str, report: &mut Report) {
    match document["issuer"].as_str() {
        Some(issuer) if issuer == url => report.ok(CHECK, format!("{place} has this issuer")),
        Some(issuer) => report.fail(
            CHECK,
            format!("{place} has the issuer {issuer:?}"),
            "verifiers compare it with the URL that they were given, to the letter",
        ),
        None => report.fail(CHECK, format!("{place} has no issuer"), "add it"),
    }
    let is_open = |url: &str| url.starts_with("http://");
    if document["jwks_uri"].as_str().is_some_and(is_open) && !is_open(url) {
        let text = format!("{place} has a jwks_uri without TLS");
        report.fail(CHECK, text, "give it an https URL");
    }
}
