//! The right-hand side of aliases(5) and virtual(5), and the lines of `:include:` files: destinations
//! separated by commas or white space, with the quotes, comments and `Name <address>` of RFC 822, as Postfix's
//! tok822_parse(3) reads them.

use super::{Complaint, Destination};

/// Words that may be the phrase before an `<address>`. Longer ones are read as addresses: a line with that many
/// words and no comma is a list of addresses.
const PHRASE: usize = 16;

/// Calls `emit` for every destination in one line.
pub fn values<'a>(text: &'a [u8], emit: &mut impl FnMut(Result<Destination<'a>, Complaint>)) {
    let mut scan = Scan { text, at: 0 };
    let mut words = Words { kept: [&[]; PHRASE], len: 0 };
    while let Some(&byte) = text.get(scan.at) {
        match byte {
            b',' | b';' => {
                words.flush(emit);
                scan.at += 1;
            }
            b'(' => {
                if scan.comment().is_none() {
                    words.flush(emit);
                    return emit(Err(Complaint::Unclosed));
                }
            }
            b'<' => {
                // What stood before it was the name of a person.
                words.len = 0;
                let Some(route) = scan.angle() else { return emit(Err(Complaint::Unclosed)) };
                if !route.is_empty() {
                    emit(Ok(classify(route)));
                }
            }
            b'|' => match scan.command() {
                Some(command) => {
                    words.flush(emit);
                    emit(Ok(classify(command)));
                }
                None => return emit(Err(Complaint::Unclosed)),
            },
            _ if byte.is_ascii_whitespace() => scan.at += 1,
            _ => match scan.word() {
                Some(word) => words.push(word, emit),
                None => return emit(Err(Complaint::Unclosed)),
            },
        }
    }
    words.flush(emit);
}

/// Words since the last comma: addresses, unless an `<address>` follows.
struct Words<'a> {
    kept: [&'a [u8]; PHRASE],
    len: usize,
}

impl<'a> Words<'a> {
    fn push(&mut self, word: &'a [u8], emit: &mut impl FnMut(Result<Destination<'a>, Complaint>)) {
        if self.len == PHRASE {
            self.flush(emit);
        }
        if let Some(place) = self.kept.get_mut(self.len) {
            *place = word;
            self.len += 1;
        }
    }

    fn flush(&mut self, emit: &mut impl FnMut(Result<Destination<'a>, Complaint>)) {
        for word in self.kept.iter().take(self.len) {
            emit(Ok(classify(word)));
        }
        self.len = 0;
    }
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    /// A run of atoms and quoted strings. None: a quote is not closed.
    fn word(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        // The path of an include may hold any character but these.
        let include = starts_with_include(self.text.get(start..)?);
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => self.quoted()?,
                b'\\' => self.at += 2,
                b',' | b';' => break,
                b'(' | b'<' if !include => break,
                _ if byte.is_ascii_whitespace() => break,
                _ => self.at += 1,
            }
        }
        self.at = self.at.min(self.text.len());
        self.text.get(start..self.at)
    }

    /// From a bar to the next comma: a command may have arguments without quotes around them.
    fn command(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => self.quoted()?,
                b',' => break,
                _ => self.at += 1,
            }
        }
        self.text.get(start..self.at).map(<[u8]>::trim_ascii)
    }

    /// Steps over a quoted string.
    fn quoted(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.text.get(self.at)? {
                b'"' => break self.at += 1,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        Some(())
    }

    /// Steps over a comment; they nest.
    fn comment(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.text.get(self.at)? {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => self.at += 1,
                _ => (),
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// What stands between angle brackets.
    fn angle(&mut self) -> Option<&'a [u8]> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.text.get(self.at)? {
                b'>' => break,
                b'"' => self.quoted()?,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        let inside = self.text.get(start..self.at).map(<[u8]>::trim_ascii);
        self.at += 1;
        inside
    }
}

/// What kind of destination a word is. local(8) looks behind the quotes: `"|command"`, `"/file"` and
/// `":include:/file"` are what they would be without.
fn classify(word: &[u8]) -> Destination<'_> {
    let bare = unquoted(word);
    match bare.first() {
        Some(b'|') => Destination::Command(unquoted(bare.get(1..).unwrap_or_default().trim_ascii())),
        Some(b'/') => Destination::File(bare),
        Some(b':') if starts_with_include(bare) => {
            Destination::Include(unquoted(bare.get(INCLUDE.len()..).unwrap_or_default().trim_ascii()))
        }
        Some(b'\\') => Destination::Mailbox(bare.get(1..).unwrap_or_default()),
        _ => Destination::Address(word),
    }
}

const INCLUDE: &[u8] = b":include:";

fn starts_with_include(text: &[u8]) -> bool {
    text.get(..INCLUDE.len()).is_some_and(|start| start.eq_ignore_ascii_case(INCLUDE))
}

/// The inside of a word that is one quoted string; any other word as it is. Backslashes inside are kept: no
/// path or command that becalm tells apart needs them resolved.
fn unquoted(word: &[u8]) -> &[u8] {
    match word {
        [b'"', inside @ .., b'"'] if !inside.contains(&b'"') => inside,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sink;
    use super::super::testing::{Log, parse};
    use super::values;

    fn read(text: &str) -> Vec<String> {
        parse(text, |line, text, log: &mut Log| {
            values(text, &mut |found| match found {
                Ok(destination) => log.value(line, destination),
                Err(complaint) => log.complaint(line, complaint),
            });
        })
        .into_iter()
        .map(|line| line.trim_start_matches("1 ").to_owned())
        .collect()
    }

    #[test]
    fn addresses_are_separated_by_commas_and_white_space() {
        assert_eq!(
            read("a, b@x.example,c  d@y.example,,"),
            ["address a", "address b@x.example", "address c", "address d@y.example"]
        );
        assert!(read(" , ").is_empty());
    }

    #[test]
    fn names_and_comments_are_no_members() {
        assert_eq!(
            read("John R. Doe <doe@x.example>, (the (other) one) b, \"Roe, J.\" <roe@x.example>"),
            ["address doe@x.example", "address b", "address roe@x.example"]
        );
    }

    #[test]
    fn quotes_hide_what_would_separate() {
        assert_eq!(
            read(r#""john doe"@x.example, "a\",b"@x.example"#),
            [r#"address "john doe"@x.example"#, r#"address "a\",b"@x.example"#]
        );
    }

    #[test]
    fn destinations_that_are_no_addresses() {
        assert_eq!(
            read(r#""|/usr/bin/vacation -a b", |"exit 67", |exit 0, /dev/null, "/var/spool/a b", \root"#),
            [
                "command /usr/bin/vacation -a b",
                "command exit 67",
                "command exit 0",
                "file /dev/null",
                "file /var/spool/a b",
                "mailbox root"
            ]
        );
    }

    #[test]
    fn includes_in_every_spelling() {
        assert_eq!(
            read(r#":include:/a/b, ":include:/c d/e", :INCLUDE:"/f g", :include:/h(1)"#),
            ["include /a/b", "include /c d/e", "include /f g", "include /h(1)"]
        );
    }

    #[test]
    fn many_words_without_a_comma_are_addresses() {
        let line = (0..40).map(|number| format!("m{number}")).collect::<Vec<_>>().join(" ");
        assert_eq!(read(&line).len(), 40);
    }

    #[test]
    fn what_is_not_closed_is_told_and_ends_the_line() {
        assert_eq!(read("a, \"b, c"), ["address a", "Unclosed"]);
        assert_eq!(read("a (b"), ["address a", "Unclosed"]);
        assert_eq!(read("a, <b"), ["address a", "Unclosed"]);
        assert_eq!(read("a\\"), ["address a\\"]);
        assert_eq!(read("\"a\\"), ["Unclosed"]);
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_more_of_itself(text in "[a-c,; \"()<>|/:\\\\@#]{0,40}") {
            let mut bytes = 0;
            values(text.as_bytes(), &mut |found| {
                if let Ok(super::Destination::Address(word)) = found {
                    assert!(!word.is_empty());
                    bytes += word.len();
                }
            });
            assert!(bytes <= text.len());
        }
    }
}
