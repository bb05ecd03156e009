//! A small blocking SMTP client: what a demonstration and the tests need, without TLS and pipelining.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For every read and write. Longer than a milter that hangs at the time-outs that becalm recommends.
const PATIENCE: Duration = Duration::from_secs(60);

/// RFC 5321 has 512 bytes for a line of a reply; some servers say more.
const MAX_LINE: u64 = 8 * 1024;

/// An EHLO reply has a dozen lines.
const MAX_LINES: usize = 100;

/// The conversation broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("SMTP: {0}")]
    Io(#[from] io::Error),
    /// The server was silent for too long.
    #[error("SMTP: the server said nothing for {0:?}")]
    Silent(Duration),
    /// Not a reply.
    #[error("SMTP: this is no reply: {0:?}")]
    Garbled(String),
    /// The server does not take this client.
    #[error("SMTP: the server refuses the session: {0}")]
    Refused(Reply),
}

/// What a server says to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text of all its lines, without the codes, joined by newlines.
    pub text: String,
}

impl Reply {
    /// 2xx, or 3xx in the middle of DATA.
    pub fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    /// The queue id, where the text is Postfix's `2.0.0 Ok: queued as ID`.
    pub fn queue_id(&self) -> Option<&str> {
        self.text.split_once("queued as ").map(|(_, id)| id.trim())
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    patience: Duration,
}

impl Client {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the greeting is not 220; else when the connection breaks.
    pub fn connect(address: SocketAddr) -> Result<Self, Error> {
        Self::connect_within(address, PATIENCE)
    }

    /// The same, with another time-out for every read and write.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn connect_within(address: SocketAddr, patience: Duration) -> Result<Self, Error> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream), patience };
        let greeting = client.reply()?;
        if greeting.code == 220 { Ok(client) } else { Err(Error::Refused(greeting)) }
    }

    /// Sends a whole message, in one transaction: MAIL, a RCPT each, DATA. Returns the reply that settled it:
    /// to the end of the message, or the first one that was not positive (the transaction is reset then).
    /// Addresses are sent as they are, in `<>` unless they have them.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn send(&mut self, sender: &str, recipients: &[&str], message: &str) -> Result<Reply, Error> {
        let mut reply = self.mail(sender)?;
        for recipient in recipients {
            if reply.is_positive() {
                reply = self.rcpt(recipient)?;
            }
        }
        if reply.is_positive() {
            reply = self.data()?;
            if reply.is_positive() {
                return self.text(message);
            }
        }
        self.rset()?;
        Ok(reply)
    }

    /// EHLO.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn ehlo(&mut self, name: &str) -> Result<Reply, Error> {
        self.command(&format!("EHLO {name}"))
    }

    /// MAIL FROM.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn mail(&mut self, sender: &str) -> Result<Reply, Error> {
        self.command(&format!("MAIL FROM:{}", bracketed(sender)))
    }

    /// RCPT TO.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn rcpt(&mut self, recipient: &str) -> Result<Reply, Error> {
        self.command(&format!("RCPT TO:{}", bracketed(recipient)))
    }

    /// DATA; [`Client::text`] follows when the reply is 354.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn data(&mut self) -> Result<Reply, Error> {
        self.command("DATA")
    }

    /// The message after DATA, with the final dot. Its lines may end with LF or CRLF.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn text(&mut self, message: &str) -> Result<Reply, Error> {
        self.write(&stuffed(message))?;
        self.reply()
    }

    /// RSET.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn rset(&mut self) -> Result<Reply, Error> {
        self.command("RSET")
    }

    /// QUIT, and the end.
    ///
    /// # Errors
    ///
    /// When the connection breaks before the reply.
    pub fn quit(mut self) -> Result<Reply, Error> {
        self.command("QUIT")
    }

    /// Any command of one line.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn command(&mut self, line: &str) -> Result<Reply, Error> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Any bytes, and no waiting for a reply.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// The next reply.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or what comes is not a reply.
    pub fn reply(&mut self) -> Result<Reply, Error> {
        let mut texts = Vec::new();
        for _ in 0..MAX_LINES {
            let mut line = Vec::new();
            let read = self.stream.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            read.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Silent(self.patience),
                _ => Error::Io(error),
            })?;
            if line.is_empty() {
                return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let (code, text) = line.split_at_checked(3).ok_or_else(|| Error::Garbled(line.clone()))?;
            let code = code.parse().map_err(|_| Error::Garbled(line.clone()))?;
            texts.push(text.get(1..).unwrap_or_default().to_owned());
            if !text.starts_with('-') {
                return Ok(Reply { code, text: texts.join("\n") });
            }
        }
        Err(Error::Garbled(format!("more than {MAX_LINES} lines")))
    }
}

fn bracketed(address: &str) -> String {
    if address.starts_with('<') { address.to_owned() } else { format!("<{address}>") }
}

/// As it goes over the wire: CRLF, leading dots doubled, a dot at the end.
fn stuffed(message: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + message.len() / 16 + 8);
    for line in message.lines() {
        if line.starts_with('.') {
            bytes.push(b'.');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b".\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that says `script`, and hears what comes.
    fn server(script: &'static [u8]) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(script).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).unwrap();
            heard
        });
        (address, heard)
    }

    #[test]
    fn sends_a_message() {
        let (address, heard) = server(
            b"220 ready\r\n250-mail\r\n250 SIZE\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 Ok: queued as 4XyZ\r\n221 bye\r\n",
        );
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.ehlo("me").unwrap().text, "mail\nSIZE");
        let reply =
            client.send("", &["a@example.org", "<@relay:b@example.org>"], "Subject: x\n\n.\r\n..y\nend");
        assert_eq!(reply.unwrap().queue_id(), Some("4XyZ"));
        client.quit().unwrap();
        assert_eq!(
            heard.join().unwrap(),
            "EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<@relay:b@example.org>\r\nDATA\r\n\
             Subject: x\r\n\r\n..\r\n...y\r\nend\r\n.\r\nQUIT\r\n"
        );
    }

    #[test]
    fn what_is_refused_is_reset() {
        let (address, heard) = server(b"220 ready\r\n250 ok\r\n550 5.7.1 no\r\n250 reset\r\n");
        let mut client = Client::connect(address).unwrap();
        let reply = client.send("a@example.org", &["all@example.org", "b@example.org"], "x").unwrap();
        assert_eq!((reply.code, reply.text.as_str()), (550, "5.7.1 no"));
        drop(client);
        assert_eq!(
            heard.join().unwrap(),
            "MAIL FROM:<a@example.org>\r\nRCPT TO:<all@example.org>\r\nRSET\r\n"
        );
    }

    #[test]
    fn a_server_that_refuses_or_talks_nonsense_is_an_error() {
        let first = |script| Client::connect(server(script).0).unwrap_err();
        assert!(matches!(first(b"421 4.3.2 busy\r\n"), Error::Refused(reply) if reply.code == 421));
        assert!(matches!(first(b"hi\r\n"), Error::Garbled(_)));
        assert!(matches!(first(b"hello\r\n"), Error::Garbled(_)));
        assert!(matches!(first(b"\xff\xff\xff\xff\r\n"), Error::Garbled(_)));
        assert!(matches!(first(b""), Error::Io(_)));
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let patience = Duration::from_millis(20);
        let error = Client::connect_within(silent.local_addr().unwrap(), patience).unwrap_err();
        assert!(matches!(error, Error::Silent(after) if after == patience), "{error}");
    }
}
