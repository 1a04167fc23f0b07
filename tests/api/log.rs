//! The log lines of a test's own thread, at every level.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

thread_local! {
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Must come before the first event of any thread: tracing decides once, for all
/// threads, whether a call site is enabled.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Thread)
            .init();
    });
}

pub fn capture() {
    CAPTURED.set(Some(Vec::new()));
}

/// Text that was logged since [`capture`].
pub fn captured() -> String {
    String::from_utf8(CAPTURED.take().unwrap()).unwrap()
}

struct Thread;

impl io::Write for Thread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow_mut(|captured| {
            if let Some(captured) = captured {
                captured.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
