//! The header field that list mail carries: which storm, which verdict, and a code that only this site can
//! make.
//!
//! ```text
//! X-Becalm: v=1; node=mx1; id=4XyZ1a2b3c; verdict=hold; reason=storm; storm=20161114T083012Z-3f2a;
//!     t=1479112212; copies=840000; until=0;
//!     list=5e3f…; mac=0f5c…
//! ```
//!
//! Whoever releases or returns a held message checks the code first, so that nobody can have mail that is not
//! becalm's acted upon by writing a header. The queue id is part of it: a mark copied to another message is
//! worth nothing there.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::time::Timestamp;

/// Name of the header field.
pub const HEADER: &str = "X-Becalm";

/// Name of the header field of mail that becalm itself sends: alerts, and notices to authors.
///
/// ```text
/// X-Becalm-Own: own=1; node=mx1; kind=alert; t=1479112212; id=6d78…; to=6f70…; mac=0f5c…
/// ```
///
/// The code covers the Message-ID, the one recipient and the time (`id` and `to` in hexadecimal): who copies the
/// field from a message that he got can have a message pass to himself, and not for long.
pub const OWN_HEADER: &str = "X-Becalm-Own";

/// The first 16 bytes of HMAC-SHA256 are kept; 128 bits cannot be guessed.
const MAC_BYTES: usize = 16;

/// Longest field value that [`Marker::verify`] looks at. Ours are below 400 bytes.
const MAX_VALUE: usize = 1024;

/// Longest value of [`OWN_HEADER`] that is looked at: ours have an address of at most 320 bytes and an id of at most
/// 200, in hexadecimal, and some 100 bytes more.
pub const MAX_OWN_VALUE: usize = 1280;

/// Makes and checks marks with the site's key.
#[derive(Clone)]
pub struct Marker {
    mac: Hmac<Sha256>,
    /// Of earlier keys, whose marks are still good.
    earlier: Vec<Hmac<Sha256>>,
    node: String,
}

/// What a mark says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Postfix's queue id.
    pub queue_id: String,
    /// What was done: `accept`, `hold`, `strip`.
    pub verdict: String,
    /// Why: `calm`, `suspicion`, `automatic`, `storm`, `limit`, `exempt`.
    pub reason: String,
    /// The storm's name; `-` where there is none.
    pub storm: String,
    /// When.
    pub at: Timestamp,
    /// Mailboxes that the message would have reached.
    pub copies: u64,
    /// When a suspicion is to be released; none for everything else.
    pub until: Option<Timestamp>,
    /// Keyed hash of the list that decided, or of the conversation where there is no list; none: neither is known.
    pub list: Option<u64>,
}

/// What the mark of becalm's own mail says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnMark {
    /// `alert`, `notice`.
    pub kind: String,
    /// Its Message-ID, without `<>`.
    pub message_id: String,
    /// Its one recipient.
    pub to: String,
    /// When it was written.
    pub at: Timestamp,
}

impl Marker {
    /// With the site's secret key and this node's name. Letters, digits, `.`, `_` and `-` of the name are
    /// kept.
    pub fn new(key: &[u8; 32], node: &str) -> Self {
        Self { mac: keyed(key), earlier: Vec::new(), node: plain(node) }
    }

    /// The same; marks that were made with `earlier` keys are good too.
    pub fn knowing(mut self, earlier: &[[u8; 32]]) -> Self {
        self.earlier = earlier.iter().map(keyed).collect();
        self
    }

    /// The node's name, as it stands in marks.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The value of the header field.
    pub fn value(&self, mark: &Mark) -> String {
        let mut text = String::with_capacity(MAX_VALUE / 2);
        text.extend(["v=1; node=", &self.node]);
        let words = [&mark.queue_id, &mark.verdict, &mark.reason, &mark.storm];
        for (name, word) in ["; id=", "; verdict=", "; reason=", "; storm="].into_iter().zip(words) {
            text.push_str(name);
            push_plain(&mut text, word);
        }
        let (at, copies, list) = (mark.at.as_secs(), mark.copies, mark.list.unwrap_or(0));
        // Rounded up: nothing goes before its time.
        let until = mark.until.map_or(0, |until| until.as_millis().div_ceil(1000));
        write!(text, "; t={at}; copies={copies}; until={until}; list={list:x}")
            .expect("memory takes all text");
        self.signed(text)
    }

    /// Reads a field value. None unless it was made with one of the keys; the caller compares the queue id.
    pub fn verify(&self, value: &str) -> Option<Mark> {
        let value: String =
            value.get(..value.len().min(MAX_VALUE))?.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = self.genuine(&value)?;
        let field = |name: &str| field(text, name).map(str::to_owned);
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        let time = |seconds: u64| Timestamp::from_millis(seconds.saturating_mul(1000));
        Some(Mark {
            queue_id: field("id")?,
            verdict: field("verdict")?,
            reason: field("reason")?,
            storm: field("storm")?,
            at: time(number("t")?),
            // The first marks had none of these.
            copies: number("copies").unwrap_or(0),
            until: number("until").filter(|until| *until > 0).map(time),
            list: field("list").and_then(|key| u64::from_str_radix(&key, 16).ok()).filter(|key| *key != 0),
        })
    }

    /// The value of [`OWN_HEADER`].
    pub fn own_value(&self, mark: &OwnMark) -> String {
        self.signed(format!(
            "own=1; node={}; kind={}; t={}; id={}; to={}",
            self.node,
            plain(&mark.kind),
            mark.at.as_secs(),
            hex(mark.message_id.as_bytes()),
            hex(mark.to.as_bytes()),
        ))
    }

    /// Reads a value of [`OWN_HEADER`]. None unless it was made with this key; the caller compares id, recipient and
    /// time.
    pub fn verify_own(&self, value: &str) -> Option<OwnMark> {
        if value.len() > MAX_OWN_VALUE {
            return None;
        }
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = self.genuine(&value)?;
        // Marks of other mail begin otherwise: neither passes for the other.
        let fields = text.strip_prefix("own=1; ")?;
        let bytes = |name| unhex(field(fields, name)?);
        Some(OwnMark {
            kind: field(fields, "kind")?.to_owned(),
            message_id: String::from_utf8(bytes("id")?).ok()?,
            to: String::from_utf8(bytes("to")?).ok()?,
            at: Timestamp::from_millis(field(fields, "t")?.parse::<u64>().ok()?.saturating_mul(1000)),
        })
    }

    /// The text before the code, where the code is right.
    fn genuine<'v>(&self, value: &'v str) -> Option<&'v str> {
        let (text, code) = value.rsplit_once("; mac=")?;
        let code = decode_hex(code)?;
        let made_with = |mac: &Hmac<Sha256>| {
            let mut mac = mac.clone();
            mac.update(text.as_bytes());
            // Compares in constant time.
            mac.verify_truncated_left(&code).is_ok()
        };
        (made_with(&self.mac) || self.earlier.iter().any(made_with)).then_some(text)
    }

    /// `text` and its code.
    fn signed(&self, mut text: String) -> String {
        let mut mac = self.mac.clone();
        mac.update(text.as_bytes());
        text.push_str("; mac=");
        push_hex(&mut text, mac.finalize().into_bytes().get(..MAC_BYTES).unwrap_or_default());
        text
    }
}

/// The field `name` of `a=b; c=d`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split("; ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).filter_map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect())
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Only what can stand in a field without quoting; at most 128 characters.
fn plain(text: &str) -> String {
    let mut kept = String::new();
    push_plain(&mut kept, text);
    kept
}

/// The same, at the end of `to`.
fn push_plain(to: &mut String, text: &str) {
    const MOST: usize = 128;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    // Nearly all words are kept whole.
    if (1..=MOST).contains(&text.len()) && text.bytes().all(is_plain) {
        to.push_str(text);
        return;
    }
    let before = to.len();
    to.extend(text.bytes().filter(|byte| is_plain(*byte)).take(MOST).map(char::from));
    if to.len() == before {
        to.push('-');
    }
}

/// Exactly [`MAC_BYTES`] bytes in hexadecimal.
fn decode_hex(text: &str) -> Option<[u8; MAC_BYTES]> {
    let mut bytes = [0; MAC_BYTES];
    if text.len() != 2 * MAC_BYTES || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            queue_id: "4XyZ1a2b3c".to_owned(),
            verdict: "hold".to_owned(),
            reason: "storm".to_owned(),
            storm: "20161114T083012Z-3f2a".to_owned(),
            at: Timestamp::from_millis(1_479_112_212_000),
            copies: 840_000,
            until: Some(Timestamp::from_millis(1_479_112_812_000)),
            list: Some(0x5e3f),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let marker = Marker::new(&[7; 32], "mx1.example.org");
        let value = marker.value(&mark());
        assert_eq!(marker.verify(&value), Some(mark()));
        assert_eq!(marker.verify(&value.replace("; storm", ";\n\tstorm")), Some(mark()), "folded on the way");
        let lasting = Mark { until: None, ..mark() };
        assert_eq!(marker.verify(&marker.value(&lasting)), Some(lasting));
        let later = Mark { until: Some(Timestamp::from_millis(1_479_112_811_001)), ..mark() };
        assert_eq!(marker.verify(&marker.value(&later)), Some(mark()), "to the second, never too early");
    }

    #[test]
    fn anything_else_is_refused() {
        let marker = Marker::new(&[7; 32], "mx1");
        let value = marker.value(&mark());
        assert_eq!(Marker::new(&[8; 32], "mx1").verify(&value), None, "another site's key");
        assert_eq!(marker.verify(&value.replace("4XyZ1a2b3c", "4XyZ1a2b3d")), None, "another message");
        assert_eq!(marker.verify(&value[..value.len() - 2]), None, "a shortened code");
        assert_eq!(marker.verify("v=1; mac="), None);
        assert_eq!(marker.verify(""), None);
        assert_eq!(marker.verify(&"ä".repeat(600)), None, "long, and cut inside a character");
    }

    #[test]
    fn becalm_s_own_mail_is_known_by_its_code_and_is_no_held_mail() {
        let marker = Marker::new(&[7; 32], "mx1");
        let own = OwnMark {
            kind: "alert".to_owned(),
            message_id: "becalm.mx1-1@mx1".to_owned(),
            to: "öps; mac=@example.org".to_owned(),
            at: Timestamp::from_millis(1_479_112_212_000),
        };
        let value = marker.own_value(&own);
        assert_eq!(marker.verify_own(&value), Some(own.clone()));
        assert_eq!(
            marker.verify_own(&value.replace("; to", ";\n to")),
            Some(own.clone()),
            "folded on the way"
        );
        assert_eq!(Marker::new(&[8; 32], "mx1").verify_own(&value), None, "another site's key");
        let forged = value.replace(&hex(own.to.as_bytes()), &hex(b"all@example.org"));
        assert_ne!(forged, value);
        assert_eq!(marker.verify_own(&forged), None, "another recipient");
        assert_eq!(marker.verify(&value), None);
        assert_eq!(marker.verify_own(&marker.value(&mark())), None);
        assert_eq!(marker.verify_own(&"ä".repeat(900)), None);
    }

    #[test]
    fn nothing_can_be_smuggled_into_a_field() {
        let marker = Marker::new(&[7; 32], "mx 1; id=forged\r\nBcc: all");
        let value = marker.value(&Mark { queue_id: "A; verdict=accept".to_owned(), ..mark() });
        let read = marker.verify(&value).expect("made with this key");
        assert_eq!(read.queue_id, "Averdictaccept");
        assert_eq!(read.verdict, "hold");
        assert!(!value.contains(['\r', '\n']));
    }

    #[test]
    fn own_mail_that_was_on_its_way_at_a_rotation_is_known() {
        let own = OwnMark {
            kind: "alert".to_owned(),
            message_id: "<1@mx1>".to_owned(),
            to: "ops@example.org".to_owned(),
            at: Timestamp::from_millis(1_479_112_212_000),
        };
        let value = Marker::new(&[7; 32], "mx1").own_value(&own);
        let after = Marker::new(&[8; 32], "mx1");
        assert_eq!(after.verify_own(&value), None);
        assert_eq!(after.knowing(&[[7; 32]]).verify_own(&value), Some(own));
    }
}
