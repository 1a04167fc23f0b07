//! Tables and escapes.

use super::*;

#[test]
fn a_table_may_have_cells_of_any_length() {
    let (long, short) = ("x".repeat(70_000), "y".to_owned());
    let rows = vec![
        vec![long.clone(), short.clone()],
        vec![short.clone(), short],
    ];
    let shown = table(&["A", "B"], rows.into_iter(), None);
    let padded = format!("y{}y", " ".repeat(MAX_COLUMN + 1));
    let lines: Vec<_> = shown.lines().skip(1).collect();
    assert_eq!(lines, [format!("{long}  y"), padded]);
}

#[test]
fn a_line_wraps_between_words_where_enough_columns_are_left_for_its_text() {
    let begin = "ok    accepted     must   alg-none               ";
    let text = format!("{begin}a token without a signature is accepted");
    let shown = |columns| line(&text, begin.len(), columns);
    let whole = format!("{text}\n");
    assert_eq!(shown(None), whole);
    assert_eq!(shown(Some(88)), whole);
    let at_80 = format!("{begin}a token without a signature is\n{:26}accepted\n", "");
    assert_eq!(shown(Some(80)), at_80);
    let at_45 = format!(
        "ok    accepted must   alg-none\n{0:15}a token without a signature is\n{0:15}accepted\n",
        ""
    );
    assert_eq!(shown(Some(45)), at_45);
    assert_eq!(shown(Some(20)), whole);
}

#[test]
fn a_table_wraps_the_cells_of_its_widest_column() {
    let name = "an account with a name of more than forty characters";
    let rows = || std::iter::once(vec!["1".to_owned(), name.to_owned()]);
    let shown = |columns| table(&["ID", "NAME"], rows(), columns);
    let whole = format!("ID  NAME\n1   {name}\n");
    assert_eq!(shown(None), whole);
    assert_eq!(shown(Some(80)), whole);
    let at_45 = "ID  NAME\n1   an account with a name of more than forty\n    characters\n";
    assert_eq!(shown(Some(45)), at_45);
    let at_20 =
        "ID  NAME\n1   an account with\n    a name of more\n    than forty\n    characters\n";
    assert_eq!(shown(Some(20)), at_20);
}

#[test]
fn what_a_terminal_obeys_is_escaped_and_the_value_stays_the_same() {
    let odd = "\u{7f}\u{85}\u{9b}31m\u{202e}\u{2028}\u{2066}\u{e0041}\u{feff}";
    let json = serde_json::to_string(odd).unwrap();
    let safe = escaped(&json);
    let shown = r#""\u007f\u0085\u009b31m\u202e\u2028\u2066\udb40\udc41\ufeff""#;
    assert_eq!(safe, shown);
    assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), odd);
    let plain = "a \"é 名\u{1f600}\n";
    assert_eq!(escaped(plain), plain);
}
