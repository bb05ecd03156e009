//! Where log lines go. What is logged at which level is written down in `lib.rs`.

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
    Journald(#[source] std::io::Error),
    /// Somebody else in this process logs already.
    #[error("the log was started twice")]
    Started,
}

/// Starts logging for the whole process. To be called once.
pub fn start(format: Format, level: Level) -> Result<(), LogError> {
    let filter = LevelFilter::from_level(level);
    let layer = match format {
        Format::Text => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_target(false)
            .boxed(),
        Format::Json => {
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).boxed()
        }
        Format::Journald => tracing_journald::layer()
            .map_err(LogError::Journald)?
            // The mail facility of syslog(3): where mail operators look.
            .with_custom_fields([("SYSLOG_FACILITY", "2")])
            .with_syslog_identifier("becalm".to_owned())
            .boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().map_err(|_| LogError::Started)
}
