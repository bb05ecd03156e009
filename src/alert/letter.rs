//! Mail that becalm sends, as bytes: what an alert or a notice looks like on its way.

use std::time::{Duration, SystemTime};

use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};

use super::Alert;
use super::notice::Notice;
use crate::quarantine::mark::{Marker, OWN_HEADER, OwnMark};
use crate::time::Timestamp;

/// A letter, ready to be sent.
pub struct Letter {
    /// Who sends it, and to whom.
    pub envelope: Envelope,
    /// Header and body.
    pub bytes: Vec<u8>,
}

/// Why there is no letter.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// Something is no address that mail can be sent to.
    #[error("`{0}` is not an address that mail can be sent to: {1}")]
    Address(String, #[source] lettre::address::AddressError),
    /// It cannot be put together.
    #[error("the mail cannot be put together: {0}")]
    Message(#[from] lettre::error::Error),
}

/// An alert to one recipient. `marker`: without it, becalm does not know the letter as its own.
///
/// # Errors
/// An address that is none.
pub fn alert(
    alert: &Alert,
    from: &str,
    to: &str,
    marker: Option<&Marker>,
    now: Timestamp,
) -> Result<Letter, LetterError> {
    let draft = Draft {
        from,
        to,
        sender: Some(from),
        id: &alert.id,
        node: &alert.node,
        subject: &format!("[becalm] {}", alert.title),
        text: &format!(
            "{}\n\n-- \nbecalm on {}, {}\nevent {}, severity {}, id {}\n",
            alert.text,
            alert.node,
            alert.at.rfc3339(),
            alert.event.name(),
            alert.severity.name(),
            alert.id
        ),
        // RFC 3834: not an answer to anything.
        auto_submitted: "auto-generated",
        kind: "alert",
        in_reply_to: None,
    };
    draft.finish(marker, now)
}

/// A notice to an author. `id`: one that no other message of this node has.
///
/// # Errors
/// An address that is none.
pub fn notice(
    notice: &Notice,
    from: &str,
    node: &str,
    id: &str,
    marker: Option<&Marker>,
    now: Timestamp,
) -> Result<Letter, LetterError> {
    let draft = Draft {
        from,
        to: &notice.to,
        // Nobody is to be told that it could not be delivered.
        sender: None,
        id,
        node,
        subject: &notice.subject,
        text: &notice.text,
        auto_submitted: "auto-replied",
        kind: "notice",
        in_reply_to: notice.in_reply_to.as_deref(),
    };
    draft.finish(marker, now)
}

struct Draft<'a> {
    from: &'a str,
    to: &'a str,
    sender: Option<&'a str>,
    id: &'a str,
    node: &'a str,
    subject: &'a str,
    text: &'a str,
    auto_submitted: &'a str,
    kind: &'a str,
    in_reply_to: Option<&'a str>,
}

impl Draft<'_> {
    fn finish(self, marker: Option<&Marker>, now: Timestamp) -> Result<Letter, LetterError> {
        let address = |text: &str| -> Result<lettre::Address, LetterError> {
            text.parse().map_err(|error| LetterError::Address(text.to_owned(), error))
        };
        let (from, to) = (address(self.from)?, address(self.to)?);
        let sender = self.sender.map(address).transpose()?;
        let envelope = Envelope::new(sender, vec![to.clone()])?;
        let message_id = format!("becalm.{}@{}", plain(self.id), plain(self.node));
        let mut builder = Message::builder()
            .from(Mailbox::new(Some("becalm".to_owned()), from))
            .to(Mailbox::new(None, to))
            .subject(one_line(self.subject))
            .date(SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs()))
            .message_id(Some(format!("<{message_id}>")))
            .envelope(envelope.clone())
            .raw_header(raw("Auto-Submitted", self.auto_submitted.to_owned()))
            // For programs that never heard of RFC 3834.
            .raw_header(raw("X-Auto-Response-Suppress", "All".to_owned()))
            .header(ContentType::TEXT_PLAIN);
        if let Some(id) = self.in_reply_to.map(plain_id).filter(|id| !id.is_empty()) {
            builder = builder.in_reply_to(format!("<{id}>")).references(format!("<{id}>"));
        }
        if let Some(marker) = marker {
            let mark = OwnMark { kind: self.kind.to_owned(), message_id, to: self.to.to_owned(), at: now };
            builder = builder.raw_header(raw(OWN_HEADER, marker.own_value(&mark)));
        }
        let message = builder.body(self.text.replace('\r', ""))?;
        Ok(Letter { envelope, bytes: message.formatted() })
    }
}

fn raw(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// What can stand in a Message-ID without quoting.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')).take(90).collect()
}

/// An id that somebody else wrote.
fn plain_id(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>')).take(250).collect()
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Kind, Severity};

    const NOW: Timestamp = Timestamp::from_millis(1_479_112_212_000);

    fn letter(alert: &Alert, marker: Option<&Marker>) -> String {
        let letter = super::alert(alert, "becalm@example.org", "ops@example.org", marker, NOW).unwrap();
        assert_eq!(letter.envelope.to().len(), 1);
        String::from_utf8(letter.bytes).unwrap()
    }

    #[test]
    fn an_alert_carries_its_code_and_says_that_a_program_wrote_it() {
        let marker = Marker::new(&[7; 32], "mx1");
        let alert = Alert::new(Kind::StormStarted, Severity::Critical, NOW, "mx1", "mx1-1-1".to_owned())
            .says("storm on all@example.org\r\nBcc: all@example.org", "Größer.");
        let text = letter(&alert, Some(&marker));
        assert!(text.contains("Auto-Submitted: auto-generated\r\n"), "{text}");
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("\nBcc"), "{text}");
        assert!(text.contains("Date: Mon, 14 Nov 2016 08:30:12 +0000\r\n"), "{text}");
        let header = text.split("X-Becalm-Own:").nth(1).unwrap();
        let mut lines = header.split("\r\n");
        let mut value = lines.next().unwrap().to_owned();
        lines.take_while(|line| line.starts_with([' ', '\t'])).for_each(|line| value.push_str(line));
        let mark = marker.verify_own(&value).expect("its own code");
        assert_eq!((mark.to.as_str(), mark.message_id.as_str()), ("ops@example.org", "becalm.mx1-1-1@mx1"));
        assert!(text.contains("Message-ID: <becalm.mx1-1-1@mx1>\r\n"), "{text}");
        assert!(!letter(&alert, None).contains("X-Becalm"));
    }

    #[test]
    fn a_notice_has_no_sender_and_answers_the_message() {
        let notice = Notice {
            to: "p@example.org".to_owned(),
            subject: "On hold".to_owned(),
            text: "It waits.\n".to_owned(),
            in_reply_to: Some("a>\r\nBcc: <b".to_owned()),
        };
        let letter = super::notice(&notice, "becalm@example.org", "mx1", "n1", None, NOW).unwrap();
        assert_eq!(letter.envelope.from(), None);
        let text = String::from_utf8(letter.bytes).unwrap();
        assert!(text.contains("In-Reply-To: <aBcc:b>\r\n"), "{text}");
        assert!(text.contains("Auto-Submitted: auto-replied\r\n"), "{text}");
        let nobody = Notice { to: "not an address".to_owned(), ..notice };
        assert!(super::notice(&nobody, "becalm@example.org", "mx1", "n1", None, NOW).is_err());
    }
}
