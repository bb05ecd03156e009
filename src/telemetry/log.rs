//! Where log lines go. What is logged at which level is written down in `lib.rs`.
//!
//! No thread that has mail in its hands writes them: a pipe that nobody reads, or a journald that hangs, would stop
//! it, and mail with it. Lines wait in a queue for a thread of their own.

mod journald;
mod queue;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::json;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use journald::Journald;
use queue::{Orders, Queue};

/// The log of this process, once it is started.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Writes one line, for as long as it takes.
type Sink = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// In what form, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One line of text an event, on standard error.
    #[default]
    Text,
    /// One JSON object an event, on standard error.
    Json,
    /// To journald, with its fields.
    Journald,
}

/// Could not start to log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// journald's socket is not there.
    #[error("cannot reach journald: {0}; set [log] format to \"text\" or \"json\"")]
    Journald(#[source] io::Error),
    /// Somebody else in this process logs already.
    #[error("the log was started twice")]
    Started,
    /// There is no thread to be had for it.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[source] io::Error),
}

/// A log that takes lines and keeps them until somebody writes them ([`Log::write`]).
#[must_use]
pub struct Log {
    queue: Arc<Queue>,
    orders: Orders,
    sink: Sink,
    format: Format,
}

/// Starts logging for the whole process. To be called once.
pub fn start(format: Format, level: Level) -> Result<Log, LogError> {
    let (queue, orders) = Queue::new();
    let lines = tracing_subscriber::fmt::layer().with_writer(Arc::clone(&queue));
    let layer = match format {
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).with_target(false).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Journald => Journald(Arc::clone(&queue)).boxed(),
    };
    let sink: Sink = match format {
        Format::Text | Format::Json => Box::new(|line| io::stderr().write_all(line)),
        Format::Journald => {
            Box::new(journald::connect(Path::new(journald::SOCKET)).map_err(LogError::Journald)?)
        }
    };
    let logging = tracing_subscriber::registry().with(layer.with_filter(LevelFilter::from_level(level)));
    logging.try_init().map_err(|_| LogError::Started)?;
    // Whoever starts the log twice has failed above.
    let _ = QUEUE.set(Arc::clone(&queue));
    Ok(Log { queue, orders, sink, format })
}

impl Log {
    /// Starts the thread that writes. What comes of it writes out what is left, when it is dropped.
    pub fn write(self) -> Result<Writing, LogError> {
        let thread = std::thread::Builder::new().name("log".to_owned());
        let queue = Arc::clone(&self.queue);
        thread.spawn(move || queue.write(self.orders, self.sink)).map_err(LogError::Thread)?;
        Ok(Writing { queue: self.queue, format: self.format })
    }
}

/// A log that is being written. Dropped, it waits a moment for the last lines.
#[must_use]
pub struct Writing {
    queue: Arc<Queue>,
    format: Format,
}

impl Writing {
    /// Says something to whoever started becalm, in its place among the lines: as text as it is, without time and
    /// level; else as a line like any other, whatever level is logged. `at`: RFC 3339.
    pub fn say(&self, level: Level, at: &str, text: &str) {
        self.queue.put(match self.format {
            Format::Text => format!("{text}\n").into_bytes(),
            Format::Json => {
                format!("{}\n", json!({ "timestamp": at, "level": level.as_str(), "message": text }))
                    .into_bytes()
            }
            Format::Journald => journald::entry(level, text),
        });
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.queue.flush();
    }
}

/// How many lines of this process were lost: nobody read them in time, or they could not be written.
pub fn lost() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lost())
}
