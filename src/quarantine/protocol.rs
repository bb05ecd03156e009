//! What the daemon and its helper say to each other: lines of JSON over a unix socket.
//!
//! ```text
//! helper: {"is":"hello","version":1,"postfix":"3.7.11",…}            once, or {"is":"refused",…}
//! daemon: {"v":1,"verb":"release","id":"4jXc4x0HtRz1XDct"}
//! helper: {"is":"done","id":"4jXc4x0HtRz1XDct","said":["released from hold"]}
//! daemon: {"v":1,"verb":"list"}
//! helper: {"is":"held",…}  a line for each message that is ours
//! helper: {"is":"end","listed":2,"others":1}
//! ```

use serde::{Deserialize, Serialize};

use super::queue_id::{BadId, QueueId};

/// Of the words above. Another one is refused.
pub const VERSION: u32 = 1;

/// Longest request, with its line feed. A release has 60 bytes.
pub const MAX_REQUEST: usize = 512;

/// Longest reply: a message with sender and sixteen recipients of a kilobyte each, in JSON's longest spelling.
pub const MAX_REPLY: usize = 128 * 1024;

/// What the helper can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Which messages in the hold queue carry a mark of ours?
    List,
    /// Put a message of ours that is still in the queue on hold.
    Hold(QueueId),
    /// Let a held message of ours go, and have its delivery begin.
    Release(QueueId),
    /// Return a held message of ours to its sender.
    Return(QueueId),
    /// The same, where its mark says that it is at least so many seconds old: whoever asks may be wrong about that.
    Expire(QueueId, u64),
}

/// As it stands on the line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    v: u32,
    verb: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    older_than_s: Option<u64>,
}

impl Request {
    /// Reads a line, without its line feed.
    ///
    /// # Errors
    /// Whatever is not exactly a request, with the reason.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let bad = |message: String| Refusal { reason: Reason::BadRequest, message };
        if line.len() >= MAX_REQUEST {
            return Err(bad(format!("a request has less than {MAX_REQUEST} bytes")));
        }
        let line: Line<'_> =
            serde_json::from_slice(line).map_err(|error| bad(format!("not a request: {error}")))?;
        if line.v != VERSION {
            let message = format!("version {} was asked, this helper speaks {VERSION}", line.v);
            return Err(Refusal { reason: Reason::Version, message });
        }
        let id = || {
            let text = line.id.ok_or_else(|| bad("which message? `id` is missing".to_owned()))?;
            QueueId::parse(text).map_err(|error| Refusal {
                reason: if error == BadId::Short { Reason::ShortId } else { Reason::BadId },
                message: error.to_string(),
            })
        };
        let request = match line.verb {
            "list" if line.id.is_none() => Self::List,
            "hold" => Self::Hold(id()?),
            "release" => Self::Release(id()?),
            "return" => Self::Return(id()?),
            "expire" => match line.older_than_s {
                Some(seconds) => Self::Expire(id()?, seconds),
                None => return Err(bad("how old? `older_than_s` is missing".to_owned())),
            },
            _ => return Err(bad("it is none of list, hold, release, return, expire".to_owned())),
        };
        match (&request, line.older_than_s) {
            (Self::Expire(..), _) | (_, None) => Ok(request),
            _ => Err(bad("`older_than_s` is for expire alone".to_owned())),
        }
    }

    /// The line, with its line feed.
    pub fn line(&self) -> Vec<u8> {
        let (verb, id, older_than_s) = match self {
            Self::List => ("list", None, None),
            Self::Hold(id) => ("hold", Some(id), None),
            Self::Release(id) => ("release", Some(id), None),
            Self::Return(id) => ("return", Some(id), None),
            Self::Expire(id, seconds) => ("expire", Some(id), Some(*seconds)),
        };
        let line = Line { v: VERSION, verb, id: id.map(QueueId::as_str), older_than_s };
        to_line(&line)
    }
}

/// What the helper says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Reply {
    /// First of all.
    Hello(Hello),
    /// A message in the hold queue that carries a mark of ours.
    Held(HeldMail),
    /// The last line of a list.
    End {
        /// How many were ours.
        listed: u64,
        /// Messages in the hold queue that carry no mark of ours.
        others: u64,
    },
    /// It was done.
    Done {
        /// The message.
        id: String,
        /// What postsuper said of it: `released from hold`, `placed on hold`, `expired`.
        said: Vec<String>,
        /// Why its delivery does not begin at once; Postfix takes it up when it looks at its deferred mail.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waits: Option<String>,
        /// Of a message that was put on hold: who is still to get it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recipients: Option<Recipients>,
    },
    /// It was not.
    Refused(Refusal),
}

impl Reply {
    /// The line, with its line feed.
    pub fn line(&self) -> Vec<u8> {
        to_line(self)
    }
}

/// The recipients in a message's queue file, after aliases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipients {
    /// Not done: it is still to be delivered to them.
    pub left: u64,
    /// Done: delivered, or given up.
    pub reached: u64,
}

/// What the daemon must know of the Postfix behind the helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// Postfix's `mail_version`.
    pub postfix: String,
    /// Its `queue_directory`.
    pub queue_directory: String,
    /// Its `enable_long_queue_ids`. Without them every act is refused.
    pub long_queue_ids: bool,
    /// Free bytes on the queue's disk below which smtpd takes no mail: the more of `queue_minfree` and one and a
    /// half times `message_size_limit`.
    pub min_free: u64,
}

/// A held message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldMail {
    /// Its queue id.
    pub id: String,
    /// The value of its mark, which was verified.
    pub mark: String,
    /// The envelope sender; empty: the null sender.
    pub sender: String,
    /// Its first recipients, as they were sent.
    pub recipients: Vec<String>,
    /// Bytes of the message.
    pub size: u64,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// This user may not ask.
    Peer,
    /// Too many ask.
    Busy,
    /// It is no request.
    BadRequest,
    /// Another version of the protocol.
    Version,
    /// A short queue id, or a Postfix that is set to them.
    ShortId,
    /// No queue id.
    BadId,
    /// No such message where it must be for this.
    NotFound,
    /// It carries no mark.
    NotOurs,
    /// It carries a mark that this site did not make, or made for another message.
    Forged,
    /// It has no sender to be returned to.
    NoSender,
    /// It is younger than said.
    TooYoung,
    /// Its delivery had begun: it can be released, not returned.
    Begun,
    /// The helper has no key to check marks with.
    NoKey,
    /// This Postfix cannot do it.
    Unsupported,
    /// Postfix failed to do it, or did not say that it did.
    Failed,
}

/// These types always have a form in JSON.
fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings and numbers have a form in JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> QueueId {
        QueueId::parse("4jXc4x0HtRz1XDct").unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        for request in [
            Request::List,
            Request::Hold(id()),
            Request::Release(id()),
            Request::Return(id()),
            Request::Expire(id(), u64::MAX),
        ] {
            let line = request.line();
            assert!(line.len() <= MAX_REQUEST / 2);
            assert_eq!(Request::parse(line.strip_suffix(b"\n").unwrap()), Ok(request));
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        use Reason::*;
        for (line, reason) in [
            ("", BadRequest),
            ("release 4jXc4x0HtRz1XDct", BadRequest),
            ("{}", BadRequest),
            (r#"{"v":1,"verb":"flush"}"#, BadRequest),
            (r#"{"v":1,"verb":"list","id":"4jXc4x0HtRz1XDct"}"#, BadRequest),
            (r#"{"v":1,"verb":"release"}"#, BadRequest),
            (r#"{"v":1,"verb":"release","id":7}"#, BadRequest),
            (r#"{"v":1,"verb":"release","id":"4jXc4x0HtRz1XDct","also":1}"#, BadRequest),
            (r#"{"v":1,"verb":"release","id":"4jXc4x0HtRz1XDct","older_than_s":1}"#, BadRequest),
            (r#"{"v":1,"verb":"expire","id":"4jXc4x0HtRz1XDct"}"#, BadRequest),
            (r#"{"v":1,"verb":"release","id":"4jXc4x0HtRz1XDct"}{}"#, BadRequest),
            (r#"{"v":2,"verb":"list"}"#, Version),
            (r#"{"v":1,"verb":"release","id":"9C0D1E2F3A"}"#, ShortId),
            (r#"{"v":1,"verb":"release","id":"ALL"}"#, BadId),
            (r#"{"v":1,"verb":"release","id":"4jXc4x0HtRz1XDct\nALL"}"#, BadRequest),
            (r#"{"v":1,"verb":"release","id":"-"}"#, BadId),
        ] {
            let refused = Request::parse(line.as_bytes()).map_err(|refusal| refusal.reason);
            assert_eq!(refused, Err(reason), "{line}");
        }
        let long = vec![b' '; MAX_REQUEST];
        assert_eq!(Request::parse(&long).map_err(|refusal| refusal.reason), Err(BadRequest));
    }
}
