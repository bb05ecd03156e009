//! The daemon's side of the helper: connects, asks, and believes nothing that is not the protocol. Blocking: one
//! request at a time is what the helper does.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{HeldMail, Hello, MAX_REPLY, Recipients, Refusal, Reply, Request, VERSION};

/// For one line. The helper gives each of Postfix's programs twenty seconds, and runs two for an act.
const PATIENCE: Duration = Duration::from_secs(60);

/// More messages than the helper lists.
const MAX_LIST: usize = 2_000_000;

/// The helper did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It is not there, or this user may not connect.
    #[error("no helper on {socket}: {source}")]
    Connect {
        /// Its socket.
        socket: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It hung up or took too long.
    #[error("the helper did not answer: {0}")]
    Io(#[from] std::io::Error),
    /// Not a reply of this version.
    #[error("the helper's answer makes no sense ({0}); do daemon and helper have the same version?")]
    Garbled(String),
    /// It says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// What postsuper said.
    pub said: Vec<String>,
    /// Why delivery does not begin at once.
    pub waits: Option<String>,
    /// Of a message that was put on hold: who is still to get it.
    pub recipients: Option<Recipients>,
}

/// A connection to the helper.
pub struct Client {
    stream: BufReader<UnixStream>,
    hello: Hello,
}

impl Client {
    /// Connects, and hears who is there.
    ///
    /// # Errors
    /// Where nobody is, or says no, or speaks another version.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket)
            .map_err(|source| ClientError::Connect { socket: socket.to_owned(), source })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut stream = BufReader::new(stream);
        match read_reply(&mut stream)? {
            Reply::Hello(hello) if hello.version == VERSION => Ok(Self { stream, hello }),
            Reply::Refused(refusal) => Err(refusal.into()),
            other => Err(ClientError::Garbled(format!("{other:?}"))),
        }
    }

    /// What it said of Postfix.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Has it do something; not for lists.
    ///
    /// # Errors
    /// Where it refuses, or breaks off: then nobody knows whether it was done, and this connection is of no more use.
    pub fn act(&mut self, request: &Request) -> Result<Done, ClientError> {
        self.stream.get_mut().write_all(&request.line())?;
        match read_reply(&mut self.stream)? {
            Reply::Done { said, waits, recipients, .. } => Ok(Done { said, waits, recipients }),
            Reply::Refused(refusal) => Err(refusal.into()),
            other => Err(ClientError::Garbled(format!("{other:?}"))),
        }
    }

    /// What is on hold and ours, the oldest first; and how many messages are on hold that are not.
    ///
    /// # Errors
    /// As [`Client::act`].
    pub fn list(&mut self) -> Result<(Vec<HeldMail>, u64), ClientError> {
        self.stream.get_mut().write_all(&Request::List.line())?;
        let mut held = Vec::new();
        while held.len() < MAX_LIST {
            match read_reply(&mut self.stream)? {
                Reply::Held(item) => held.push(item),
                Reply::End { others, .. } => return Ok((held, others)),
                Reply::Refused(refusal) => return Err(refusal.into()),
                other => return Err(ClientError::Garbled(format!("{other:?}"))),
            }
        }
        Err(ClientError::Garbled("its list does not end".to_owned()))
    }
}

fn read_reply(stream: &mut BufReader<UnixStream>) -> Result<Reply, ClientError> {
    let mut line = Vec::new();
    stream.by_ref().take(MAX_REPLY as u64).read_until(b'\n', &mut line)?;
    if line.pop_if(|last| *last == b'\n').is_none() {
        let why = if line.is_empty() { "it hung up" } else { "it broke off" };
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, why).into());
    }
    serde_json::from_slice(&line).map_err(|error| ClientError::Garbled(error.to_string()))
}
