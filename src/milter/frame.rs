//! Frames: a length, a command byte and a body. The same in both directions.

use super::command::Kind;
use super::session::State;

/// The longest body of a frame, in bytes.
///
/// A peer that was not asked for more sends at most 65,535 bytes (`MILTER_MAX_DATA_SIZE`): body chunks are
/// that long, Postfix cuts headers at 60,000. One more, because peers differ on whether the command byte
/// counts. We never ask for the larger sizes that Sendmail offers (`SMFIP_MDS_256K`, `SMFIP_MDS_1M`).
pub const MAX_BODY: usize = 65_536;

/// The longest frame with its length field, in bytes: what a read buffer must be able to hold.
pub const MAX_FRAME: usize = LENGTH + 1 + MAX_BODY;

/// Bytes of the length field.
const LENGTH: usize = 4;

/// One frame, borrowed from the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The command or reply byte.
    pub command: u8,
    /// Everything after it.
    pub body: &'a [u8],
}

/// What a peer did that no MTA does. The connection cannot be used any longer: nobody knows which reply
/// belongs to which command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame of length 0: not even a command byte.
    #[error("an empty frame")]
    EmptyFrame,
    /// A frame longer than was negotiated; its body is not waited for.
    #[error("a frame of {length} bytes, more than the {limit} that are allowed")]
    FrameTooLong {
        /// As claimed, with the command byte.
        length: u32,
        /// Allowed, with the command byte.
        limit: u32,
    },
    /// A command byte that the protocol does not have.
    #[error("unknown command {0:#04x}")]
    UnknownCommand(u8),
    /// A command that has no place here.
    #[error("command {} in state {state:?}", char::from(*command))]
    Unexpected {
        /// The command.
        command: Kind,
        /// Where the conversation stood.
        state: State,
    },
    /// The body ends before everything that the command must carry.
    #[error("command {} is cut short", char::from(*command))]
    Truncated {
        /// The command.
        command: Kind,
    },
    /// A string without the NUL that ends it.
    #[error("a string of command {} is not terminated", char::from(*command))]
    Unterminated {
        /// The command.
        command: Kind,
    },
    /// A protocol version below 2, the first that has a negotiation worth its name.
    #[error("protocol version {0} is too old")]
    Version(u32),
}

/// The first frame of `input` and the bytes it takes; `None` if it has not arrived whole.
///
/// # Errors
/// A length of 0, or a body of more than `max_body` bytes: as soon as the length has arrived.
#[inline]
pub fn split(input: &[u8], max_body: usize) -> Result<Option<(Frame<'_>, usize)>, ProtocolError> {
    let Some((length, rest)) = input.split_first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    let size = length as usize;
    if size.wrapping_sub(1) > max_body {
        return Err(bad_length(length, max_body));
    }
    match rest.get(..size) {
        Some([command, body @ ..]) => Ok(Some((Frame { command: *command, body }, LENGTH + size))),
        _ => Ok(None),
    }
}

#[cold]
fn bad_length(length: u32, max_body: usize) -> ProtocolError {
    if length == 0 {
        ProtocolError::EmptyFrame
    } else {
        let limit = u32::try_from(max_body).unwrap_or(u32::MAX).saturating_add(1);
        ProtocolError::FrameTooLong { length, limit }
    }
}

/// Appends a frame whose body is `parts`, one after the other.
///
/// A body that the length field cannot count (4 GiB) would be cut; callers bound theirs far below.
#[inline]
pub fn put(out: &mut Vec<u8>, command: u8, parts: &[&[u8]]) {
    let size = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(LENGTH + size);
    out.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    out.push(command);
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_split_only_when_whole() {
        let mut bytes = Vec::new();
        put(&mut bytes, b'H', &[b"mx", b"\0"]);
        assert_eq!(bytes, b"\0\0\0\x04Hmx\0");
        for end in 0..bytes.len() {
            assert_eq!(split(&bytes[..end], MAX_BODY), Ok(None), "{end} bytes");
        }
        bytes.push(b'x');
        let frame = Frame { command: b'H', body: b"mx\0" };
        assert_eq!(split(&bytes, MAX_BODY), Ok(Some((frame, 8))));
    }

    #[test]
    fn a_wrong_length_is_told_before_the_body_arrives() {
        assert_eq!(split(&[0, 0, 0, 0], 10), Err(ProtocolError::EmptyFrame));
        assert_eq!(split(&[0, 0, 0, 11], 10), Ok(None));
        let too_long = ProtocolError::FrameTooLong { length: 12, limit: 11 };
        assert_eq!(split(&[0, 0, 0, 12], 10), Err(too_long));
        let too_long = ProtocolError::FrameTooLong { length: u32::MAX, limit: 65_537 };
        assert_eq!(split(&[255; 9], MAX_BODY), Err(too_long));
    }

    #[test]
    fn errors_read_well() {
        let error = ProtocolError::Unexpected { command: Kind::Data, state: State::Connected };
        assert_eq!(error.to_string(), "command T in state Connected");
    }
}
