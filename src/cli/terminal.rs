//! Text for terminals.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

/// False for what a terminal obeys or does not show: control characters, marks
/// that turn the direction of text, and the like.
pub(super) fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') || c.escape_debug().len() == 1
}

/// A JSON document, in lines.
pub(super) fn document(value: &Value) -> String {
    format!("{}\n", escaped(&format!("{value:#}")))
}

/// JSON text with every character escaped that is not plain. JSON itself demands that
/// of C0 controls only.
pub(super) fn escaped(json: &str) -> Cow<'_, str> {
    let stays = |c: char| c == '\n' || is_plain(c);
    if json.chars().all(stays) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if stays(c) {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(text)
}

/// Text with every character escaped that is not plain.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| match is_plain(c) {
        true => c.to_string(),
        false => c.escape_unicode().to_string(),
    };
    text.chars().map(shown).collect()
}

/// Widest column that cells are padded to. Another program may have written any text
/// into the database, and formatting with a width over 65,535 panics.
const MAX_COLUMN: usize = 256;

/// Columns as wide as their widest cell.
pub(super) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |n: usize| lines.iter().map(|line| line[n].chars().count()).max();
    let widths = (0..lines[0].len()).map(|n| width(n).unwrap_or(0).min(MAX_COLUMN));
    let widths: Vec<_> = widths.collect();
    lines
        .iter()
        .map(|line| {
            let cells = line.iter().zip(&widths);
            let padded: Vec<_> = cells
                .map(|(cell, &width)| format!("{cell:width$}"))
                .collect();
            format!("{}\n", padded.join("  ").trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
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
}
