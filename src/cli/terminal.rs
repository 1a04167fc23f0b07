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
#[path = "../../tests/unit/terminal.rs"]
mod tests;
