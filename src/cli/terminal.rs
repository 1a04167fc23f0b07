//! Text for terminals.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::stdout;
use std::sync::OnceLock;

use serde_json::Value;

use crate::text::is_plain;
pub(super) use crate::text::plain;

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

/// Columns of the terminal that standard output is; unset where it is none, so that a
/// program reads one row a line.
static COLUMNS: OnceLock<usize> = OnceLock::new();
/// Smallest width used; smaller reported widths are taken as this.
const MIN_COLUMNS: usize = 20;
/// Narrowest text of a finding; a terminal with less left breaks the line by itself.
const MIN_TEXT: usize = 20;

/// Has tables and findings wrap at the width of the terminal, if there is one.
pub(super) fn fit() {
    if let Some((width, _)) = terminal_size::terminal_size_of(stdout()) {
        let _ = COLUMNS.set(usize::from(width.0).max(MIN_COLUMNS));
    }
}

/// The width to wrap at, if there is one.
pub(super) fn columns() -> Option<usize> {
    COLUMNS.get().copied()
}

/// A line that goes on in the next one, between words, indented by `indent` or a third of
/// the columns, where these are too few.
pub(super) fn line(text: &str, indent: usize, columns: Option<usize>) -> String {
    let columns = columns.unwrap_or(usize::MAX);
    let indent = indent.min(columns / 3);
    let width = columns - indent;
    if width < MIN_TEXT {
        return format!("{text}\n");
    }
    let (first, rest) = text.split_at(offset(text, indent));
    let parts = wrapped(rest, width);
    let begun = |(n, part): (usize, String)| match n {
        0 => format!("{first}{}\n", part.trim_end()),
        _ => format!("{:indent$}{}\n", "", part.trim_end()),
    };
    parts.into_iter().enumerate().map(begun).collect()
}

/// Bytes of the first `count` characters, colours aside.
fn offset(text: &str, count: usize) -> usize {
    let (mut seen, mut is_colour) = (0, false);
    for (at, c) in text.char_indices() {
        is_colour |= c == '\x1b';
        if is_colour {
            is_colour = c != 'm';
        } else if seen == count {
            return at;
        } else {
            seen += 1;
        }
    }
    text.len()
}

/// Lines of at most `width` characters; longer words are broken.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut length) = (vec![String::new()], 0);
    let mut push = |part: &str, count: usize| {
        if length > 0 && length + count > width {
            lines.push(String::new());
            length = 0;
        }
        if let Some(line) = lines.last_mut() {
            let part = if length == 0 { part.trim_start() } else { part };
            line.push_str(part);
            length += part.chars().count();
        }
    };
    // Each with the space before it.
    let mut start = 0;
    let ends = text.match_indices(' ').map(|(at, _)| at);
    for end in ends.chain([text.len()]) {
        let word: Vec<char> = text[start..end].chars().collect();
        for piece in word.chunks(width) {
            push(&piece.iter().collect::<String>(), piece.len());
        }
        start = end;
    }
    lines
}

/// Widths of columns that fit into `columns` together with the spaces between them: down
/// to each list of `floors` in turn, the one farthest above its floor first.
fn narrowed(mut widths: Vec<usize>, floors: [Vec<usize>; 3], columns: usize) -> Vec<usize> {
    let room = columns.saturating_sub(2 * widths.len().saturating_sub(1));
    for floor in floors {
        while widths.iter().sum::<usize>() > room {
            let above = |&n: &usize| widths[n].saturating_sub(floor[n]);
            let farthest = (0..widths.len()).max_by_key(above);
            match farthest.filter(|n| above(n) > 0) {
                Some(n) => widths[n] -= 1,
                None => break,
            }
        }
    }
    widths
}

/// Widest column that cells are padded to. Another program may have written any text
/// into the database, and formatting with a width over 65,535 panics.
const MAX_COLUMN: usize = 256;

/// Columns as wide as their widest cell.
pub(super) fn table(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    columns: Option<usize>,
) -> String {
    let header = header.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |n: usize| lines.iter().map(|line| line[n].chars().count()).max();
    let widths = (0..lines[0].len()).map(|n| width(n).unwrap_or(0).min(MAX_COLUMN));
    let mut widths: Vec<_> = widths.collect();
    if let Some(columns) = columns {
        let longest = |cell: &str| cell.split(' ').map(|word| word.chars().count()).max();
        let word = |n: usize| lines.iter().filter_map(|line| longest(&line[n])).max();
        let words = (0..widths.len()).map(|n| word(n).unwrap_or(0));
        let words: Vec<_> = words.collect();
        // The header is broken before what is under it.
        let cell = |n: usize| lines[1..].iter().map(|line| line[n].chars().count()).max();
        let cells = words.iter().enumerate();
        let cells = cells
            .map(|(n, &word)| cell(n).unwrap_or(0).max(word))
            .collect();
        let ones = vec![1; widths.len()];
        widths = narrowed(widths, [cells, words, ones], columns);
        return lines.iter().map(|line| rows_of(line, &widths)).collect();
    }
    lines.iter().map(|line| row(line, &widths)).collect()
}

fn row(cells: &[String], widths: &[usize]) -> String {
    let cells = cells.iter().zip(widths);
    let padded: Vec<_> = cells
        .map(|(cell, &width)| format!("{cell:width$}"))
        .collect();
    format!("{}\n", padded.join("  ").trim_end())
}

/// A row of a table whose cells may need several lines.
fn rows_of(cells: &[String], widths: &[usize]) -> String {
    let cells = cells.iter().zip(widths);
    let cells: Vec<_> = cells.map(|(cell, &width)| wrapped(cell, width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let nth = |n: usize| {
        let parts = cells.iter().map(|lines| lines.get(n).cloned());
        let parts: Vec<_> = parts.map(Option::unwrap_or_default).collect();
        row(&parts, widths)
    };
    (0..height).map(nth).collect()
}

#[cfg(test)]
#[path = "../../tests/unit/terminal.rs"]
mod tests;
