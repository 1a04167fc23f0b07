//! The file `.env`: one `NAME=value` a line, parsed by dotenvy.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::ConfigError;

pub const FILE: &str = ".env";

const MAX_BYTES: usize = 64 * 1024;

/// The text of a file, and a reason for which other users may have written it.
type Text = (Zeroizing<String>, Option<String>);

/// Reads the file at `path`; none when there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Text>, ConfigError> {
    let shown = path.display();
    // Capacity for all of it, so that growing leaves no copy of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    let failed = |e: io::Error| ConfigError::new(format!("{shown} cannot be read: {e}"));
    // Without waiting for the other end of a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(failed(e.into())),
    };
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(ConfigError::new(format!("{shown} is not a regular file")));
    }
    let user = rustix::process::geteuid().as_raw();
    let open_to_others = match (meta.mode() & 0o777, meta.uid()) {
        (mode, _) if mode & 0o022 != 0 => Some(format!(
            "users other than its owner may write to {shown} (mode {mode:o}): chmod 600 {shown}"
        )),
        (_, owner) if owner != 0 && owner != user => Some(format!(
            "{shown} belongs to user {owner}, who may change it, and not to root or to user {user}: chown it"
        )),
        _ => None,
    };
    let read = file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(failed)?;
    if bytes.len() > MAX_BYTES {
        let text = format!("{shown} is larger than {MAX_BYTES} bytes");
        return Err(ConfigError::new(text));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if !text.contains('\0') => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            Ok(Some((Zeroizing::new(text.to_owned()), open_to_others)))
        }
        _ => Err(ConfigError::new(format!(
            "{shown} is not UTF-8 text; save it as UTF-8 (not UTF-16)"
        ))),
    }
}

/// The variables of a `.env` text in their order. Each line is parsed by itself,
/// so that a stray quote cannot swallow the lines after it. An error names the
/// line by its number and does not show it: it may hold a secret.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match dotenvy::from_read_iter(literal(line).as_bytes()).next() {
            None => {}
            Some(Ok(variable)) => variables.push(variable),
            Some(Err(_)) => {
                return Err(ConfigError::new(format!(
                    "{FILE} line {number} is not of the form NAME=value, with quotes around a value that has spaces, quotes or backslashes"
                )));
            }
        }
    }
    Ok(variables)
}

/// The line without its comment, which dotenvy would search for quotes, and with
/// each `$` escaped: dotenvy would put the value of a variable there.
fn literal(line: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * line.len() + 2));
    let (mut quote, mut is_escaped, mut before) = (None, false, ' ');
    for c in line.chars() {
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (None, '#') if before.is_whitespace() => break,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (None | Some('"'), '\\') => is_escaped = true,
            (None | Some('"'), '$') => text.push('\\'),
            _ => {}
        }
        text.push(c);
        before = c;
    }
    // dotenvy drops a backslash that nothing follows, and refuses this pair.
    text.push_str(if is_escaped { "?\n" } else { "\n" });
    text
}
