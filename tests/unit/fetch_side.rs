//! Which addresses commands may ask. A module of `src/cli/fetch/side.rs`.

use ureq::Agent;
use ureq::unversioned::transport::DefaultConnector;

use super::*;

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    let parsed = texts.iter().map(|text| text.parse().unwrap());
    parsed.collect()
}

#[test]
fn a_name_is_here_by_all_of_its_addresses_and_asked_on_its_own_side_only() {
    let (here, there) = (
        ["127.0.0.1:80", "[::1]:80"],
        ["192.0.2.1:80", "[2001:db8::1]:80"],
    );
    let mapped = [
        "[::ffff:127.0.0.1]:80",
        "0.0.0.0:80",
        "[::]:80",
        "127.1.2.3:80",
    ];
    let mixed = [&here[..], &there].concat();
    for (texts, side, asked) in [
        (&here[..], Side::Here, &here[..]),
        (&mapped, Side::Here, &mapped),
        (&there, Side::Elsewhere, &there),
        (&mixed, Side::Elsewhere, &there),
        (&[], Side::Elsewhere, &[]),
    ] {
        let found = addresses(texts);
        assert_eq!(Side::by(found.iter().copied()), side, "{texts:?}");
        let kept: Vec<_> = found.into_iter().filter(|addr| side.has(addr)).collect();
        assert_eq!(kept, addresses(asked), "{texts:?}");
    }
    // One that was looked up again and has changed its side.
    assert!(!addresses(&there).iter().any(|addr| Side::Here.has(addr)));
    assert!(
        addresses(&mixed)
            .iter()
            .all(|addr| Side::NamedHere.has(addr))
    );
}

#[test]
fn a_name_says_by_itself_that_it_is_here() {
    for url in [
        "http://localhost:8080/x",
        "https://127.0.0.1",
        "http://[::1]:1/",
    ] {
        assert_eq!(Side::of(url), Side::NamedHere, "{url}");
    }
    // Nothing is known of it, so it may not lead here.
    assert_eq!(Side::of("https:///"), Side::Elsewhere);
}

#[test]
fn a_request_is_not_sent_to_the_other_side() {
    let said = |side, of: &str, to: &str| {
        let sided = Sided {
            side,
            url: of.to_owned(),
            resolver: DefaultResolver::default(),
        };
        let agent = Agent::with_parts(Config::default(), DefaultConnector::default(), sided);
        agent.get(to).call().unwrap_err().to_string()
    };
    // Nobody listens on port 1.
    let (here, there) = ("http://127.0.0.1:1/", "http://192.0.2.1:1/");
    for (of, to) in [(there, here), (here, here)] {
        let why = said(Side::Elsewhere, of, to);
        assert!(why.contains("it leads to this machine"), "{why}");
    }
    let why = said(Side::Here, there, there);
    assert!(why.contains("it leads away from this machine"), "{why}");
    // It redirects to another host.
    for (side, of) in [
        (Side::Here, there),
        (Side::Here, here),
        (Side::NamedHere, here),
    ] {
        let why = said(side, of, here);
        assert!(why.contains("refused"), "{why}");
    }
}
