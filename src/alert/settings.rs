//! What an operator can set about alerts and notices.

use std::path::PathBuf;
use std::time::Duration;

use super::Kind;

/// When alerts are made, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// Where they go; at most 16.
    pub ways: Vec<Way>,
    /// How long a trouble must last before it is alerted of, and its end likewise (default 30 s). 0 to 1 h.
    pub lasting: Duration,
    /// No mail for so long, after there was some, is alerted of (default 24 h); zero: never. 0 to 30 days.
    pub silence: Duration,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self { ways: Vec::new(), lasting: Duration::from_secs(30), silence: Duration::from_secs(86_400) }
    }
}

/// Where alerts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// For logs and `becalm alert test --way`.
    pub name: String,
    /// The events that go this way; none: all.
    pub events: Option<Vec<Kind>>,
    /// For one attempt (default 10 s). 1 s to 5 min.
    pub timeout: Duration,
    /// How.
    pub means: Means,
}

impl Way {
    /// Does this event go this way? Of ends, those of the events that go this way; alone, `recovered` means all.
    pub fn takes(&self, event: Kind, recovers: Option<Kind>) -> bool {
        let Some(events) = &self.events else { return true };
        event == Kind::Test
            || (events.contains(&event)
                && recovers.is_none_or(|of| events.contains(&of) || events.len() == 1))
    }
}

/// How an alert travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// A POST of JSON.
    Webhook {
        /// `http://` or `https://`.
        url: String,
        /// Its content is sent as bearer token.
        token_file: Option<PathBuf>,
        /// What is sent.
        body: Body,
    },
    /// A program, with the JSON object on its standard input.
    Command {
        /// The program's absolute path and its arguments; not empty.
        argv: Vec<String>,
    },
    /// Mail.
    Mail(MailSettings),
}

/// What a webhook gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// The whole object.
    #[default]
    Full,
    /// `{"text": …}` alone, for chats that refuse what they do not know.
    Text,
}

/// Where mail is handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSettings {
    /// Name or address of the submission server.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: Tls,
    /// Who logs in; none: nobody does.
    pub user: Option<String>,
    /// A file with his password; there where there is a user.
    pub password_file: Option<PathBuf>,
    /// Sender and author.
    pub from: String,
    /// Recipients, each in a message of its own; 1 to 16.
    pub to: Vec<String>,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    None,
    /// From STARTTLS on, or nothing is sent.
    #[default]
    Starttls,
    /// From the beginning.
    Tls,
}

/// Notices to the authors of held mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeSettings {
    /// Are they sent?
    pub enabled: bool,
    /// Who gets one: senders of these domains, in lower case; empty: those of the site.
    pub domains: Vec<String>,
    /// `{list}`, `{members}`, `{storm}` and `{since}` are filled in; at most 200 bytes.
    pub subject: String,
    /// The same; at most 4,000 bytes.
    pub text: String,
    /// Notices a minute in all. 1 to 10,000.
    pub per_minute: u32,
}

impl Default for NoticeSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            domains: Vec::new(),
            subject: "Your message to {list} is on hold".to_owned(),
            text: "Your message to {list} has not been delivered yet. So many people are answering to all of this\n\
                   list, which reaches {members} people, that such answers are on hold since {since}.\n\
                   \n\
                   You need not send it again: an administrator will deliver it or return it to you. If your\n\
                   answer is for one person, please write to that person alone.\n"
                .to_owned(),
            per_minute: 60,
        }
    }
}
