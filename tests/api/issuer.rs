//! Texts that are issuer identifiers, and others.

use jwks_server::domain::issuer::Issuer;

#[test]
fn https_anywhere_and_http_on_loopback_are_issuers() {
    for (text, path, key_set) in [
        ("https://a.example", "", "https://a.example/k"),
        ("https://a.example/", "", "https://a.example/k"),
        (
            "https://a.example:8443/t/1",
            "/t/1",
            "https://a.example:8443/t/1/k",
        ),
        ("http://localhost:8080", "", "http://localhost:8080/k"),
        (
            "http://127.0.0.1:8080/x/",
            "/x",
            "http://127.0.0.1:8080/x/k",
        ),
        ("http://[::1]:8080", "", "http://[::1]:8080/k"),
    ] {
        let issuer = Issuer::parse(text).unwrap();
        assert_eq!(
            (issuer.as_str(), issuer.path(), issuer.join("/k").as_str()),
            (text, path, key_set)
        );
    }
}

#[test]
fn other_texts_are_not() {
    for text in [
        "",
        "a.example",
        "http://a.example",
        "ftp://a.example",
        "https://",
        "https:///x",
        "https://u@a.example",
        "https://a.example:+443",
        "https://a.example:",
        "https://a.example?x",
        "https://a.example/#x",
        "https://a.example//x",
        "https://a.example/../x",
        "https://a.example/{x}",
        "https://a.example:99999",
        "https://a b.example",
        "http://127.0.0.1.example",
        "https://[::1",
        "https://::1",
        "https://a..b",
        "https://[a.example]",
    ] {
        assert!(Issuer::parse(text).is_err(), "{text}");
    }
}
