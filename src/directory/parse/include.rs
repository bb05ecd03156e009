//! Files that aliases(5) includes: every line is the right-hand side of an alias.

use super::values::values;
use super::{Sink, is_ignored};

/// Reads one line. Lines do not continue: white space at their beginning means nothing, as in local(8).
pub fn line(number: u32, text: &[u8], sink: &mut impl Sink) {
    if is_ignored(text) {
        return;
    }
    values(text, &mut |found| match found {
        Ok(destination) => sink.value(number, destination),
        Err(complaint) => sink.complaint(number, complaint),
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::parse;
    use super::line;

    #[test]
    fn one_or_more_members_a_line() {
        assert_eq!(
            parse("# all\na@x.example\n  b, c\n\n :include:/more\n\"d\n", line),
            ["2 address a@x.example", "3 address b", "3 address c", "5 include /more", "6 Unclosed"]
        );
    }
}
