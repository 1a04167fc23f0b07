//! The queue before the log's thread.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use jwks_server::cli::log::{Form, MAX_QUEUED, MIN_LINE, queue};

/// Writes nothing before it may.
struct Slow {
    begin: mpsc::Receiver<()>,
    lines: mpsc::Sender<Vec<u8>>,
}

impl Write for Slow {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.begin.recv();
        let _ = self.lines.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_is_slow_costs_four_mebibytes_and_its_queue_is_free_again_afterwards() {
    for length in [1, 500, 64 * 1024] {
        let (release, begin) = mpsc::channel();
        let (lines, written) = mpsc::channel();
        let (mut start, guard) = queue(Slow { begin, lines }, Form::Json);
        let line = vec![b'x'; length];
        for _ in 0..2 * MAX_QUEUED / length.max(MIN_LINE) {
            start.write_all(&line).unwrap();
        }
        let queued = start.queued.load(Ordering::Relaxed);
        assert!(queued <= MAX_QUEUED && queued > MAX_QUEUED / 2, "{queued}");
        drop(release);
        drop(guard);
        let all: usize = written
            .try_iter()
            .map(|line| line.len().max(MIN_LINE))
            .sum();
        assert_eq!(all, queued);
        assert_eq!(start.queued.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn dropped_lines_are_told_of_when_there_is_room_again() {
    let (release, begin) = mpsc::channel();
    let (lines, written) = mpsc::channel();
    let (mut start, guard) = queue(Slow { begin, lines }, Form::Json);
    let line = vec![b'x'; 64 * 1024];
    for _ in 0..MAX_QUEUED / line.len() + 3 {
        start.write_all(&line).unwrap();
    }
    drop(release);
    for _ in 0..MAX_QUEUED / line.len() {
        written.recv().unwrap();
    }
    // The bytes are counted off right after the write.
    while start.queued.load(Ordering::Relaxed) > 0 {
        std::thread::yield_now();
    }
    start.write_all(b"later\n").unwrap();
    drop(guard);
    let told: serde_json::Value = serde_json::from_slice(&written.recv().unwrap()).unwrap();
    assert_eq!(
        (&told["level"], &told["lines"]),
        (&"WARN".into(), &3.into())
    );
    assert_eq!(written.recv().unwrap(), b"later\n");
}

#[test]
fn a_line_of_text_has_one_end_and_nothing_that_a_terminal_obeys_but_colors() {
    let colored = "\x1b[2mnow\x1b[0m \x1b[31mERROR\x1b[0m caf\u{e9}\n";
    for (has_colors, line, shown) in [
        (
            false,
            "now  INFO caf\u{e9} \"x\"\n",
            "now  INFO caf\u{e9} \"x\"\n",
        ),
        (false, "a\nnow  INFO b\n", "a\\u{a}now  INFO b\n"),
        (
            false,
            "a\x1b[31m\x1b]0;b\x07\n",
            "a\\u{1b}[31m\\u{1b}]0;b\\u{7}\n",
        ),
        (
            false,
            "\u{9b}31m\u{202e}\r\n",
            "\\u{9b}31m\\u{202e}\\u{d}\n",
        ),
        (true, colored, colored),
        (
            true,
            "\x1b[2ma\x1b[0m\nb\x1b[2J\x1b[1;1H\x1b[m\x1b\x1b[\n",
            "\x1b[2ma\x1b[0m\\u{a}b\\u{1b}[2J\\u{1b}[1;1H\x1b[m\\u{1b}\\u{1b}[\n",
        ),
    ] {
        let (release, begin) = mpsc::channel();
        let (lines, written) = mpsc::channel();
        let (mut start, guard) = queue(Slow { begin, lines }, Form::Text { has_colors });
        start.write_all(line.as_bytes()).unwrap();
        drop(release);
        drop(guard);
        let line = String::from_utf8(written.recv().unwrap()).unwrap();
        assert_eq!(line, shown);
    }
}
