//! A header block as bytes: its fields, and what of them tells where a message came from and went.

use super::date;
use crate::mail::bytes::{self, EACH};
use crate::time::Timestamp;

/// Addresses looked at in one message: a message to more people than this is no less watched.
const MAX_RECIPIENTS: usize = 1000;

/// Where the time of arrival is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The `From ` line of an mbox.
    FromLine,
    /// The topmost `Received` field: when the last server took it.
    Received,
    /// The `Date` field: what the author's machine said.
    Date,
}

/// A field: its name, and its value with folds as they are, without the end of line.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// The fields of a header block, in order. Lines that are none (no colon, a blank in the name) are left out, with
/// what goes on with them.
pub fn fields(head: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut begin = 0;
    let ends = std::iter::from_fn(move || {
        let rest = head.get(begin..).filter(|rest| !rest.is_empty())?;
        begin += memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        Some(begin)
    });
    fields_of_lines(head, ends)
}

/// The same, where it is known where its lines end, each with its end of line.
pub fn fields_of_lines<'a>(
    head: &'a [u8],
    mut ends: impl Iterator<Item = usize> + 'a,
) -> impl Iterator<Item = Field<'a>> {
    let mut begin = 0;
    std::iter::from_fn(move || {
        loop {
            let mut end = ends.next()?;
            // It goes on with these.
            while matches!(head.get(end), Some(b' ' | b'\t'))
                && let Some(next) = ends.next()
            {
                end = next;
            }
            let field = head.get(begin..end)?;
            begin = end;
            let (name, rest) = field.split_at(name_length(field));
            if !name.is_empty()
                && let Some(value) = rest.trim_ascii_start().strip_prefix(b":")
            {
                // As nearly all are written.
                let value = value.strip_prefix(b" ").unwrap_or(value);
                let value = value.strip_suffix(b"\n").unwrap_or(value);
                return Some((name, bytes::trimmed(value)));
            }
        }
    })
}

/// The arrival time by a header field: as told, or the topmost `Received` and, without, `Date`.
pub fn arrival(head: &[u8], by: Option<Arrival>) -> Option<Timestamp> {
    let first = |wanted: &[u8], read: fn(&[u8]) -> Option<Timestamp>| {
        fields(head).find(|(name, _)| name.eq_ignore_ascii_case(wanted)).and_then(|(_, value)| read(value))
    };
    match by {
        Some(Arrival::Received) => first(b"received", date::received),
        Some(Arrival::Date) => first(b"date", date::date),
        None | Some(Arrival::FromLine) => {
            first(b"received", date::received).or_else(|| first(b"date", date::date))
        }
    }
}

/// Does the field name the envelope sender?
pub fn is_return_path(name: &[u8]) -> bool {
    name.len() == 11 && name.eq_ignore_ascii_case(b"return-path")
}

/// What a field says of the recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Recipients.
    Recipients,
    /// A list that passed the message on.
    List,
    /// The id of such a list: `Name <name.domain>`.
    ListId,
}

/// What a field says of the recipients, if it says anything.
pub fn names(name: &[u8]) -> Option<Names> {
    let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
    // By length first: most fields are told apart by it.
    match name.len() {
        2 if is(b"to") || is(b"cc") => Some(Names::Recipients),
        7 if is(b"list-id") => Some(Names::ListId),
        9 if is(b"list-post") => Some(Names::List),
        12 if is(b"delivered-to") => Some(Names::Recipients),
        13 if is(b"x-original-to") => Some(Names::Recipients),
        _ => None,
    }
}

/// The addresses in the value of an address field: what stands in angle brackets, or what stands alone between
/// commas. They may still be no addresses.
pub fn addresses(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    // Without quotes, comments and groups, commas tell them apart.
    let plain =
        memchr::memchr3(b'"', b'(', b'\\', value).is_none() && memchr::memchr2(b':', b';', value).is_none();
    let bare = memchr::memchr(b'<', value).is_none();
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let (mailbox, after) = match (plain, bare) {
                (true, true) => take_bare(rest),
                (true, false) => take_plain(rest),
                (false, _) => take_mailbox(rest),
            };
            rest = after;
            if !mailbox.is_empty() {
                return Some(mailbox);
            }
        }
    })
    .take(MAX_RECIPIENTS)
}

/// The address of the list in a `List-Post` field: `<mailto:list@example.org>`.
pub fn list_post(value: &[u8]) -> Option<&[u8]> {
    let at = value.windows(7).position(|scheme| scheme.eq_ignore_ascii_case(b"mailto:"))?;
    let address = value.get(at + 7..)?;
    let end =
        address.iter().position(|byte| matches!(byte, b'>' | b'?' | b',' | b' ')).unwrap_or(address.len());
    address.get(..end)
}

/// The address that a `List-Id` field most likely stands for, written into `buffer`: `<name.domain>` is
/// `name@domain`.
pub fn list_id<'b>(value: &[u8], buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    let id = match memchr::memrchr(b'<', value) {
        Some(open) => value.get(open + 1..)?.split(|byte| *byte == b'>').next()?,
        None => value,
    };
    let dot = memchr::memchr(b'.', id)?;
    buffer.clear();
    buffer.extend_from_slice(id);
    *buffer.get_mut(dot)? = b'@';
    Some(buffer)
}

/// What stands before the first comma, and what follows it.
fn take_bare(text: &[u8]) -> (&[u8], &[u8]) {
    let (mailbox, after) = text.split_at(until(b',', text));
    (mailbox.trim_ascii(), after.get(1..).unwrap_or_default())
}

/// How many bytes stand before the first of these.
fn until(byte: u8, text: &[u8]) -> usize {
    bytes::position(text, |word| bytes::zeros(word ^ (EACH * u64::from(byte))), |other| other == byte)
}

/// How many bytes stand before the first that is none of a field's name (RFC 5322, 2.2).
fn name_length(field: &[u8]) -> usize {
    // Less than 0x21, more than 0x7e, or a colon.
    let among = |word: u64| {
        word.wrapping_sub(0x21 * EACH) & !word
            | word.wrapping_add(EACH)
            | word
            | bytes::zeros(word ^ (EACH * u64::from(b':')))
    };
    bytes::position(field, among, |byte| !byte.is_ascii_graphic() || byte == b':')
}

/// The address of the first mailbox, and what follows its comma, where nothing is quoted.
fn take_plain(text: &[u8]) -> (&[u8], &[u8]) {
    let (mailbox, after) = take_bare(text);
    let Some(open) = memchr::memrchr(b'<', mailbox) else { return (mailbox, after) };
    let inside = mailbox.get(open + 1..).unwrap_or_default();
    let end = memchr::memchr(b'>', inside).unwrap_or(inside.len());
    (inside.get(..end).unwrap_or_default().trim_ascii(), after)
}

/// The address of the first mailbox, and what follows its comma.
fn take_mailbox(text: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut comment) = (false, 0_u32);
    let (mut begin, mut end) = (0, None);
    let mut bytes = text.iter().copied().enumerate();
    let mut length = text.len();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if quoted || comment > 0 => drop(bytes.next()),
            b'"' if comment == 0 => quoted = !quoted,
            _ if quoted => {}
            b'(' => comment += 1,
            b')' => comment = comment.saturating_sub(1),
            _ if comment > 0 => {}
            b'<' => begin = at + 1,
            b'>' => end = Some(at),
            // A group's name.
            b':' if end.is_none() => begin = at + 1,
            b',' | b';' => {
                length = at;
                break;
            }
            _ => {}
        }
    }
    let address = text.get(begin..end.unwrap_or(length)).unwrap_or_default().trim_ascii();
    (address, text.get(length + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts<'a>(found: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        found.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    #[test]
    fn fields_are_told_apart_and_what_is_none_is_left_out() {
        let head = b"A: 1\nno field\n goes on\nB:\n 2\n\t3\r\nbad name: 4\n: 5\nC : 6\nD:7";
        let found: Vec<(String, String)> = fields(head)
            .map(|(name, value)| {
                (String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into())
            })
            .collect();
        let expected = [("A", "1"), ("B", "2\n\t3"), ("C", "6"), ("D", "7")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn addresses_of_a_field() {
        let value =
            br#""Doe, John" <john@x.example>, a@x.example (one, two), team: <b@x.example>, c@x.example;, ,d"#;
        assert_eq!(
            texts(addresses(value)),
            ["john@x.example", "a@x.example (one, two)", "b@x.example", "c@x.example", "d"]
        );
        assert_eq!(texts(addresses(b"")), [""; 0]);
        assert_eq!(texts(addresses(b"\"never closed, x@y")), ["\"never closed, x@y"]);
    }

    #[test]
    fn lists_by_their_own_fields() {
        assert_eq!(list_post(b"<mailto:all@x.example>"), Some(&b"all@x.example"[..]));
        assert_eq!(list_post(b"<MAILTO:all@x.example?subject=x>, y"), Some(&b"all@x.example"[..]));
        assert_eq!(list_post(b"NO (posting not allowed)"), None);
        let mut buffer = Vec::new();
        assert_eq!(list_id(b"All <all.x.example>", &mut buffer), Some(&b"all@x.example"[..]));
        assert_eq!(list_id(b"all", &mut buffer), None);
    }

    #[test]
    fn the_topmost_server_says_when() {
        let head =
            b"Received: a; Tue, 30 Apr 2019 19:29:09 +0000\nReceived: b; Tue, 30 Apr 2019 19:29:08 +0000\n\
            Date: Tue, 30 Apr 2019 19:29:07 +0000\n";
        let second = |by| arrival(head, by).map(|at| at.as_secs() % 10);
        assert_eq!(second(None), Some(9));
        assert_eq!(second(Some(Arrival::Received)), Some(9));
        assert_eq!(second(Some(Arrival::Date)), Some(7));
        assert_eq!(arrival(b"Date: Tue, 30 Apr 2019 19:29:07 +0000", Some(Arrival::Received)), None);
    }

    #[test]
    fn a_name_ends_at_the_first_byte_that_is_none_of_it() {
        for byte in 0..=u8::MAX {
            for place in 0..20 {
                let mut field = [b'~'; 24];
                field[place] = byte;
                field[place + 1] = b'!';
                field[place + 2] = b':';
                let ends = !byte.is_ascii_graphic() || byte == b':';
                assert_eq!(name_length(&field), if ends { place } else { place + 2 }, "{byte} at {place}");
            }
        }
        assert_eq!([name_length(b""), name_length(b"From"), name_length(b"References")], [0, 4, 10]);
    }

    proptest! {
        #[test]
        fn the_first_of_a_byte_is_found(text in "[,\\x00-\\x7f]{0,40}", far in 0..40_usize) {
            let text = format!("{}{text}", "\u{ac}".repeat(far));
            let bytes = text.as_bytes();
            let position = bytes.iter().position(|byte| *byte == b',').unwrap_or(bytes.len());
            prop_assert_eq!(until(b',', bytes), position);
        }

        #[test]
        fn any_bytes_are_taken(text in prop::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(fields(&text).count() <= text.len());
            let ends = text.split_inclusive(|byte| *byte == b'\n').scan(0, |end, line| {
                *end += line.len();
                Some(*end)
            });
            prop_assert!(fields_of_lines(&text, ends).eq(fields(&text)));
            prop_assert!(addresses(&text).count() <= text.len());
            list_post(&text);
            list_id(&text, &mut Vec::new());
            arrival(&text, None);
        }

        #[test]
        fn fields_are_those_of_the_lines(text in "([AB: \\t]{0,4}(\n|\r\n)){0,8}[AB: ]{0,3}") {
            let mut unfolded: Vec<String> = Vec::new();
            for line in text.split_inclusive('\n') {
                match unfolded.last_mut() {
                    Some(field) if line.starts_with([' ', '\t']) => field.push_str(line),
                    _ => unfolded.push(line.to_owned()),
                }
            }
            let naive = unfolded.iter().filter_map(|field| {
                let (name, value) = field.split_once(':')?;
                let name = name.trim_ascii_end();
                let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
                good.then(|| (name.as_bytes(), value.trim_ascii().as_bytes()))
            });
            prop_assert!(fields(text.as_bytes()).eq(naive), "{:?}", text);
        }
    }
}
