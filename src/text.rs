//! Characters of text that strangers wrote. Uses nothing else of this crate.

/// False for what a terminal obeys or does not show: control characters, marks
/// that turn the direction of text, and the like.
pub(crate) fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') || c.escape_debug().len() == 1
}
