//! Postfix's own configuration, as far as becalm depends on it: what `postconf` prints → facts → findings.
//!
//! Everything here is pure. The command that runs `postconf` and looks at the socket is `becalm check`.

mod alerts;
mod examine;
mod facts;
mod milters;
mod sites;
mod socket;

pub use self::examine::{examine, used_sockets};
pub use self::facts::{Facts, PARAMETERS, Service};
pub use self::milters::recommended_line;
pub use self::socket::{Identity, Node, examine_socket};
use super::diagnostic::Severity;

/// One thing found out about Postfix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `main.cf`, `smtp/inet`, a path.
    pub topic: String,
    /// What was found.
    pub message: String,
    /// The remedy; may have several lines.
    pub help: Option<String>,
}

impl Finding {
    /// Nothing to do.
    pub fn ok(topic: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, topic: topic.into(), message: message.into(), help: None }
    }

    /// Works, but probably not as meant.
    pub fn warning(topic: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, help: Some(help.into()), ..Self::ok(topic, message) }
    }

    /// Mail would pass becalm by, be lost or be late.
    pub fn error(topic: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::warning(topic, message, help) }
    }
}
