//! The tables of `trial`.

use jwks_server::clock::{Clock as _, SystemClock};
use jwks_server::trial::{Case, Forge, Grade, TrialStage, cases};
use serde_json::{Map, json};

fn forge() -> Forge {
    let [issuer, elsewhere] = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(str::to_owned);
    Forge::new(issuer, Some("api".to_owned()), Map::new(), elsewhere).unwrap()
}

#[test]
fn each_case_has_a_token_of_its_own_and_names_a_section() {
    let (forge, now) = (forge(), SystemClock::new().now());
    let cases = cases().unwrap();
    let mut ids: Vec<_> = cases.iter().map(|case| &case.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), cases.len());
    for case in &cases {
        let has_section = case.rfc.starts_with("RFC ") || case.rfc.starts_with("OpenID Connect");
        assert!(has_section, "{}", case.rfc);
        // No MUST is OpenID's alone: a verifier of other tokens does not know it.
        assert!(case.rfc.starts_with("RFC ") || case.grade < Grade::Must);
        if case.stage() == TrialStage::Tokens {
            forge.token(case, now).unwrap();
        }
    }
}

/// Users keep these in their lists of known findings: none changes or goes.
const IDS: &str = include_str!("trial_ids.txt");

#[test]
fn each_case_keeps_its_id() {
    let cases = cases().unwrap();
    let now: Vec<_> = cases.iter().map(|case| case.id.as_str()).collect();
    let lost: Vec<_> = IDS.lines().filter(|id| !now.contains(id)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let ids: Vec<_> = IDS.lines().collect();
    let new: Vec<_> = now.iter().filter(|id| !ids.contains(id)).collect();
    assert!(new.is_empty(), "add to trial_ids.txt: {new:?}");
}

#[test]
fn a_typo_in_the_table_is_refused() {
    let (forge, now) = (forge(), SystemClock::new().now());
    for (value, expected) in [
        (json!("@now-1"), true),
        (json!("@now+1.5"), true),
        (json!("@nwo-1"), false),
        (json!("@now1"), false),
        (json!("@now-1.x"), false),
        (json!("@nul"), false),
        (json!("@1e4000"), false),
        (json!("@text-x"), false),
        (json!("$iss/"), true),
        (json!(["$isss"]), false),
        (json!({"$kid3": 1}), false),
    ] {
        let case = json!({
            "id": "x", "grade": "must", "rfc": "RFC 7519 2", "what": "x", "claims": {"x": value},
        });
        let case: Case = serde_json::from_value(case).unwrap();
        assert_eq!(forge.token(&case, now).is_ok(), expected, "{value}");
    }
}
