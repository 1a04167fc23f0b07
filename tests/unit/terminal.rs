//! Tables and escapes.

use super::*;

#[test]
fn a_table_may_have_cells_of_any_length() {
    let (long, short) = ("x".repeat(70_000), "y".to_owned());
    let rows = vec![
        vec![long.clone(), short.clone()],
        vec![short.clone(), short],
    ];
    let shown = table(&["A", "B"], rows.into_iter());
    let padded = format!("y{}y", " ".repeat(MAX_COLUMN + 1));
    let lines: Vec<_> = shown.lines().skip(1).collect();
    assert_eq!(lines, [format!("{long}  y"), padded]);
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
