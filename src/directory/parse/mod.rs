//! The text forms of Postfix's tables: lines in, entries and destinations out. No file is opened here and no
//! address is interpreted.

use thiserror::Error;

pub mod aliases;
pub mod include;
mod values;
pub mod virtuals;

/// Where mail goes, as one value of an entry writes it. Slices are raw: quotes and case as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// An address, with or without a domain; it may itself be an alias.
    Address(&'a [u8]),
    /// `\name`: the mailbox of that name, whatever aliases exist.
    Mailbox(&'a [u8]),
    /// `/file/name`, without quotes.
    File(&'a [u8]),
    /// `|command`, without quotes and bar.
    Command(&'a [u8]),
    /// `:include:/file/name`: the path alone.
    Include(&'a [u8]),
}

/// The left-hand side of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// aliases(5): a local part, unquoted.
    Local(&'a [u8]),
    /// virtual(5): an address, or a local part that stands for it at `myorigin`.
    Address(&'a [u8]),
}

/// Takes what a parser finds, in the order of the file. Values belong to the entry before them.
pub trait Sink {
    /// An entry begins.
    fn entry(&mut self, line: u32, name: Name<'_>);
    /// One destination of the entry that began last (of the whole file, for `:include:` files).
    fn value(&mut self, line: u32, destination: Destination<'_>);
    /// `@old @new` in virtual(5): every address of one domain is that of the other.
    fn domain_alias(&mut self, line: u32, old: &[u8], new: &[u8]);
    /// Something that was skipped.
    fn complaint(&mut self, line: u32, complaint: Complaint);
}

/// Something in a file that was skipped. The rest of the file still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Complaint {
    /// White space begins the first logical line.
    #[error("a continuation line without an entry before it; remove the white space before it")]
    Orphan,
    /// A line of aliases(5) without a colon.
    #[error("not in `name: value` form; is this a virtual(5) file?")]
    NoColon,
    /// A name of aliases(5) with a domain.
    #[error("the name of an alias must be local; entries with a domain belong into a virtual(5) file")]
    NotLocal,
    /// A line of virtual(5) in the form of aliases(5).
    #[error("in `name: value` form; is this an aliases(5) file?")]
    Colon,
    /// A line of virtual(5) in the form of a regular expression.
    #[error("looks like a regular expression; only virtual(5) files in text form are read")]
    Regexp,
    /// An entry without a right-hand side.
    #[error("an entry without a value")]
    NoValue,
    /// An entry without a left-hand side.
    #[error("an entry without a name")]
    NoName,
    /// A quote, a parenthesis or an angle bracket is still open where the line ends.
    #[error("a quote or bracket is not closed on its line")]
    Unclosed,
    /// `:include:` where Postfix does not know it.
    #[error("`:include:` does not work in virtual(5)")]
    IncludeInVirtual,
    /// `:include:` of a path that does not begin with a slash.
    #[error("`:include:` needs an absolute path")]
    RelativeInclude,
    /// What cannot be an address: empty, or beyond 320 bytes.
    #[error("not an address")]
    NotAnAddress,
    /// The name was there before.
    #[error("a second entry for this name; as in postmap(1), the first one counts")]
    Duplicate,
}

/// What the logical line is that continuation lines belong to.
#[derive(Debug, Default, PartialEq, Eq)]
enum Standing {
    /// None has begun.
    #[default]
    Start,
    /// An entry.
    Entry,
    /// One that was skipped, or that is none of a list.
    Skipping,
}

impl Standing {
    /// The values on a continuation line; none if they belong to no entry.
    fn continued<'t>(&self, number: u32, text: &'t [u8], sink: &mut impl Sink) -> Option<&'t [u8]> {
        match self {
            Self::Entry => Some(text),
            Self::Skipping => None,
            Self::Start => {
                sink.complaint(number, Complaint::Orphan);
                None
            }
        }
    }
}

/// Without white space at its ends.
fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// Whether Postfix ignores this line wherever it stands: blank, or a comment.
fn is_ignored(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), None | Some(b'#'))
}

/// Whether this line continues the logical line before it.
fn is_continuation(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod testing {
    use super::{Complaint, Destination, Name, Sink};

    /// Writes down what a parser found, one line each.
    #[derive(Default)]
    pub struct Log(pub Vec<String>);

    impl Sink for Log {
        fn entry(&mut self, line: u32, name: Name<'_>) {
            self.0.push(match name {
                Name::Local(name) => format!("{line} local {}", name.escape_ascii()),
                Name::Address(name) => format!("{line} name {}", name.escape_ascii()),
            });
        }

        fn value(&mut self, line: u32, destination: Destination<'_>) {
            let (kind, text) = match destination {
                Destination::Address(text) => ("address", text),
                Destination::Mailbox(text) => ("mailbox", text),
                Destination::File(text) => ("file", text),
                Destination::Command(text) => ("command", text),
                Destination::Include(text) => ("include", text),
            };
            self.0.push(format!("{line} {kind} {}", String::from_utf8_lossy(text)));
        }

        fn domain_alias(&mut self, line: u32, old: &[u8], new: &[u8]) {
            self.0.push(format!("{line} domain {} {}", old.escape_ascii(), new.escape_ascii()));
        }

        fn complaint(&mut self, line: u32, complaint: Complaint) {
            self.0.push(format!("{line} {complaint:?}"));
        }
    }

    /// Feeds `text` line by line.
    pub fn parse(text: &str, mut line: impl FnMut(u32, &[u8], &mut Log)) -> Vec<String> {
        let mut log = Log::default();
        for (number, text) in (1..).zip(text.split('\n')) {
            line(number, text.as_bytes(), &mut log);
        }
        log.0
    }
}
