//! The log: lines on standard error, written by a thread of its own, so that a
//! slow or closed reader neither delays nor stops the service. Lines that do not
//! fit into the queue are dropped, and a later line has their number.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tracing::Level;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use super::terminal;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Config, ConfigError, Mode};
use crate::text::{is_plain, plain};

/// Capacity of the queue, bytes.
pub const MAX_QUEUED: usize = 4 * 1024 * 1024;
/// A line counts as at least this many, which bounds the number of lines too.
pub const MIN_LINE: usize = 64;

/// Starts the log. Dropping the guard writes the queued lines.
pub(super) fn start(config: &Config) -> Result<WorkerGuard, ConfigError> {
    let filter = match &config.log_filter {
        Some(filter) => filter.clone(),
        None => default_filter(config.mode),
    };
    let has_colors = io::stderr().is_terminal() && config::terminal::allows_colors();
    let form = match config.mode {
        Mode::Production => Form::Json,
        Mode::Development => Form::Text { has_colors },
    };
    let (lines, guard) = queue(io::stderr(), form);
    let lines = fmt::layer()
        .with_writer(move || lines.clone())
        .with_ansi(has_colors)
        // They would go to standard error, which is what has failed.
        .log_internal_errors(false);
    let lines = match config.mode {
        Mode::Development => lines.boxed(),
        Mode::Production => lines.json().flatten_event(true).boxed(),
    };
    // Libraries may show at level trace what a client has sent, secrets included.
    let no_library_traces =
        filter_fn(|line| *line.level() < Level::TRACE || line.target().starts_with("jwks_server"));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter.and(no_library_traces)))
        .try_init()
        .map_err(|e| ConfigError::new(format!("the log cannot be started: {e}")))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(guard)
}

fn default_filter(mode: Mode) -> Targets {
    let everywhere = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("refinery_core", LevelFilter::WARN);
    match mode {
        // The access log has frequent requests at level debug.
        Mode::Development => everywhere
            .with_target("jwks_server", LevelFilter::DEBUG)
            .with_target("jwks_server::http::access_log", LevelFilter::INFO),
        Mode::Production => everywhere,
    }
}

/// Form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Text { has_colors: bool },
}

impl Form {
    /// The line with every character escaped that a terminal obeys, but for its end and the
    /// colours: values may come from strangers, and begin what looks like a line of its own.
    fn safe(self, line: &str) -> Cow<'_, str> {
        let Self::Text { has_colors } = self else {
            return terminal::escaped(line);
        };
        let text = line.strip_suffix('\n').unwrap_or(line);
        if text.chars().all(is_plain) {
            return line.into();
        }
        let mut parts = text.split('\x1b');
        let mut safe = parts.next().map(plain).unwrap_or_default();
        for part in parts {
            let color = if has_colors { color_len(part) } else { 0 };
            let (color, rest) = part.split_at(color);
            safe += if color.is_empty() { "\\u{1b}" } else { "\x1b" };
            safe += color;
            safe += &plain(rest);
        }
        safe += &line[text.len()..];
        safe.into()
    }
}

/// Bytes of what sets a colour (ECMA-48, SGR) behind its escape character; 0 where it is
/// something else.
fn color_len(part: &str) -> usize {
    let Some(numbers) = part.strip_prefix('[') else {
        return 0;
    };
    let count = numbers
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b';');
    match count.count() {
        count if numbers[count..].starts_with('m') => count + 2,
        _ => 0,
    }
}

/// Start of the queue, and a guard of the thread at its end, which writes to `out`.
pub fn queue(out: impl Write + Send + 'static, form: Form) -> (QueuedLines, WorkerGuard) {
    let queued = Arc::new(AtomicUsize::new(0));
    let end = CountedWriter {
        out,
        queued: Arc::clone(&queued),
    };
    let builder = NonBlockingBuilder::default().buffered_lines_limit(MAX_QUEUED / MIN_LINE);
    let (queue, guard) = builder.finish(end);
    let start = QueuedLines {
        queue,
        queued,
        dropped: Arc::default(),
        form,
    };
    (start, guard)
}

/// Takes a whole line in each write, as the formatting layer gives them.
#[derive(Clone)]
pub struct QueuedLines {
    queue: NonBlocking,
    /// Bytes of the lines in the queue.
    pub queued: Arc<AtomicUsize>,
    /// Lines that did not fit, and that no line has told of.
    dropped: Arc<AtomicU64>,
    form: Form,
}

impl QueuedLines {
    /// False when there is no room.
    fn push(&mut self, line: &[u8]) -> io::Result<bool> {
        let size = line.len().max(MIN_LINE);
        if self.queued.fetch_add(size, Ordering::Relaxed) + size > MAX_QUEUED {
            self.queued.fetch_sub(size, Ordering::Relaxed);
            return Ok(false);
        }
        self.queue.write_all(line)?;
        Ok(true)
    }

    fn tell_of_dropped(&mut self) -> io::Result<()> {
        if self.dropped.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let lines = self.dropped.swap(0, Ordering::Relaxed);
        let message = "lines of the log were dropped, as they were read too slowly";
        let timestamp = SystemClock::new().now().rfc3339();
        let line = if self.form == Form::Json {
            let fields = serde_json::json!({
                "timestamp": timestamp, "level": "WARN", "message": message, "lines": lines,
            });
            format!("{fields}\n")
        } else {
            format!("{timestamp}  WARN {message} lines={lines}\n")
        };
        if !self.push(line.as_bytes())? {
            self.dropped.fetch_add(lines, Ordering::Relaxed);
        }
        Ok(())
    }
}

struct CountedWriter<W> {
    out: W,
    queued: Arc<AtomicUsize>,
}

impl Write for QueuedLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let safe = self.form.safe(&text);
        self.tell_of_dropped()?;
        if !self.push(safe.as_bytes())? {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Write for CountedWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.out.write_all(line);
        let size = line.len().max(MIN_LINE);
        self.queued.fetch_sub(size, Ordering::Relaxed);
        written.map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
