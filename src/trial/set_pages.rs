//! Key sets of the issuer: the good one, those of the cases, and what a stranger serves.

use std::time::Duration;

use serde_json::{Value, json};

use super::TrialError;
use super::cases::{Patch, Set};
use super::forge::{Forge, jwk};
use super::page::Page;
use crate::crypto::forgery::{certificate, pem};

impl Forge {
    pub fn key_set(&self) -> String {
        json!({ "keys": self.keys.each_ref().map(|key| jwk(key)) }).to_string()
    }

    /// The key set and the certificate for whoever follows `jku` or `x5u`.
    pub fn strangers(&self) -> Result<[String; 2], TrialError> {
        let mut key = jwk(&self.stranger);
        key["kid"] = "stranger".into();
        let certificate = pem("CERTIFICATE", &certificate(&self.stranger)?)?;
        Ok([json!({ "keys": [key] }).to_string(), certificate])
    }

    /// A key set of some of its keys, each by its index and under another kid.
    pub(super) fn aliased(&self, keys: &[(usize, &str)]) -> Page {
        let alias = |&(n, kid): &(usize, &str)| {
            let mut key = jwk(&self.keys[n]);
            key["kid"] = kid.into();
            key
        };
        let keys: Vec<_> = keys.iter().map(alias).collect();
        Page::json(json!({ "keys": keys }).to_string())
    }

    pub(super) fn page(&self, set: &Set, kid: &str) -> Result<Page, TrialError> {
        let keys = set.keys.iter().map(|key| self.entry(key, kid));
        let mut document = json!({ "keys": keys.collect::<Result<Vec<_>, _>>()? });
        for (name, value) in &set.members {
            document[name] = value.clone();
        }
        let mut body = set.body.clone().unwrap_or_else(|| document.to_string());
        body.extend(std::iter::repeat_n(' ', set.padding));
        Ok(Page {
            status: set.status,
            content_type: set.r#type.clone(),
            location: set.location.clone(),
            delay: Duration::from_secs(set.delay),
            body,
            ..Page::default()
        })
    }

    fn entry(&self, patch: &Patch, alias: &str) -> Result<Value, TrialError> {
        let mut key = match patch.get("$").map(|it| it.as_str().unwrap_or_default()) {
            Some("good") => jwk(&self.keys[0]),
            Some("second") => jwk(&self.keys[1]),
            Some("ES256") => self.curve_jwk("ES256"),
            Some(other) => return Err(TrialError::Table(format!("there is no key {other:?}"))),
            None => json!({}),
        };
        if patch.get("$").is_some_and(|it| it == "good") {
            key["kid"] = alias.into();
        }
        for (name, value) in patch.iter().filter(|(name, _)| *name != "$") {
            key[name] = match value {
                Value::String(text) if text == "$kid" => alias.into(),
                value => value.clone(),
            };
        }
        if let Some(members) = key.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        Ok(key)
    }
}
