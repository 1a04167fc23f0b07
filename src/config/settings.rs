//! Where settings come from: the real environment first, then the file `.env`
//! of the working directory. The process environment is never changed.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::ConfigError;

/// The file's name.
pub const FILE: &str = ".env";

/// Bytes that the file may have, and a value in it. Values may name others, which
/// could double with every line.
const MAX_FILE: u64 = 64 * 1024;
const MAX_VALUE: usize = 16 * 1024;

/// Every variable that the service reads; others are none of its business.
const NAMES: [&str; 22] = [
    "NOT_MY_KEY",
    "PORT",
    "HOST",
    "APP_ENV",
    "FLASK_ENV",
    "DATABASE_URL",
    "TRUSTED_PROXIES",
    "ISSUER",
    "AUDIENCE",
    "KEY_LIFETIME",
    "TOKEN_LIFETIME",
    "KEY_LEAD",
    "CLOCK_SKEW",
    "KEY_RETENTION",
    "JWKS_MAX_AGE",
    "ARGON2_MEMORY_KIB",
    "ARGON2_PASSES",
    "ARGON2_LANES",
    "AUTH_RATE",
    "METRICS_ADDR",
    "DEMO_USER",
    "RUST_LOG",
];

/// Settings by name. Surrounding blanks are not part of a value, and an empty
/// value counts as not set.
#[derive(Default)]
pub struct Settings {
    /// Wiped when they are dropped: secrets are among them.
    values: HashMap<String, Zeroizing<String>>,
    empty: Vec<String>,
}

impl Settings {
    /// Reads the process environment and `.env` in `dir`.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let real = NAMES
            .iter()
            .filter_map(|name| std::env::var_os(name).map(|value| ((*name).to_owned(), value)));
        let file = read_file(&dir.join(FILE))?;
        Self::from_parts(real, file.as_deref().map(String::as_str))
    }

    /// Settings from the variables `real` and the text of a `.env` file.
    pub fn from_parts(
        real: impl IntoIterator<Item = (String, OsString)>,
        file: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        if let Some(text) = file {
            for (name, value) in parse(text)? {
                settings.set(name, value);
            }
        }
        for (name, value) in real {
            let value = value
                .into_string()
                .map_err(|_| ConfigError::new(format!("{name} in the environment is not UTF-8")))?;
            settings.set(name, value);
        }
        Ok(settings)
    }

    /// The value of a variable, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str())
    }

    /// The variables that are set, but empty, and have no value elsewhere.
    pub fn empty(&self) -> impl Iterator<Item = &str> {
        let names = self.empty.iter().map(String::as_str);
        names.filter(|name| NAMES.contains(name) && self.get(name).is_none())
    }

    /// Sets a variable, over all that was read.
    pub fn set(&mut self, name: String, value: String) {
        let value = Zeroizing::new(value);
        match value.trim() {
            "" => self.empty.push(name),
            value => {
                self.values.insert(name, Zeroizing::new(value.to_owned()));
            }
        }
    }
}

fn read_file(path: &Path) -> Result<Option<Zeroizing<String>>, ConfigError> {
    // Room for all of it, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    match File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(ConfigError::new(format!("{FILE} cannot be read: {e}"))),
    }
    if bytes.len() as u64 > MAX_FILE {
        return Err(ConfigError::new(format!("{FILE} is over {MAX_FILE} bytes")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        ConfigError::new(format!(
            "{FILE} is not UTF-8 text; save it as UTF-8 (not UTF-16)"
        ))
    })?;
    if text.contains('\0') {
        return Err(ConfigError::new(format!(
            "{FILE} has NUL characters; save it as UTF-8 text"
        )));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(Some(Zeroizing::new(text.to_owned())))
}

/// The variables of a `.env` text in their order; of several with one name the
/// last counts.
fn parse(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let lines_read = Rc::new(Cell::new(0));
    let reader = LineByLine {
        rest: text.as_bytes(),
        at_line_start: true,
        lines: Rc::clone(&lines_read),
    };
    dotenvy::from_read_iter(reader)
        .map(|item| {
            let (name, value) = item.map_err(|e| {
                // The parser names neither the line's number nor keeps the
                // line to itself, which may hold a secret.
                let within = match &e {
                    dotenvy::Error::LineParse(item, _) => item.trim_end().matches('\n').count(),
                    _ => 0,
                };
                let line = lines_read.get().saturating_sub(within).max(1);
                ConfigError::new(format!(
                    "{FILE} line {line} is not of the form NAME=value, with quotes around a value that has blanks"
                ))
            })?;
            if value.len() > MAX_VALUE {
                return Err(ConfigError::new(format!(
                    "{FILE} line {} has a value over {MAX_VALUE} bytes",
                    lines_read.get()
                )));
            }
            Ok((name, value))
        })
        .collect()
}

/// Hands out one line a read, so that the lines which the parser has taken can
/// be counted. The last one always ends, or the parser would take trailing
/// blanks for an unfinished value.
struct LineByLine<'a> {
    rest: &'a [u8],
    at_line_start: bool,
    lines: Rc<Cell<usize>>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            if self.at_line_start || buf.is_empty() {
                return Ok(0);
            }
            self.at_line_start = true;
            buf[0] = b'\n';
            return Ok(1);
        }
        if self.at_line_start {
            self.lines.set(self.lines.get() + 1);
        }
        let end = self
            .rest
            .iter()
            .position(|&b| b == b'\n')
            .map_or(self.rest.len(), |i| i + 1);
        let n = end.min(buf.len());
        buf[..n].copy_from_slice(&self.rest[..n]);
        self.at_line_start = buf[..n].ends_with(b"\n");
        self.rest = &self.rest[n..];
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn from_file(text: &str) -> Result<Settings, ConfigError> {
        Settings::from_parts([], Some(text))
    }

    #[test]
    fn fr_30_every_spelling_of_a_line_gives_the_same_value() {
        for text in [
            format!("NOT_MY_KEY={KEY}"),
            format!("NOT_MY_KEY={KEY}\n"),
            format!("NOT_MY_KEY={KEY}\r\nPORT=1\r\n"),
            format!("export NOT_MY_KEY={KEY}\n"),
            format!("NOT_MY_KEY=\"{KEY}\"\n"),
            format!("NOT_MY_KEY='{KEY}'\r\n"),
            format!("   NOT_MY_KEY={KEY}\n"),
            format!("NOT_MY_KEY = {KEY}\n"),
            format!("NOT_MY_KEY={KEY}   \n"),
            format!("NOT_MY_KEY={KEY}   "),
            format!("NOT_MY_KEY={KEY} # mine\n"),
            format!("  export NOT_MY_KEY = \"{KEY}\"  # mine\n"),
            format!("# first\n\nPORT=1\n\tNOT_MY_KEY={KEY}"),
            format!("NOT_MY_KEY=old\nNOT_MY_KEY={KEY}\n"),
        ] {
            let settings = from_file(&text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            assert_eq!(settings.get("NOT_MY_KEY"), Some(KEY), "{text:?}");
        }
    }

    #[test]
    fn fr_30_the_real_environment_wins_unless_it_is_empty() {
        let file = Some("PORT=18080\n");
        let with = |value: &str| {
            Settings::from_parts([("PORT".to_owned(), OsString::from(value))], file).unwrap()
        };
        assert_eq!(with("18081").get("PORT"), Some("18081"));
        assert_eq!(with("").get("PORT"), Some("18080"));
        assert_eq!(with(" 18081 ").get("PORT"), Some("18081"));
        assert_eq!(with("").empty().count(), 0);
    }

    #[test]
    fn values_that_double_with_every_line_are_refused_while_they_are_small() {
        let double = |n: u32| format!("A{}=${{A{n}}}${{A{n}}}\n", n + 1);
        let doubling: String = (0..40).map(double).collect();
        let error = from_file(&format!("A0=0123456789abcdef\n{doubling}")).err();
        // 16 bytes are 16 KiB after ten doublings.
        let text = ".env line 12 has a value over 16384 bytes";
        assert_eq!(error.map(|e| e.to_string()).as_deref(), Some(text));
    }

    #[test]
    fn a_malformed_line_is_named_by_its_number_and_not_shown() {
        for (text, line) in [
            ("SECRET\n", 1),
            ("PORT=1\n\n# x\nSECRET one\n", 4),
            ("PORT=1\nNOT_MY_KEY=SECRET# mine\n", 2),
            ("PORT=1\nNOT_MY_KEY=\"SECRET\nHOST=x\n", 2),
            ("PORT=1\r\nHOST=localhost\r\n=SECRET", 3),
            ("1SECRET=2", 1),
        ] {
            let error = from_file(text)
                .err()
                .unwrap_or_else(|| panic!("{text:?}"))
                .to_string();
            assert!(
                error.starts_with(&format!(".env line {line} ")),
                "{text:?}: {error}"
            );
            assert!(!error.contains("SECRET"), "{error}");
        }
    }
}
