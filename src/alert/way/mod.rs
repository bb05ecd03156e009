//! The ways that alerts travel. Each call makes one attempt, blocks for a bounded time, and says what to do about a
//! failure.

mod command;
mod mail;
mod webhook;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Alert;
use super::letter::{self, LetterError};
use super::notice::Notice;
use super::settings::{MailSettings, Means, Way};
use crate::quarantine::mark::Marker;
use crate::time::Timestamp;

/// A password or a token is a line.
const MAX_SECRET: u64 = 8 * 1024;

/// What is to be delivered, to one place.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// What is in it.
    pub content: Content,
    /// Of an alert by mail: the recipient.
    pub to: Option<String>,
}

/// An alert or a notice.
#[derive(Clone, Debug)]
pub enum Content {
    /// To operators.
    Alert(Arc<Alert>),
    /// To an author; with an id of its own.
    Notice(Arc<Notice>, String),
}

impl Content {
    /// For logs.
    pub fn id(&self) -> &str {
        match self {
            Self::Alert(alert) => &alert.id,
            Self::Notice(_, id) => id,
        }
    }
}

/// An attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Another may succeed.
    Later(String),
    /// No other will, before somebody mends something.
    Never(String),
}

impl Failure {
    /// What went wrong, and the remedy.
    pub fn why(&self) -> &str {
        match self {
            Self::Later(why) | Self::Never(why) => why,
        }
    }
}

/// What every parcel that goes by mail needs.
#[derive(Clone)]
pub struct Stationery {
    /// This node's name.
    pub node: String,
    /// Marks becalm's own mail, with the key of the moment; none: there is no key, and mail goes without.
    pub marker: Option<Arc<ArcSwap<Marker>>>,
}

/// The parcels of an alert: one for each recipient of a mail.
pub fn parcels(way: &Way, alert: &Arc<Alert>) -> Vec<Parcel> {
    let parcel = |to| Parcel { content: Content::Alert(Arc::clone(alert)), to };
    match &way.means {
        Means::Mail(mail) => mail.to.iter().map(|to| parcel(Some(to.clone()))).collect(),
        Means::Webhook { .. } | Means::Command { .. } => vec![parcel(None)],
    }
}

/// One attempt.
///
/// # Errors
/// What failed, and whether another attempt makes sense.
pub fn deliver(way: &Way, parcel: &Parcel, stationery: &Stationery, now: Timestamp) -> Result<(), Failure> {
    match (&way.means, &parcel.content) {
        (Means::Webhook { url, token_file, body }, Content::Alert(alert)) => {
            webhook::post(url, token_file.as_deref(), *body, alert, way.timeout)
        }
        (Means::Command { argv }, Content::Alert(alert)) => command::run(argv, alert, way.timeout),
        (Means::Mail(settings), content) => {
            let letter = write(settings, content, parcel.to.as_deref(), stationery, now)
                .map_err(|error| Failure::Never(error.to_string()))?;
            mail::send(settings, &letter, way.timeout)
        }
        // Notices are made for mail alone.
        (_, Content::Notice(..)) => Err(Failure::Never("a notice goes by mail".to_owned())),
    }
}

/// Where a parcel goes, for people. Of a URL only the server: its path may be a secret.
pub fn place(way: &Way, parcel: &Parcel) -> String {
    match &way.means {
        Means::Webhook { url, .. } => url.split('/').take(3).collect::<Vec<_>>().join("/"),
        Means::Command { argv } => argv.first().cloned().unwrap_or_default(),
        Means::Mail(mail) => {
            format!("{} by {}:{}", parcel.to.as_deref().unwrap_or_default(), mail.host, mail.port)
        }
    }
}

fn write(
    settings: &MailSettings,
    content: &Content,
    to: Option<&str>,
    stationery: &Stationery,
    now: Timestamp,
) -> Result<letter::Letter, LetterError> {
    let marker = stationery.marker.as_ref().map(|marker| marker.load_full());
    let marker = marker.as_deref();
    match content {
        Content::Alert(alert) => letter::alert(alert, &settings.from, to.unwrap_or_default(), marker, now),
        Content::Notice(notice, id) => {
            letter::notice(notice, &settings.from, &stationery.node, id, marker, now)
        }
    }
}

/// The one line in a file, which may have been changed since the last attempt.
fn secret(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_SECRET).read_to_string(&mut text));
    let trouble = |why: String| {
        Failure::Later(format!("{}: {why}; becalm's own user must be able to read it", path.display()))
    };
    read.map_err(|error| trouble(error.to_string()))?;
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(trouble("it is not one line of text".to_owned()));
    }
    Ok(text.to_owned())
}

/// At most `most` characters, for the log; nothing that commands a terminal.
fn printable(text: &str, most: usize) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}
