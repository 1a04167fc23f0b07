//! The file `.env`: read within bounds, taken apart by dotenvy, and refused
//! where a line would not mean what it says.

use std::cell::RefCell;
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

/// The text of the file at `path`; none when there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, ConfigError> {
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
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let begun = Rc::new(RefCell::new(Begun::default()));
    let reader = Lines {
        rest: text,
        line: b"",
        is_ended: true,
        quote: None,
        begun: Rc::clone(&begun),
    };
    let mut variables = Vec::new();
    for item in dotenvy::from_read_iter(reader) {
        let begun = begun.borrow();
        // The parser's own errors hold the line, which may be a secret, and
        // not its number.
        let (name, value) = item.map_err(|_| begun.malformed(variables.len()))?;
        if begun.lines.len() != variables.len() + 1 {
            return Err(begun.malformed(variables.len()));
        }
        if value.len() > MAX_VALUE {
            let line = begun.lines[variables.len()];
            return Err(ConfigError::new(format!(
                "{FILE} line {line} has a value over {MAX_VALUE} bytes"
            )));
        }
        variables.push((name, value));
    }
    let begun = begun.borrow();
    match begun.astray {
        Some(line) => Err(malformed(line)),
        None if begun.lines.len() != variables.len() => Err(begun.malformed(variables.len())),
        None => Ok(variables),
    }
}

/// Where variables begin, by our own count: what the parser makes of the text
/// must agree, or it has taken several lines for one.
#[derive(Default)]
struct Begun {
    /// Lines that have been handed out.
    read: usize,
    /// The number of the first line of each variable.
    lines: Vec<usize>,
    /// The first line with a quote that is not closed on it and was not opened
    /// at the beginning of a value: it is an apostrophe, and would swallow all
    /// lines up to the next one.
    astray: Option<usize>,
}

impl Begun {
    fn malformed(&self, variable: usize) -> ConfigError {
        let line = self.lines.get(variable).copied().unwrap_or(self.read);
        malformed(self.astray.map_or(line, |astray| astray.min(line)))
    }
}

fn malformed(line: usize) -> ConfigError {
    ConfigError::new(format!(
        "{FILE} line {line} is not of the form NAME=value, with quotes around a value that has blanks or quotes"
    ))
}

/// Hands out one line a read, so that what the parser has taken can be told,
/// and without remarks: the parser knows one only by a single blank before it, and
/// takes a quote within another for the beginning of a value. The last line
/// always ends, or trailing blanks would be taken for an unfinished value.
struct Lines<'a> {
    rest: &'a str,
    /// What is left to hand out of a line, and whether its end was.
    line: &'a [u8],
    is_ended: bool,
    /// The quote that is open.
    quote: Option<char>,
    begun: Rc<RefCell<Begun>>,
}

impl Lines<'_> {
    fn next_line(&mut self) {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.is_ended = false;
        let mut begun = self.begun.borrow_mut();
        begun.read += 1;
        let text = line.trim_start();
        let continues = self.quote.is_some();
        if !continues && !text.is_empty() && !text.starts_with('#') {
            let number = begun.read;
            begun.lines.push(number);
        }
        let scanned = scan(line, self.quote);
        let opens_a_value = |at: usize| line[..at].trim_end().ends_with('=');
        if scanned.quote.is_some() && scanned.opened.is_some_and(|at| !opens_a_value(at)) {
            let number = begun.read;
            begun.astray.get_or_insert(number);
        }
        self.line = &line.as_bytes()[..scanned.end];
        self.quote = scanned.quote;
    }
}

/// What a line does to quotes.
struct Scanned {
    /// Where it ends, or a remark begins: at a `#` outside of quotes that is
    /// the first of the line or follows a blank.
    end: usize,
    /// The quote that is open behind it, and where on this line it was opened.
    quote: Option<char>,
    opened: Option<usize>,
}

fn scan(line: &str, mut quote: Option<char>) -> Scanned {
    let mut opened = None;
    let mut before = ' ';
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => {
                return Scanned {
                    end: at,
                    quote,
                    opened,
                };
            }
            (None, '"' | '\'') => (quote, opened) = (Some(c), Some(at)),
            (Some(open), _) if c == open => quote = None,
            // What follows means itself.
            (None | Some('"'), '\\') => drop(chars.next()),
            _ => {}
        }
        before = c;
    }
    Scanned {
        end: line.len(),
        quote,
        opened,
    }
}

impl Read for Lines<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_ended {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_line();
        }
        if !self.line.is_empty() {
            return self.line.read(buf);
        }
        let Some(first) = buf.first_mut() else {
            return Ok(0);
        };
        *first = b'\n';
        self.is_ended = true;
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn variables(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"))
    }

    fn refusal(text: &str) -> String {
        let error = parse(text).err();
        error.unwrap_or_else(|| panic!("{text:?}")).to_string()
    }

    #[test]
    fn fr_30_every_spelling_of_a_line_gives_the_same_value() {
        for text in [
            format!("NOT_MY_KEY={KEY}"),
            format!("NOT_MY_KEY={KEY}\n"),
            format!("NOT_MY_KEY={KEY}\r\n"),
            format!("export NOT_MY_KEY={KEY}\n"),
            format!("NOT_MY_KEY=\"{KEY}\"\n"),
            format!("NOT_MY_KEY='{KEY}'\r\n"),
            format!("   NOT_MY_KEY={KEY}\n"),
            format!("NOT_MY_KEY = {KEY}\n"),
            format!("NOT_MY_KEY={KEY}   \n"),
            format!("NOT_MY_KEY={KEY}   "),
            format!("NOT_MY_KEY={KEY} # mine\n"),
            format!("  export NOT_MY_KEY = \"{KEY}\"  # mine\n"),
            format!("NOT_MY_KEY={KEY}  # it's mine\n"),
            format!("NOT_MY_KEY='{KEY}'\t\t# it's \"mine\n"),
            format!("# it's the first\n\n  # \"\n\tNOT_MY_KEY={KEY}"),
        ] {
            let expected = [("NOT_MY_KEY".to_owned(), KEY.to_owned())];
            assert_eq!(variables(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_quote_in_a_remark_takes_no_lines_with_it() {
        for blanks in [" ", "  ", "   ", "    ", "\t", "\t\t"] {
            let text = format!(
                "A=1{blanks}# it's one\nB=\"2 # \\\" '3\"{blanks}# \"two\r\nC='4  # 5'\nD=6#7{blanks}# it's\nE="
            );
            let expected = [
                ("A", "1"),
                ("B", "2 # \" '3"),
                ("C", "4  # 5"),
                ("D", "6#7"),
                ("E", ""),
            ];
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(variables(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_quoted_value_may_have_lines_and_names_of_others() {
        let text = "A='one'\nB=\"two\n # ${A}\nC=\"  # it's\nD=four";
        let expected = [("A", "one"), ("B", "two\n # one\nC="), ("D", "four")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables(text), expected);
    }

    #[test]
    fn values_that_double_with_every_line_are_refused_while_they_are_small() {
        let double = |n: u32| format!("A{}=${{A{n}}}${{A{n}}}\n", n + 1);
        let doubling: String = (0..40).map(double).collect();
        // 16 bytes are 16 KiB after ten doublings.
        assert_eq!(
            refusal(&format!("A0=0123456789abcdef\n{doubling}")),
            ".env line 12 has a value over 16384 bytes"
        );
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
            // Apostrophes that would take what is between them.
            ("A=1\nB=it's SECRET\nPORT=1\nC=it's\n", 2),
            ("A=1\nB=SECRET's\nPORT=1\nC='2'\n", 2),
            ("A='SECRET\\'\nPORT=1\nB='2'\n", 1),
            ("A=1\n\nB=\"2\" 'SECRET\nPORT=1\nC='3'\n", 3),
        ] {
            let error = refusal(text);
            assert!(
                error.starts_with(&format!(".env line {line} ")),
                "{text:?}: {error}"
            );
            assert!(!error.contains("SECRET"), "{error}");
        }
    }
}
