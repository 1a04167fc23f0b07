//! Characters of text that strangers wrote. Uses nothing else of this crate.

/// Text with every character escaped that is not plain.
pub(crate) fn plain(text: &str) -> String {
    let shown = |c: char| match is_plain(c) {
        true => c.to_string(),
        false => c.escape_unicode().to_string(),
    };
    text.chars().map(shown).collect()
}

/// False for what a terminal obeys or does not show: control characters, marks
/// that turn the direction of text, and the like.
pub(crate) fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') || c.escape_debug().len() == 1
}
