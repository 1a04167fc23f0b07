//! User names and e-mail addresses that are accepted, and as what.

use jwks_server::domain::names::{Email, Username};

#[test]
fn plain_names_come_back_byte_for_byte() {
    for name in [
        "alice",
        "Alice",
        "userABC",
        "a",
        "jürgen",
        "名前",
        "o'neil-x_y.z+1@b",
        &"x".repeat(128),
    ] {
        assert_eq!(Username::parse(name).unwrap().as_str(), name);
    }
}

#[test]
fn names_are_composed_and_width_mapped() {
    assert_eq!(Username::parse("ju\u{308}rgen").unwrap().as_str(), "jürgen");
    assert_eq!(Username::parse("ａlice").unwrap().as_str(), "alice");
}

#[test]
fn names_with_spaces_control_or_format_characters_are_refused() {
    for name in [
        "",
        " ",
        "\t",
        "alice ",
        " alice",
        "al ice",
        "\u{a0}",
        "a\0b",
        "x\ny",
        "x\u{1b}[31m",
        "\u{202e}gnp",
        "ali\u{200b}ce",
        "a\u{7f}",
        "a\u{85}",
        "a\u{feff}",
        "a\u{2066}b",
        "\u{3000}",
        &"x".repeat(129),
        &"é".repeat(65),
    ] {
        assert!(Username::parse(name).is_err(), "{name:?}");
    }
}

#[test]
fn addresses_keep_their_local_part_and_lose_the_case_of_their_domain() {
    for (sent, kept) in [
        ("Alice@Example.COM", "Alice@example.com"),
        ("a@t.invalid", "a@t.invalid"),
        ("a@localhost", "a@localhost"),
        ("a.b+c@x.org", "a.b+c@x.org"),
        ("a@b\u{fc}cher.de", "a@xn--bcher-kva.de"),
        ("a@XN--BCHER-KVA.de", "a@xn--bcher-kva.de"),
        ("a@[127.0.0.1]", "a@[127.0.0.1]"),
    ] {
        assert_eq!(Email::parse(sent).unwrap().into_forms().0, kept);
    }
}

#[test]
fn other_texts_are_no_addresses() {
    for text in [
        "",
        " ",
        "x",
        "@",
        "a@",
        "@b",
        "a@b@c",
        " a@b.c",
        "a@b.c ",
        "a\0@b.c",
        "a\u{200b}@b.c",
        "a@b.c\n",
        "a\u{202e}@b.c",
        "Alice <a@b.c>",
        &format!("{}@b.c", "x".repeat(260)),
    ] {
        assert!(Email::parse(text).is_err(), "{text:?}");
    }
}
