//! The bytes between two becalms: frames with a message or a record in each, and once the sockets themselves.
//!
//! ```text
//! frame   length u32 (big-endian, of what follows the kind)  kind u8  body
//! kind    0: a message, as JSON   1: a record, as in the journal
//! ```
//!
//! Messages may grow fields, and there may be more of them: what is not known is passed over. Anything else that
//! changes gets another number ([`PROTOCOL`]).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::journal::codec;
use crate::journal::record::Record;

/// The version of this protocol.
pub const PROTOCOL: u32 = 1;

/// The oldest that is still spoken.
pub const OLDEST: u32 = 1;

/// Sockets in one hand-over. The configuration allows sixteen; systemd may pass more. (Linux: 253.)
pub const MOST_SOCKETS: usize = 64;

/// The longest body: a record fits in a frame of the journal (64 KiB), an offer has at most so many paths of 108
/// bytes.
const MAX_BODY: usize = 64 * 1024;

const HEAD: usize = 5;
const MESSAGE: u8 = 0;
const RECORD: u8 = 1;

/// What two becalms say to each other. `new` takes over from `old`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Message {
    /// New, first: may I?
    Hello {
        /// The version of the protocol that it would like to speak.
        protocol: u32,
        /// The oldest that it can speak.
        oldest: u32,
        /// becalm's version.
        version: String,
        /// Its process.
        pid: u32,
        /// Tells which key its hashes are made with.
        key: u64,
        /// The folder of its journal; none: it keeps none.
        journal: Option<PathBuf>,
    },
    /// Old: here are the sockets. The journal is yours to read and to write.
    Offer {
        /// The version that is spoken from here on.
        protocol: u32,
        /// becalm's version.
        version: String,
        /// Its process.
        pid: u32,
        /// How many takeovers there were before it, and one.
        generation: u64,
        /// The names of the sockets, in the order of their descriptors.
        sockets: Vec<String>,
        /// They came from systemd, not from the configuration.
        passed: bool,
        /// All that is known follows, as records up to `whole`: the journal does not have it.
        image: bool,
    },
    /// Old: that was all that is known.
    Whole {},
    /// Either: no, or no longer. The old one goes on as if nothing had been.
    Refused {
        /// Why, for a person.
        why: String,
    },
    /// New: I take connections now.
    Accepting {},
    /// Old: I take no more.
    Stopped {},
    /// Old, now and then: what is still open there.
    Sessions {
        /// Milter connections.
        open: usize,
        /// Watched mail is judged there no more, but sent here.
        refusing: bool,
    },
    /// New: should I end now, it is for good; do not stand in for me.
    Settled {},
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

/// A frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A message.
    Message(Message),
    /// What was judged. None: of a kind that this version does not know.
    Record(Option<Record>),
}

/// Appends a message.
pub fn put_message(out: &mut Vec<u8>, message: &Message) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    put(out, MESSAGE, |out| out.extend_from_slice(&body))
}

/// Appends a record.
pub fn put_record(out: &mut Vec<u8>, record: &Record) -> io::Result<()> {
    put(out, RECORD, |out| codec::encode(record, out))
}

fn put(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD]);
    body(out);
    let length = out.len() - begin - HEAD;
    if length > MAX_BODY {
        out.truncate(begin);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "longer than a frame can be"));
    }
    let [a, b, c, d] = (length as u32).to_be_bytes();
    for (place, byte) in out.iter_mut().skip(begin).zip([a, b, c, d, kind]) {
        *place = byte;
    }
    Ok(())
}

/// Reads a frame. None: the other has closed the connection, between two frames.
///
/// # Errors
/// The connection broke, or this is no frame.
pub fn read(stream: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD];
    let got = stream.read(&mut head)?;
    if got == 0 {
        return Ok(None);
    }
    read_rest(stream, head, got).map(Some)
}

fn read_rest(stream: &mut impl Read, mut head: [u8; HEAD], got: usize) -> io::Result<Frame> {
    stream.read_exact(head.get_mut(got..).unwrap_or_default())?;
    let [a, b, c, d, kind] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let garbled = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if length > MAX_BODY {
        return Err(garbled(format!("a frame of {length} bytes")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    match kind {
        MESSAGE => {
            serde_json::from_slice(&body).map(Frame::Message).map_err(|error| garbled(error.to_string()))
        }
        RECORD => match codec::decode(&body) {
            Ok(record) => Ok(Frame::Record(Some(record))),
            Err(codec::DecodeError::UnknownKind(_)) => Ok(Frame::Record(None)),
            Err(error) => Err(garbled(error.to_string())),
        },
        _ => Err(garbled(format!("a frame of kind {kind}"))),
    }
}

/// Sends a message, and descriptors with it.
///
/// # Errors
/// The connection broke; or there are more descriptors than [`MOST_SOCKETS`].
pub fn send_with(stream: &mut UnixStream, message: &Message, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut bytes = Vec::new();
    put_message(&mut bytes, message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other(format!("more than {MOST_SOCKETS} sockets")));
    }
    // They go with the first byte.
    let sent = sendmsg(stream.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    stream.write_all(bytes.get(sent..).unwrap_or_default())
}

/// Reads a frame, and the descriptors that came with it. None: the other has closed the connection.
///
/// # Errors
/// As [`read`].
pub fn receive_with(stream: &mut UnixStream) -> io::Result<Option<(Frame, Vec<OwnedFd>)>> {
    let mut head = [0; HEAD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Ok(None);
    }
    read_rest(stream, head, received.bytes).map(|frame| Some((frame, sockets)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{Judged, Known, Share};
    use std::os::unix::net::UnixListener;

    fn offer(sockets: usize) -> Message {
        let sockets = (0..sockets).map(|number| format!("unix:/run/{number}")).collect();
        Message::Offer {
            protocol: 1,
            version: "0.1.0".to_owned(),
            pid: 7,
            generation: 1,
            sockets,
            passed: false,
            image: false,
        }
    }

    #[test]
    fn what_is_put_is_read_however_it_is_cut() {
        let mut judged = Judged { author: 5, ..Judged::default() };
        judged.shares.push(Share { list: 9, thread: 3, ..Share::default() });
        let records = [Record::Known(Known { key: 3, ..Known::default() }), Record::Judged(judged)];
        let mut bytes = Vec::new();
        put_message(&mut bytes, &offer(3)).unwrap();
        put_record(&mut bytes, &records[0]).unwrap();
        put_record(&mut bytes, &records[1]).unwrap();
        put_message(&mut bytes, &Message::Settled {}).unwrap();
        let frames = [
            Frame::Message(offer(3)),
            Frame::Record(Some(records[0].clone())),
            Frame::Record(Some(records[1].clone())),
            Frame::Message(Message::Settled {}),
        ];
        /// A stream that gives a byte at a time.
        struct Drops<'b>(&'b [u8]);
        impl Read for Drops<'_> {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let few = to.len().min(1);
                self.0.read(&mut to[..few])
            }
        }
        let mut stream = Drops(&bytes);
        for frame in frames {
            assert_eq!(read(&mut stream).unwrap(), Some(frame));
        }
        assert_eq!(read(&mut stream).unwrap(), None);
        for cut in 1..bytes.len() {
            let mut stream = bytes.get(..cut).unwrap();
            // Whole frames, then the end or an error; never anything else.
            while let Ok(Some(_)) = read(&mut stream) {}
        }
    }

    #[test]
    fn nonsense_is_no_frame() {
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 0][..],
            &[0, 0, 0, 0, 9],
            &[0, 0, 0, 2, 0, b'{', b'x'],
            &[0, 0, 0, 1, 1, 1],
        ] {
            let mut stream = bytes;
            assert!(read(&mut stream).is_err(), "{bytes:?}");
        }
        // What a later version says is passed over.
        let mut bytes = Vec::new();
        put(&mut bytes, MESSAGE, |out| out.extend_from_slice(br#"{"say":"sing","song":1}"#)).unwrap();
        put(&mut bytes, MESSAGE, |out| out.extend_from_slice(br#"{"say":"stopped","why":"so"}"#)).unwrap();
        put(&mut bytes, RECORD, |out| out.push(200)).unwrap();
        let mut stream = bytes.as_slice();
        assert_eq!(read(&mut stream).unwrap(), Some(Frame::Message(Message::Unknown)));
        assert_eq!(read(&mut stream).unwrap(), Some(Frame::Message(Message::Stopped {})));
        assert_eq!(read(&mut stream).unwrap(), Some(Frame::Record(None)));
        assert!(put(&mut bytes, RECORD, |out| out.resize(out.len() + MAX_BODY + 1, 0)).is_err());
    }

    #[test]
    fn descriptors_come_with_their_message_and_with_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let listeners: Vec<_> = (0..MOST_SOCKETS)
            .map(|number| UnixListener::bind(folder.path().join(number.to_string())).unwrap())
            .collect();
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let all: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
        send_with(&mut here, &offer(all.len()), &all).unwrap();
        send_with(&mut here, &Message::Stopped {}, &[]).unwrap();
        let (frame, sockets) = receive_with(&mut there).unwrap().unwrap();
        assert_eq!((frame, sockets.len()), (Frame::Message(offer(MOST_SOCKETS)), MOST_SOCKETS));
        for (number, socket) in sockets.into_iter().enumerate() {
            let listener = UnixListener::from(socket);
            let path = listener.local_addr().unwrap().as_pathname().unwrap().to_owned();
            assert_eq!(path, folder.path().join(number.to_string()));
        }
        let (frame, sockets) = receive_with(&mut there).unwrap().unwrap();
        assert_eq!((frame, sockets.len()), (Frame::Message(Message::Stopped {}), 0));
        drop(here);
        assert!(receive_with(&mut there).unwrap().is_none());
        let (mut here, _there) = UnixStream::pair().unwrap();
        let many = [all.as_slice(), all.as_slice()].concat();
        assert!(send_with(&mut here, &offer(1), &many).is_err());
    }
}
