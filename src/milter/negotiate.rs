//! The first exchange: which version, what the filter may do, which steps it sees and answers.

use super::command::Kind;
use super::frame::{self, ProtocolError};

/// The highest version spoken; the only one with `SETSYMLIST` and silent steps.
pub const VERSION: u32 = 6;
/// The lowest version spoken (libmilter's `SMFI_PROT_VERSION_MIN`).
const MIN_VERSION: u32 = 2;

/// What a filter may do to a message (`SMFIF_*` in Sendmail's mfapi.h).
pub mod action {
    /// Add header fields.
    pub const ADD_HEADERS: u32 = 0x1;
    /// Replace the body.
    pub const CHANGE_BODY: u32 = 0x2;
    /// Add recipients.
    pub const ADD_RECIPIENTS: u32 = 0x4;
    /// Delete recipients.
    pub const DELETE_RECIPIENTS: u32 = 0x8;
    /// Change and delete header fields.
    pub const CHANGE_HEADERS: u32 = 0x10;
    /// Put the message into the hold queue.
    pub const QUARANTINE: u32 = 0x20;
    /// Change the envelope sender.
    pub const CHANGE_SENDER: u32 = 0x40;
    /// Add recipients with ESMTP arguments.
    pub const ADD_RECIPIENTS_WITH: u32 = 0x80;
    /// Choose the macros that are sent.
    pub const SET_MACROS: u32 = 0x100;

    /// Everything becalm may ever want.
    pub(super) const WANTED: u32 = ADD_HEADERS | DELETE_RECIPIENTS | CHANGE_HEADERS | QUARANTINE | SET_MACROS;
}

/// Which steps are sent and answered (`SMFIP_*` in Sendmail's mfdef.h).
pub mod protocol {
    /// No `C`.
    pub const NO_CONNECT: u32 = 0x1;
    /// No `H`.
    pub const NO_HELO: u32 = 0x2;
    /// No `M`.
    pub const NO_MAIL: u32 = 0x4;
    /// No `R`.
    pub const NO_RECIPIENT: u32 = 0x8;
    /// No `B`.
    pub const NO_BODY: u32 = 0x10;
    /// No `L`.
    pub const NO_HEADERS: u32 = 0x20;
    /// No `N`.
    pub const NO_END_OF_HEADERS: u32 = 0x40;
    /// `L` is not answered.
    pub const SILENT_HEADERS: u32 = 0x80;
    /// No `U`.
    pub const NO_UNKNOWN: u32 = 0x100;
    /// No `T`.
    pub const NO_DATA: u32 = 0x200;
    /// The reply "skip" is understood.
    pub const SKIP: u32 = 0x400;
    /// `C` is not answered.
    pub const SILENT_CONNECT: u32 = 0x1000;
    /// `H` is not answered.
    pub const SILENT_HELO: u32 = 0x2000;
    /// `M` is not answered.
    pub const SILENT_MAIL: u32 = 0x4000;
    /// `R` is not answered.
    pub const SILENT_RECIPIENT: u32 = 0x8000;
    /// `T` is not answered.
    pub const SILENT_DATA: u32 = 0x1_0000;
    /// `U` is not answered.
    pub const SILENT_UNKNOWN: u32 = 0x2_0000;
    /// `N` is not answered.
    pub const SILENT_END_OF_HEADERS: u32 = 0x4_0000;
    /// `B` is not answered.
    pub const SILENT_BODY: u32 = 0x8_0000;
    /// Frames of up to 256 KiB.
    pub const SIZE_256K: u32 = 0x1000_0000;
    /// Frames of up to 1 MiB.
    pub const SIZE_1M: u32 = 0x2000_0000;

    /// Replies at `T` and `E` only, and no more steps than needed: a message costs one round trip. Larger
    /// frames are never asked for, whatever is offered.
    pub(super) const WANTED: u32 = NO_HELO
        | NO_BODY
        | NO_UNKNOWN
        | SILENT_CONNECT
        | SILENT_HELO
        | SILENT_MAIL
        | SILENT_RECIPIENT
        | SILENT_HEADERS
        | SILENT_END_OF_HEADERS;
}

/// The macros asked for, by stage (`SMFIM_*` in Sendmail's mfapi.h): 0 connect, 1 HELO, 2 MAIL, 3 RCPT,
/// 4 DATA, 5 end of message, 6 end of header.
///
/// To Postfix an empty list means its default list, so where nothing is wanted a macro is named that has no
/// value; its name must be letters, or Sendmail logs an error.
const MACROS: [(u32, &[u8]); 7] = [
    (0, b"{none}\0"),
    (1, b"{none}\0"),
    (2, b"i {auth_authen}\0"),
    (3, b"{none}\0"),
    (4, b"i\0"),
    (5, b"i\0"),
    (6, b"{none}\0"),
];

/// What the MTA offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its protocol version.
    pub version: u32,
    /// What a filter may do, of [`action`].
    pub actions: u32,
    /// What it understands, of [`protocol`].
    pub protocol: u32,
}

impl Offer {
    /// The body of an `O`; bytes after the three numbers are ignored, as libmilter does.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ProtocolError> {
        let (numbers, _) = body.as_chunks::<4>();
        match numbers {
            [version, actions, protocol, ..] => Ok(Self {
                version: u32::from_be_bytes(*version),
                actions: u32::from_be_bytes(*actions),
                protocol: u32::from_be_bytes(*protocol),
            }),
            _ => Err(ProtocolError::Truncated { command: Kind::Negotiate }),
        }
    }
}

/// What was agreed: never more than was offered, or Postfix gives the filter up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// The lower of both versions.
    pub version: u32,
    /// What we may do, of [`action`].
    pub actions: u32,
    /// How we talk, of [`protocol`].
    pub protocol: u32,
}

impl Agreed {
    /// Our answer to an offer.
    ///
    /// # Errors
    /// A version below 2.
    pub fn answer(offer: Offer) -> Result<Self, ProtocolError> {
        if offer.version < MIN_VERSION {
            return Err(ProtocolError::Version(offer.version));
        }
        Ok(Self {
            version: offer.version.min(VERSION),
            actions: offer.actions & action::WANTED,
            protocol: offer.protocol & protocol::WANTED,
        })
    }

    /// Appends the `O` frame that says so.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        for number in [self.version, self.actions, self.protocol] {
            body.extend_from_slice(&number.to_be_bytes());
        }
        if self.actions & action::SET_MACROS != 0 {
            for (stage, list) in MACROS {
                body.extend_from_slice(&stage.to_be_bytes());
                body.extend_from_slice(list);
            }
        }
        frame::put(out, b'O', &[&body]);
    }

    /// Whether the MTA waits for a reply to this command. A reply that is not waited for is taken as the
    /// answer to a later command, and Postfix does not notice.
    #[inline]
    pub const fn expects_reply(self, kind: Kind) -> bool {
        let silent = match kind {
            Kind::Connect => protocol::SILENT_CONNECT,
            Kind::Helo => protocol::SILENT_HELO,
            Kind::Mail => protocol::SILENT_MAIL,
            Kind::Recipient => protocol::SILENT_RECIPIENT,
            Kind::Data => protocol::SILENT_DATA,
            Kind::Header => protocol::SILENT_HEADERS,
            Kind::EndOfHeaders => protocol::SILENT_END_OF_HEADERS,
            Kind::Body => protocol::SILENT_BODY,
            Kind::Unknown => protocol::SILENT_UNKNOWN,
            Kind::EndOfMessage | Kind::Negotiate => return true,
            Kind::Abort | Kind::Macros | Kind::Quit | Kind::QuitNewConnection => return false,
        };
        self.protocol & silent == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn postfix_and_sendmail_are_asked_for_what_is_wanted() {
        let postfix = Offer { version: 6, actions: 0x1ff, protocol: 0x1f_ffff };
        let agreed = Agreed::answer(postfix).unwrap();
        assert_eq!(agreed, Agreed { version: 6, actions: 0x139, protocol: 0x4_f192 });
        let sendmail = Offer { protocol: 0x301f_ffff, ..postfix };
        assert_eq!(Agreed::answer(sendmail), Ok(agreed));
        let replies: String = "CHMRTLNBEUADQK"
            .bytes()
            .filter(|byte| agreed.expects_reply(Kind::from_byte(*byte).unwrap()))
            .map(char::from)
            .collect();
        assert_eq!(replies, "TBEU");
    }

    #[test]
    fn an_old_peer_gets_no_macro_lists() {
        let agreed = Agreed::answer(Offer { version: 2, actions: 0x3f, protocol: 0x7f }).unwrap();
        assert_eq!(agreed, Agreed { version: 2, actions: 0x39, protocol: 0x12 });
        let mut out = Vec::new();
        agreed.put(&mut out);
        assert_eq!(out, b"\0\0\0\x0dO\0\0\0\x02\0\0\0\x39\0\0\0\x12");
        let ancient = Offer { version: 1, actions: 0xf, protocol: 0x3f };
        assert_eq!(Agreed::answer(ancient), Err(ProtocolError::Version(1)));
    }

    proptest! {
        #[test]
        fn nothing_is_asked_for_that_was_not_offered(version in 2_u32.., actions: u32, protocol: u32) {
            let agreed = Agreed::answer(Offer { version, actions, protocol }).unwrap();
            prop_assert!(agreed.version <= version);
            prop_assert_eq!(agreed.actions & !actions, 0);
            prop_assert_eq!(agreed.protocol & !protocol, 0);
        }
    }
}
