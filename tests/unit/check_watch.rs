//! What `check --watch` remembers of an issuer. A module of `src/cli/check/watch.rs`.

use super::*;

fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(1_800_000_000 + i64::try_from(secs).unwrap())
}

#[test]
fn an_issuer_of_many_or_long_kids_fills_no_memory() {
    let mut watch = Watch::new(Duration::from_secs(300), Duration::from_secs(10));
    for look in 0..2 * MAX_KEYS as u64 {
        let kids = [format!("{look}"), "x".repeat(MAX_KID + 1)];
        watch.set(&[kids.into()], at(look));
        watch.token(&format!("{look}"), at(look + 1000), at(look));
    }
    assert_eq!(watch.keys.len(), MAX_KEYS);
    assert!(watch.keys.keys().all(|kid| kid.len() <= MAX_KID));
    assert_eq!(watch.findings.len(), MAX_FINDINGS);
}

#[test]
fn what_is_said_again_is_said_once() {
    let mut watch = Watch::new(Duration::from_secs(300), Duration::from_secs(10));
    for look in 0..3 {
        watch.set(&[["a".to_owned()].into()], at(look));
        watch.token("b", at(look + 1000), at(look));
    }
    let findings = watch.findings();
    let failed = |it: &&(_, Finding)| matches!(it.1, Finding::Fail(..));
    assert_eq!(findings.iter().filter(failed).count(), 1);
}
