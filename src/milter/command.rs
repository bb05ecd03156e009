//! What the MTA sends: commands and the macros that come with them.

use std::net::IpAddr;

use memchr::memchr;

use super::frame::{Frame, ProtocolError};
use super::negotiate::Offer;

/// A command of the MTA, by its byte (`SMFIC_*` in Sendmail's mfdef.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The message is over, or was given up.
    Abort = b'A',
    /// A piece of the body.
    Body = b'B',
    /// An SMTP client connected.
    Connect = b'C',
    /// Macros for the command that follows.
    Macros = b'D',
    /// The end of the message.
    EndOfMessage = b'E',
    /// HELO or EHLO.
    Helo = b'H',
    /// The SMTP client is gone; another one follows on this connection.
    QuitNewConnection = b'K',
    /// A header field.
    Header = b'L',
    /// MAIL FROM.
    Mail = b'M',
    /// The end of the header.
    EndOfHeaders = b'N',
    /// The first of all: version and abilities.
    Negotiate = b'O',
    /// The SMTP client is gone, and the connection with it.
    Quit = b'Q',
    /// RCPT TO.
    Recipient = b'R',
    /// DATA.
    Data = b'T',
    /// An SMTP command that the MTA does not know.
    Unknown = b'U',
}

impl Kind {
    /// The command of this byte.
    #[inline]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            b'A' => Self::Abort,
            b'B' => Self::Body,
            b'C' => Self::Connect,
            b'D' => Self::Macros,
            b'E' => Self::EndOfMessage,
            b'H' => Self::Helo,
            b'K' => Self::QuitNewConnection,
            b'L' => Self::Header,
            b'M' => Self::Mail,
            b'N' => Self::EndOfHeaders,
            b'O' => Self::Negotiate,
            b'Q' => Self::Quit,
            b'R' => Self::Recipient,
            b'T' => Self::Data,
            b'U' => Self::Unknown,
            _ => return None,
        })
    }

    /// One bit per command, for sets of them.
    #[inline]
    pub(super) const fn bit(self) -> u32 {
        // Command bytes are ASCII capitals: 26 bits are enough.
        1 << (self as u8 - b'A')
    }
}

impl From<Kind> for char {
    fn from(kind: Kind) -> Self {
        char::from(kind as u8)
    }
}

/// The SMTP client, as the MTA sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// Its verified name; its address in brackets or `unknown` where it has none.
    pub host: &'a [u8],
    /// Where it connects from.
    pub address: ClientAddress,
}

/// The address of an SMTP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// An internet address. An IPv4 address that came mapped into IPv6 is an IPv4 address here.
    Ip(IpAddr),
    /// A local socket.
    Local,
    /// The MTA does not know, or said something that is no address.
    Unknown,
}

/// One command with its arguments, borrowed from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `A`
    Abort,
    /// `B`, raw bytes.
    Body(&'a [u8]),
    /// `C`
    Connect(Client<'a>),
    /// `D`
    Macros(MacroList<'a>),
    /// `E`, with what some peers send of the body along with it.
    EndOfMessage(&'a [u8]),
    /// `H`
    Helo(&'a [u8]),
    /// `K`
    QuitNewConnection,
    /// `L`
    Header {
        /// Without the colon.
        name: &'a [u8],
        /// Folds are LF and white space; one space after the colon is gone.
        value: &'a [u8],
    },
    /// `M`: the sender exactly as sent; ESMTP arguments are left out.
    Mail(&'a [u8]),
    /// `N`
    EndOfHeaders,
    /// `O`
    Negotiate(Offer),
    /// `Q`
    Quit,
    /// `R`: the recipient exactly as sent, case, quotes and brackets included.
    Recipient(&'a [u8]),
    /// `T`
    Data,
    /// `U`
    Unknown(&'a [u8]),
}

impl<'a> Command<'a> {
    /// Reads a frame. Nothing is copied.
    ///
    /// What libmilter lets pass passes: bytes after the last argument, an address family nobody knows, macros
    /// that do not come in pairs.
    ///
    /// # Errors
    /// An unknown command byte, a string without its NUL, a body that ends too early.
    #[inline(always)]
    pub fn parse(frame: Frame<'a>) -> Result<(Kind, Self), ProtocolError> {
        let Some(kind) = Kind::from_byte(frame.command) else {
            return Err(ProtocolError::UnknownCommand(frame.command));
        };
        let body = frame.body;
        let command = match kind {
            Kind::Abort => Self::Abort,
            Kind::Body => Self::Body(body),
            Kind::Connect => Self::Connect(client(body)?),
            Kind::Macros => Self::Macros(MacroList::new(body)),
            Kind::EndOfMessage => Self::EndOfMessage(body),
            Kind::Helo => Self::Helo(string(kind, body)?.0),
            Kind::QuitNewConnection => Self::QuitNewConnection,
            Kind::Header => {
                let (name, rest) = string(kind, body)?;
                let (value, _) = string(kind, rest)?;
                Self::Header { name, value }
            }
            Kind::Mail => Self::Mail(string(kind, body)?.0),
            Kind::EndOfHeaders => Self::EndOfHeaders,
            Kind::Negotiate => Self::Negotiate(Offer::parse(body)?),
            Kind::Quit => Self::Quit,
            Kind::Recipient => Self::Recipient(string(kind, body)?.0),
            Kind::Data => Self::Data,
            Kind::Unknown => Self::Unknown(string(kind, body)?.0),
        };
        Ok((kind, command))
    }
}

/// Macros as a `D` frame carries them; may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacroList<'a> {
    /// The byte of the command they are for, where it is one we know.
    pub stage: Option<Kind>,
    pairs: &'a [u8],
}

impl<'a> MacroList<'a> {
    #[inline]
    fn new(body: &'a [u8]) -> Self {
        match body {
            [] => Self { stage: None, pairs: &[] },
            [stage, pairs @ ..] => Self { stage: Kind::from_byte(*stage), pairs },
        }
    }

    /// Names and values. A name without a value is left out.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.pairs;
        std::iter::from_fn(move || {
            // Byte by byte: names are short.
            let (name, value) = rest.split_at_checked(rest.iter().position(|byte| *byte == 0)?)?;
            let value = value.get(1..)?;
            // A last value that lost its NUL cannot be told from one that was cut: it is not used.
            let end = memchr(0, value)?;
            rest = value.get(end + 1..)?;
            Some((name, value.get(..end)?))
        })
    }
}

/// The macros becalm asks for, as far as they came with this message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Macros {
    // Buffers are kept from message to message; empty means absent.
    queue_id: Vec<u8>,
    auth_user: Vec<u8>,
}

/// Longer values are no queue ids: Postfix's long ones have under 20 characters, Sendmail's 14.
const MAX_QUEUE_ID: usize = 64;
/// Longer names of users are ignored rather than cut: the longest address has 320 bytes, and two users with
/// one beginning must not become one author.
const MAX_AUTH_USER: usize = 512;

impl Macros {
    /// The queue id (`i`). Over SMTP, Postfix knows it at DATA and later.
    pub fn queue_id(&self) -> Option<&[u8]> {
        Some(self.queue_id.as_slice()).filter(|id| !id.is_empty())
    }

    /// The authenticated user (`{auth_authen}`), as the client gave it. Postfix sends it at MAIL.
    pub fn auth_user(&self) -> Option<&[u8]> {
        Some(self.auth_user.as_slice()).filter(|user| !user.is_empty())
    }

    pub(super) fn clear(&mut self) {
        self.queue_id.clear();
        self.auth_user.clear();
    }

    /// Keeps what is wanted of a list.
    #[inline]
    pub(super) fn keep(&mut self, list: MacroList<'_>) {
        for (name, value) in list.iter() {
            // Postfix and Sendmail put names of more than one letter in braces; `i` comes both ways.
            let name = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
            let (kept, limit) = match name {
                b"i" => (&mut self.queue_id, MAX_QUEUE_ID),
                b"auth_authen" => (&mut self.auth_user, MAX_AUTH_USER),
                _ => continue,
            };
            kept.clear();
            if value.len() <= limit {
                kept.extend_from_slice(value);
            }
        }
    }
}

/// A NUL-terminated string and what follows it.
#[inline]
fn string(command: Kind, body: &[u8]) -> Result<(&[u8], &[u8]), ProtocolError> {
    match memchr(0, body).and_then(|end| body.split_at_checked(end)) {
        Some((text, [_nul, rest @ ..])) => Ok((text, rest)),
        _ => Err(ProtocolError::Unterminated { command }),
    }
}

/// The first string of a body, by the way that is short for the addresses that most people have.
#[inline]
pub(super) fn first_string(command: Kind, body: &[u8]) -> Result<&[u8], ProtocolError> {
    match body {
        [text @ .., 0] if is_short_without_nul(text) => Ok(text),
        _ => string(command, body).map(|(text, _)| text),
    }
}

/// Of 16 to 32 bytes, none of them 0: two looks at sixteen at once, at some of them twice.
#[inline]
fn is_short_without_nul(text: &[u8]) -> bool {
    let (Some(first), Some(last)) = (text.first_chunk::<16>(), text.last_chunk::<16>()) else { return false };
    let nul_in = |many: &[u8; 16]| many.iter().fold(0, |any, byte| any | u8::from(*byte == 0));
    text.len() <= 32 && nul_in(first) | nul_in(last) == 0
}

/// `C`: host\0, family, and unless the family is unknown: port, address\0.
fn client(body: &[u8]) -> Result<Client<'_>, ProtocolError> {
    let command = Kind::Connect;
    let (host, rest) = string(command, body)?;
    let (family, rest) = rest.split_first().ok_or(ProtocolError::Truncated { command })?;
    if !matches!(family, b'4' | b'6' | b'L') {
        return Ok(Client { host, address: ClientAddress::Unknown });
    }
    let (_port, rest) = rest.split_first_chunk::<2>().ok_or(ProtocolError::Truncated { command })?;
    let (text, _) = string(command, rest)?;
    let address = match family {
        b'4' => ip(text).filter(IpAddr::is_ipv4),
        b'6' => ipv6(text),
        _ => return Ok(Client { host, address: ClientAddress::Local }),
    };
    Ok(Client { host, address: address.map_or(ClientAddress::Unknown, ClientAddress::Ip) })
}

/// Sendmail writes `IPv6:` before the address; a zone (`%eth0`) says nothing about who connects.
fn ipv6(text: &[u8]) -> Option<IpAddr> {
    let text = match text.split_at_checked(5) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case(b"IPv6:") => rest,
        _ => text,
    };
    let text = memchr(b'%', text).and_then(|zone| text.get(..zone)).unwrap_or(text);
    ip(text).filter(IpAddr::is_ipv6).map(|address| address.to_canonical())
}

fn ip(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(command: u8, body: &[u8]) -> Result<Command<'_>, ProtocolError> {
        Command::parse(Frame { command, body }).map(|(_, command)| command)
    }

    fn address(body: &[u8]) -> ClientAddress {
        match parse(b'C', body) {
            Ok(Command::Connect(client)) => client.address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn strings_end_at_their_nul() {
        assert_eq!(parse(b'R', b"<List@d>\0NOTIFY=NEVER\0"), Ok(Command::Recipient(b"<List@d>")));
        assert_eq!(parse(b'M', b"\0"), Ok(Command::Mail(b"")));
        assert_eq!(parse(b'M', b"<a@b>"), Err(ProtocolError::Unterminated { command: Kind::Mail }));
        let header = Command::Header { name: b"Subject", value: b"a\n b" };
        assert_eq!(parse(b'L', b"Subject\0a\n b\0"), Ok(header));
        assert_eq!(parse(b'L', b"Subject\0a"), Err(ProtocolError::Unterminated { command: Kind::Header }));
        assert_eq!(parse(b'Z', b""), Err(ProtocolError::UnknownCommand(b'Z')));
    }

    proptest! {
        #[test]
        fn the_short_way_to_the_first_string_leads_there(
            strings in prop::collection::vec("[a-z]{0,40}", 1..3),
            is_cut in any::<bool>(),
        ) {
            let mut body = strings.join("\0").into_bytes();
            body.extend((!is_cut).then_some(0));
            let first = string(Kind::Recipient, &body).map(|(first, _)| first);
            prop_assert_eq!(first_string(Kind::Recipient, &body), first);
        }
    }

    #[test]
    fn clients_of_every_family() {
        let ip = |text: &str| ClientAddress::Ip(text.parse().unwrap());
        assert_eq!(address(b"h\x004\0\x19192.0.2.1\0"), ip("192.0.2.1"));
        assert_eq!(address(b"h\x006\0\x192001:db8::1\0"), ip("2001:db8::1"));
        assert_eq!(address(b"h\x006\0\x19IPv6:2001:db8::1\0"), ip("2001:db8::1"));
        assert_eq!(address(b"h\x006\0\x19fe80::1%eth0\0"), ip("fe80::1"));
        assert_eq!(address(b"h\x006\0\x19::ffff:192.0.2.1\0"), ip("192.0.2.1"));
        assert_eq!(address(b"h\0L\0\0/run/socket\0"), ClientAddress::Local);
        assert_eq!(address(b"h\0U"), ClientAddress::Unknown);
        assert_eq!(address(b"h\x004\0\x19not an address\0"), ClientAddress::Unknown);
        let short = Err(ProtocolError::Truncated { command: Kind::Connect });
        assert_eq!(parse(b'C', b"h\0"), short);
        assert_eq!(parse(b'C', b"h\x004\0"), short);
        let open = Err(ProtocolError::Unterminated { command: Kind::Connect });
        assert_eq!(parse(b'C', b"h\x004\0\x19192.0.2.1"), open);
    }

    #[test]
    fn macros_are_kept_by_name_within_bounds() {
        let mut macros = Macros::default();
        macros.keep(MacroList::new(b"M{auth_authen}\0ann\0{i}\0ABC\0j\0mx\0"));
        assert_eq!((macros.queue_id(), macros.auth_user()), (Some(&b"ABC"[..]), Some(&b"ann"[..])));
        macros.keep(MacroList::new(b"Ti\0DEF\0auth_authen"));
        assert_eq!((macros.queue_id(), macros.auth_user()), (Some(&b"DEF"[..]), Some(&b"ann"[..])));
        let long = [b"Mauth_authen\0".as_slice(), &[b'a'; MAX_AUTH_USER + 1], b"\0"].concat();
        macros.keep(MacroList::new(&long));
        assert_eq!(macros.auth_user(), None);
        for odd in [&b""[..], b"M", b"M\0", b"Mi", b"Mi\0", b"Mi\0XYZ", b"\0\0\0\0"] {
            macros.keep(MacroList::new(odd));
            assert_eq!(macros.queue_id(), Some(&b"DEF"[..]), "{odd:?}");
        }
    }
}
