//! Reading what the filter answers, as strictly as an MTA should.

use memchr::memchr;

use crate::milter::command::Kind;
use crate::milter::frame::{self, MAX_BODY, ProtocolError};
use crate::milter::negotiate::{Agreed, action, protocol};

/// The filter's answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtaReply<'a> {
    /// What becomes of the command or the message.
    pub verdict: Verdict<'a>,
    /// In the order they came; only at the end of a message.
    pub changes: Vec<Change<'a>>,
}

/// The final part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the protocol's own words; `FinalReply` explains them")]
pub enum Verdict<'a> {
    Continue,
    Accept,
    Reject,
    TempFail,
    Discard,
    Skip,
    /// The whole line, `%` still doubled.
    Code(&'a [u8]),
}

/// A change to the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`Changes` explains them")]
pub enum Change<'a> {
    AddHeader {
        name: &'a [u8],
        value: &'a [u8],
    },
    InsertHeader {
        index: u32,
        name: &'a [u8],
        value: &'a [u8],
    },
    ChangeHeader {
        index: u32,
        name: &'a [u8],
        value: &'a [u8],
    },
    DeleteHeader {
        index: u32,
        name: &'a [u8],
    },
    AddRecipient(&'a [u8]),
    /// The address, and what follows it in the ESMTP command.
    AddRecipientWith {
        address: &'a [u8],
        arguments: &'a [u8],
    },
    DeleteRecipient(&'a [u8]),
    /// The address, and what follows it in the ESMTP command.
    ChangeSender {
        address: &'a [u8],
        arguments: &'a [u8],
    },
    /// The next part of the new body.
    ReplaceBody(&'a [u8]),
    Quarantine(&'a [u8]),
}

/// What an MTA cannot make sense of, or would wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MtaError {
    /// A broken frame.
    #[error(transparent)]
    Frame(#[from] ProtocolError),
    /// Bytes that nobody waits for: Postfix takes them as the answer to a later command.
    #[error("a reply ({reply:?}) that is not due")]
    NotDue {
        /// Its command byte, where that much has come.
        reply: Option<u8>,
    },
    /// A reply that has no place after this command, or was not offered.
    #[error("reply {reply:#04x} after {after:?}")]
    Unexpected {
        /// The reply byte.
        reply: u8,
        /// The command it followed.
        after: Kind,
    },
    /// The body of a reply is not what it must be.
    #[error("reply {reply:#04x} is malformed")]
    Malformed {
        /// The reply byte.
        reply: u8,
    },
    /// The filter wants more than there is.
    #[error("the filter wants what was not offered: {0:x?}")]
    NotOffered(Agreed),
}

/// Everything that has come since the command `due`; `None` if more must be read.
pub(super) fn read(
    agreed: Agreed,
    input: &[u8],
    due: Option<Kind>,
) -> Result<Option<MtaReply<'_>>, MtaError> {
    let Some(after) = due else {
        return match input.get(4) {
            _ if input.is_empty() => Ok(None),
            reply => Err(MtaError::NotDue { reply: reply.copied() }),
        };
    };
    let mut rest = input;
    let mut changes = Vec::new();
    while let Some((frame, size)) = frame::split(rest, MAX_BODY)? {
        rest = rest.get(size..).unwrap_or_default();
        let reply = frame.command;
        let malformed = MtaError::Malformed { reply };
        let verdict = match reply {
            b'p' if frame.body.is_empty() => continue,
            b'y' => Verdict::Code(code(frame.body).ok_or(malformed)?),
            b'c' | b'a' | b'r' | b't' | b'd' | b's' => {
                if !frame.body.is_empty() {
                    return Err(malformed);
                }
                match reply {
                    b'c' => Verdict::Continue,
                    b'a' => Verdict::Accept,
                    b'r' => Verdict::Reject,
                    b't' => Verdict::TempFail,
                    b'd' => Verdict::Discard,
                    _ if agreed.protocol & protocol::SKIP != 0 => Verdict::Skip,
                    _ => return Err(MtaError::Unexpected { reply, after }),
                }
            }
            _ => {
                let (needed, change) =
                    Change::parse(reply, frame.body).ok_or(MtaError::Unexpected { reply, after })?;
                let change = change.ok_or(malformed)?;
                // Elsewhere, `q` holds every later message of the session too.
                if after != Kind::EndOfMessage || agreed.actions & needed == 0 {
                    return Err(MtaError::Unexpected { reply, after });
                }
                changes.push(change);
                continue;
            }
        };
        return match rest.get(4) {
            _ if rest.is_empty() => Ok(Some(MtaReply { verdict, changes })),
            reply => Err(MtaError::NotDue { reply: reply.copied() }),
        };
    }
    Ok(None)
}

impl<'a> Change<'a> {
    /// The action that must have been offered, and the change unless it is malformed. `None`: no change.
    fn parse(reply: u8, body: &'a [u8]) -> Option<(u32, Option<Self>)> {
        let indexed = || {
            let (index, rest) = body.split_first_chunk::<4>()?;
            let [name, value] = strings(rest)?;
            Some((u32::from_be_bytes(*index), name, value))
        };
        Some(match reply {
            b'h' => {
                let change = strings(body).map(|[name, value]| Self::AddHeader { name, value });
                (action::ADD_HEADERS, change)
            }
            b'i' => {
                let change = indexed().map(|(index, name, value)| Self::InsertHeader { index, name, value });
                (action::ADD_HEADERS, change)
            }
            b'm' => {
                let change = indexed().map(|(index, name, value)| match value {
                    [] => Self::DeleteHeader { index, name },
                    _ => Self::ChangeHeader { index, name, value },
                });
                (action::CHANGE_HEADERS, change)
            }
            b'+' => (action::ADD_RECIPIENTS, strings(body).map(|[text]| Self::AddRecipient(text))),
            b'2' => {
                let change = with_arguments(body)
                    .map(|(address, arguments)| Self::AddRecipientWith { address, arguments });
                (action::ADD_RECIPIENTS_WITH, change)
            }
            b'e' => {
                let change = with_arguments(body)
                    .map(|(address, arguments)| Self::ChangeSender { address, arguments });
                (action::CHANGE_SENDER, change)
            }
            b'b' => (action::CHANGE_BODY, Some(Self::ReplaceBody(body))),
            b'-' => (action::DELETE_RECIPIENTS, strings(body).map(|[text]| Self::DeleteRecipient(text))),
            b'q' => (action::QUARANTINE, strings(body).map(|[text]| Self::Quarantine(text))),
            _ => return None,
        })
    }
}

/// Exactly `N` NUL-terminated strings.
fn strings<const N: usize>(mut body: &[u8]) -> Option<[&[u8]; N]> {
    let mut found = [&[][..]; N];
    for text in &mut found {
        let end = memchr(0, body)?;
        *text = body.get(..end)?;
        body = body.get(end + 1..)?;
    }
    body.is_empty().then_some(found)
}

/// A string, and another one that may be missing.
fn with_arguments(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let alone = strings(body).map(|[address]| (address, &[][..]));
    alone.or_else(|| strings(body).map(|[address, arguments]| (address, arguments)))
}

/// The line of a `y`, as Postfix checks it: NUL-terminated, `[45]dd`, space or hyphen, enhanced code of the
/// same class.
fn code(body: &[u8]) -> Option<&[u8]> {
    let [line] = strings(body)?;
    match line {
        [class @ (b'4' | b'5'), b'0'..=b'9', b'0'..=b'9', b' ' | b'-', enhanced, ..] if class == enhanced => {
            Some(line)
        }
        _ => None,
    }
}
