//! aliases(5) in text form.

use super::values::values;
use super::{Complaint, Name, Sink, Standing, is_continuation, is_ignored, trim};

/// Reads a file line by line.
#[derive(Debug, Default)]
pub struct Aliases {
    standing: Standing,
}

impl Aliases {
    /// Reads one physical line, without its line feed. Blank lines and comments do not end an entry; a quote
    /// ends with its line.
    pub fn line(&mut self, number: u32, text: &[u8], sink: &mut impl Sink) {
        if is_ignored(text) {
            return;
        }
        let right = if is_continuation(text) {
            let Some(values) = self.standing.continued(number, text, sink) else { return };
            values
        } else {
            match split(text) {
                Ok((name, right)) => {
                    self.standing = Standing::Entry;
                    sink.entry(number, Name::Local(&name));
                    right
                }
                Err(complaint) => {
                    self.standing = Standing::Skipping;
                    return sink.complaint(number, complaint);
                }
            }
        };
        values(right, &mut |found| match found {
            Ok(destination) => sink.value(number, destination),
            Err(complaint) => sink.complaint(number, complaint),
        });
    }
}

/// The name, unquoted, and what stands right of the colon.
fn split(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Complaint> {
    let mut name = Vec::new();
    let mut quoted = false;
    let mut bytes = text.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' => name.extend(bytes.next().map(|(_, byte)| *byte)),
            b':' if !quoted => {
                let end = trim(&name).len();
                name.truncate(end);
                return if name.is_empty() {
                    Err(Complaint::NoName)
                } else {
                    Ok((name, text.get(at + 1..).unwrap_or_default()))
                };
            }
            b'@' if !quoted => return Err(Complaint::NotLocal),
            _ => name.push(byte),
        }
        // Beyond what any address may have; a megabyte without a colon is not copied to find that out.
        if name.len() > 1_024 {
            return Err(Complaint::NoColon);
        }
    }
    Err(if quoted { Complaint::Unclosed } else { Complaint::NoColon })
}

#[cfg(test)]
mod tests {
    use super::super::testing::parse;
    use super::Aliases;

    fn read(text: &str) -> Vec<String> {
        let mut aliases = Aliases::default();
        parse(text, |number, text, log| aliases.line(number, text, log))
    }

    #[test]
    fn entries_continue_over_comments_and_blank_lines() {
        assert_eq!(
            read("# head\nAll: a,\n  b\n\n# not the end\n\tc@x.example\nnext:d"),
            [
                "2 local All",
                "2 address a",
                "3 address b",
                "6 address c@x.example",
                "7 local next",
                "7 address d"
            ]
        );
    }

    #[test]
    fn names_may_be_quoted_and_have_space_before_the_colon() {
        assert_eq!(
            read("\"all staff\" : a\n\"a:b@c\": b\nx\\:y: c"),
            [
                "1 local all staff",
                "1 address a",
                "2 local a:b@c",
                "2 address b",
                "3 local x:y",
                "3 address c"
            ]
        );
    }

    #[test]
    fn a_line_that_makes_no_sense_takes_its_continuations_with_it() {
        assert_eq!(
            read("  a\nall b\n  c\nall@x.example: d\n  e\n: f\nok: g"),
            ["1 Orphan", "2 NoColon", "4 NotLocal", "6 NoName", "7 local ok", "7 address g"]
        );
        assert_eq!(read("\"open: a"), ["1 Unclosed"]);
    }

    #[test]
    fn carriage_returns_are_white_space() {
        assert_eq!(read("all: a\r\n  b\r"), ["1 local all", "1 address a", "2 address b"]);
    }
}
