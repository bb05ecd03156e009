//! virtual(5) in text form, as postmap(1) reads it.

use super::values::values;
use super::{Complaint, Destination, Name, Sink, Standing, is_continuation, is_ignored, trim};

/// Reads a file line by line.
#[derive(Debug, Default)]
pub struct Virtuals {
    standing: Standing,
}

impl Virtuals {
    /// Reads one physical line, without its line feed. Blank lines and comments do not end an entry.
    ///
    /// `@domain address` catches what nobody else gets: it is no list and is skipped. `@old @new` is passed on
    /// as a domain alias.
    pub fn line(&mut self, number: u32, text: &[u8], sink: &mut impl Sink) {
        if is_ignored(text) {
            return;
        }
        let right = if is_continuation(text) {
            let Some(values) = self.standing.continued(number, text, sink) else { return };
            values
        } else {
            self.standing = Standing::Skipping;
            // The table format does not understand quoting conventions (virtual(5), BUGS).
            let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
            let (name, right) = text.split_at_checked(end).unwrap_or((text, &[]));
            match name {
                [b'/', ..] => return sink.complaint(number, Complaint::Regexp),
                [.., b':'] => return sink.complaint(number, Complaint::Colon),
                [b'@', old @ ..] => return domain(number, old, right, sink),
                _ => (),
            }
            self.standing = Standing::Entry;
            sink.entry(number, Name::Address(name));
            right
        };
        values(right, &mut |found| match found {
            Ok(Destination::Include(_)) => sink.complaint(number, Complaint::IncludeInVirtual),
            Ok(destination) => sink.value(number, destination),
            Err(complaint) => sink.complaint(number, complaint),
        });
    }
}

/// `@old @new`. Only the first address of a result may have this form (virtual(5)).
fn domain(number: u32, old: &[u8], right: &[u8], sink: &mut impl Sink) {
    let right = trim(right);
    let end =
        right.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b',').unwrap_or(right.len());
    match right.get(..end) {
        Some([b'@', new @ ..]) if end == right.len() && !new.is_empty() && !old.is_empty() => {
            sink.domain_alias(number, old, new);
        }
        Some([]) | None => sink.complaint(number, Complaint::NoValue),
        Some(_) => (),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::parse;
    use super::Virtuals;

    fn read(text: &str) -> Vec<String> {
        let mut virtuals = Virtuals::default();
        parse(text, |number, text, log| virtuals.line(number, text, log))
    }

    #[test]
    fn names_end_at_white_space() {
        assert_eq!(
            read("all@x.example a@x.example, b\n  c\n# more\n\td\nbare\te\n"),
            [
                "1 name all@x.example",
                "1 address a@x.example",
                "1 address b",
                "2 address c",
                "4 address d",
                "5 name bare",
                "5 address e"
            ]
        );
    }

    #[test]
    fn domains_are_no_lists() {
        assert_eq!(
            read("@old.example @new.example\n@any.example boss@x.example\n  second\n@a.example\n"),
            ["1 domain old.example new.example", "4 NoValue"]
        );
        assert!(read("@a.example @b.example, c@d.example").is_empty(), "a catch-all for two");
    }

    #[test]
    fn other_tables_are_recognised() {
        assert_eq!(
            read("all: a\n  b\n/^all@/ c\n  d\nx :include:/e"),
            ["1 Colon", "3 Regexp", "5 name x", "5 IncludeInVirtual"]
        );
    }
}
