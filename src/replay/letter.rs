//! A message of a replay: when, from whom, and its headers.

use std::time::Duration;

/// A message, as far as the judgement reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Time since the first message of the replay.
    pub at: Duration,
    /// Envelope sender, without angle brackets; empty for the null sender.
    pub sender: String,
    /// Header fields in order, unfolded.
    pub headers: Vec<(String, String)>,
}

impl Letter {
    /// Its header block, in place of what was in `head`.
    pub fn write_head(&self, head: &mut Vec<u8>) {
        head.clear();
        for (name, value) in &self.headers {
            head.extend_from_slice(format!("{name}: {value}\n").as_bytes());
        }
    }

    /// The message in RFC 5322 form, with a one-line body, for a client that sends it by SMTP.
    pub fn to_message(&self, to: &str) -> String {
        let mut text = String::new();
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("To: {to}\r\n\r\nPlease remove me from this list.\r\n"));
        text
    }
}
