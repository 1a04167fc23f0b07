//! The vectors of the public project Wycheproof for JSON Web Signatures, read from a
//! folder beside this project or the one that `WYCHEPROOF` names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jwks_server::domain::verification::{KeySet, cause, verify_signature};
use serde_json::{Value, json};

use crate::left_out::left_out;

const BESIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/wycheproof");
/// The service signs with this one alone, so `verify` accepts no other.
const OURS: &str = "RS256";

#[test]
fn every_invalid_signature_of_wycheproof_is_refused_and_every_valid_one_of_rs256_accepted() {
    let folder = std::env::var_os("WYCHEPROOF").map_or_else(|| BESIDE.into(), PathBuf::from);
    let file = folder.join("json_web_signature_test.json");
    if !Path::new(&file).exists() {
        left_out("wycheproof", "its vectors are not beside this project");
        return;
    }
    let vectors: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let mut counts = BTreeMap::<_, usize>::new();
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = group.get("public").unwrap_or(&group["private"]);
        let set = json!({ "keys": [key] }).to_string();
        let set = KeySet::parse(set.as_bytes()).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let jws = &test["jws"];
            let token = jws.as_str().map_or(jws.to_string(), str::to_owned);
            let is_accepted = cause(&verify_signature(&token, &set)).is_none();
            let is_valid = test["result"] == "valid";
            let is_ours = key["alg"] == OURS;
            assert_eq!(is_accepted, is_valid && is_ours, "{test}");
            *counts.entry((is_valid, is_ours)).or_default() += 1;
        }
    }
    // Invalid and valid ones, each of other algorithms first.
    let counts: Vec<_> = counts.into_values().collect();
    assert_eq!(counts, [130, 225, 38, 8]);
}
