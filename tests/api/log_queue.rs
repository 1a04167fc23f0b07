//! The queue before the log's thread.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use jwks_server::cli::log::{MAX_QUEUED, MIN_LINE, queue};

/// Writes nothing before it may.
struct Slow {
    begin: mpsc::Receiver<()>,
    lines: mpsc::Sender<usize>,
}

impl Write for Slow {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.begin.recv();
        let _ = self.lines.send(line.len());
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
        let (mut start, guard) = queue(Slow { begin, lines }, true);
        let line = vec![b'x'; length];
        for _ in 0..2 * MAX_QUEUED / length.max(MIN_LINE) {
            start.write_all(&line).unwrap();
        }
        let queued = start.queued.load(Ordering::Relaxed);
        assert!(queued <= MAX_QUEUED && queued > MAX_QUEUED / 2, "{queued}");
        drop(release);
        drop(guard);
        let all: usize = written.try_iter().map(|size| size.max(MIN_LINE)).sum();
        assert_eq!(all, queued);
        assert_eq!(start.queued.load(Ordering::Relaxed), 0);
    }
}
