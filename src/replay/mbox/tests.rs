use super::*;
use proptest::prelude::*;

const LINE: &str = "From a@x.example Mon Apr 29 00:01:27 2019";

type Owned = (Vec<u8>, Option<Timestamp>, Vec<u8>, bool);

fn owned(message: Message<'_>) -> Owned {
    let lines = message.head.split_inclusive(|byte| *byte == b'\n').scan(0, |end, line| {
        *end += line.len() as u32;
        Some(*end)
    });
    assert!(lines.eq(message.lines.iter().copied()), "{:?} in {:?}", message.lines, message.head);
    (message.sender.to_vec(), message.at, message.head.to_vec(), message.cut)
}

/// Splits `text`, read in pieces of at most `piece` bytes.
fn split_in(text: &[u8], piece: usize) -> Vec<Owned> {
    let mut splitter = Splitter::new();
    let mut rest = text;
    let mut found = Vec::new();
    loop {
        let room = splitter.room();
        assert!(!room.is_empty(), "there is always room for more");
        let length = rest.len().min(piece).min(room.len());
        let (now, later) = rest.split_at(length);
        room[..length].copy_from_slice(now);
        rest = later;
        splitter.filled(length);
        while let Some(message) = splitter.next() {
            found.push(owned(message));
        }
        if length == 0 {
            assert_eq!(splitter.buffer.len(), BUFFER, "nothing grows");
            return found;
        }
    }
}

/// The same, line by line, with all of the text at hand.
fn naive(text: &[u8]) -> Vec<Owned> {
    let mut found: Vec<Owned> = Vec::new();
    let (mut in_head, mut after_empty) = (false, true);
    let mut rest = text;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        rest = &rest[line.len()..];
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let undated = || {
            let sender = bare.strip_prefix(FROM)?.trim_ascii().split(u8::is_ascii_whitespace).next()?;
            (after_empty && begins_field(rest) == Some(true)).then_some((sender, None))
        };
        let dated = date::from_line(bare).filter(|_| after_empty || in_head);
        let from = dated.map(|(sender, at)| (sender, Some(at))).or_else(undated);
        let empty = matches!(bare, b"" | b"\r") && line.ends_with(b"\n");
        if let Some((sender, at)) = from {
            found.push((sender.to_vec(), at, Vec::new(), false));
            in_head = true;
        } else if in_head && !empty {
            if let Some((_, _, head, _)) = found.last_mut() {
                head.extend_from_slice(line);
            }
        } else {
            in_head = false;
        }
        after_empty = empty;
    }
    found
}

fn heads(text: &str) -> Vec<String> {
    split_in(text.as_bytes(), 7).into_iter().map(|(_, _, head, _)| String::from_utf8(head).unwrap()).collect()
}

#[test]
fn messages_are_told_apart() {
    let text = format!(
        "{LINE}\nA: 1\n folded\n\nbody\nFrom here on\n\nFrom now on\n\n{LINE}\nB: 2\n\n{LINE}\r\nC: 3\r\n\r\n\
         x\r\n\r\n{LINE}\nD: 4"
    );
    assert_eq!(heads(&text), ["A: 1\n folded\n", "B: 2\n", "C: 3\r\n", "D: 4"]);
}

#[test]
fn a_message_that_was_cut_short_does_not_swallow_the_next() {
    assert_eq!(heads(&format!("{LINE}\nA: 1\n{LINE}\nB: 2\n{LINE}")), ["A: 1\n", "B: 2\n", ""]);
}

#[test]
fn a_line_without_a_time_begins_a_message_where_a_field_follows() {
    for from in [
        "From ",
        "From s1@x.example",
        "From s1@x.example 2024-03-01 09:00:00",
        "From s1@x.example Fri, 1 Mar 2024 09:00:00 +0000",
        "From s1@x.example Ven Mar  1 09:00:00 2024",
    ] {
        let text = format!("{from}\nA: 1\n\nx\n\n{from}\r\nB-b: 2\r\n\r\n{LINE}\nC: 3\n{from}\nD: 4\n");
        for piece in [1, 7, BUFFER] {
            let found = split_in(text.as_bytes(), piece);
            let times: Vec<bool> = found.iter().map(|(_, at, ..)| at.is_some()).collect();
            assert_eq!(times, [false, false, true], "{from}: among headers it is one of their lines");
            assert_eq!(found[0].0, from.split(' ').nth(1).unwrap().as_bytes());
        }
    }
    for prose in
        ["From here on\nwe go", "From http://x.example\nhttp://y.example", "From\nA: 1", "From x\n\nA: 1"]
    {
        assert_eq!(heads(&format!("{LINE}\nA: 1\n\n{prose}\n")), ["A: 1\n"], "{prose}");
        assert_eq!(heads(prose), [""; 0], "{prose}");
    }
}

#[test]
fn what_is_no_mbox_has_no_messages() {
    for text in ["", "\n", "From", "From ", "Subject: x\n\nFrom me\n", "\0\u{1}\u{2}", &"x".repeat(700_000)] {
        assert_eq!(heads(text), [""; 0]);
    }
    let mut splitter = Splitter::new();
    let text = format!("junk\n\n{LINE}\nA: 1\n\n");
    splitter.room()[..text.len()].copy_from_slice(text.as_bytes());
    splitter.filled(text.len());
    assert_eq!(splitter.next().map(|message| message.head.to_vec()), Some(b"A: 1\n".to_vec()));
    assert_eq!(splitter.stray(), 6);
}

#[test]
fn lines_and_headers_beyond_all_bounds_are_cut() {
    let long = "x".repeat(3 * BUFFER);
    let text =
        format!("{LINE}\nA: {long}\nB: 2\n\n{LINE}\nC: 3\n\n{long}\n\n{LINE}{long}\n\n{LINE}\nD: 4\n\n");
    for piece in [1000, BUFFER] {
        let found = split_in(text.as_bytes(), piece);
        let lengths: Vec<(usize, bool)> = found.iter().map(|(_, _, head, cut)| (head.len(), *cut)).collect();
        assert_eq!(lengths, [(MAX_HEAD, true), (5, false), (5, false)]);
    }
}

/// A body that quotes an mbox, with its length by `counted`.
fn counted(body: &str, length: usize, after: &str) -> String {
    format!("{LINE}\nA: 1\nContent-Length: {length}\nZ: 9\n\n{body}{after}")
}

fn names(text: &str, piece: usize) -> Vec<char> {
    let found = split_in(text.as_bytes(), piece);
    found.iter().map(|(_, _, head, _)| head.first().map_or('-', |byte| char::from(*byte))).collect()
}

#[test]
fn a_length_that_leads_to_a_message_or_to_the_end_is_believed() {
    let body = format!("see:\n\n{LINE}\nQ: 1\n\n{LINE}\nQ: 2\n\nend\n");
    let next = format!("{LINE}\nB: 2\n\nx\n");
    let crlf = counted(&body, body.len(), &format!("\n{next}")).replace('\n', "\r\n");
    let crlf_length = body.replace('\n', "\r\n").len();
    let crlf = crlf.replace(&format!("Length: {}", body.len()), &format!("Length: {crlf_length}"));
    for piece in [1, 7, 50, BUFFER] {
        for (text, expected) in [
            // The end of line before the next message is counted, or not, or there is none.
            (counted(&body, body.len(), &format!("\n{next}")), "AB"),
            (counted(&body, body.len() + 1, &format!("\n{next}")), "AB"),
            (counted(&body, body.len() - 1, &format!("\n{next}")), "AB"),
            (counted(&body, body.len(), &next), "AB"),
            (crlf.clone(), "AB"),
            (counted(&body, body.len(), ""), "A"),
            (counted(&body, body.len(), "\n"), "A"),
            // Wrong ones.
            (counted(&body, body.len() - 7, &format!("\n{next}")), "AQQB"),
            (counted(&body, body.len() + 9, &format!("\n{next}")), "AQQB"),
            (counted(&body, 0, &format!("\n{next}")), "AQQB"),
            (counted(&body, 9_999_999, &format!("\n{next}")), "AQQB"),
            (counted(&body, usize::MAX, &format!("\n{next}")), "AQQB"),
            (format!("{LINE}\nA: 1\nContent-Length: x\n\n{body}\n{next}"), "AQQB"),
        ] {
            assert_eq!(names(&text, piece), expected.chars().collect::<Vec<_>>(), "{piece}: {text}");
        }
    }
}

#[test]
fn a_length_is_believed_as_far_as_the_buffer_reaches() {
    let next = format!("{LINE}\nB: 2\n\nx\n");
    for (before, after, expected) in
        [(0, BUFFER / 2, "AB"), (3 * BUFFER, BUFFER / 2, "AB"), (0, 2 * BUFFER, "AQB")]
    {
        let (before, after) = ("x".repeat(before), "y\n".repeat(after / 2));
        let body = format!("{before}\n\n{LINE}\nQ: 1\n\n{after}");
        let text = counted(&body, body.len(), &format!("\n{next}"));
        for piece in [1000, BUFFER] {
            assert_eq!(names(&text, piece), expected.chars().collect::<Vec<_>>());
        }
    }
}

proptest! {
    #[test]
    fn any_length_is_taken(
        parts in prop::collection::vec(
            prop_oneof![
                Just("\n".to_owned()), Just("\r\n".to_owned()), Just(format!("{LINE}\n")), Just("X: y\n".to_owned()),
                (0..200_usize).prop_map(|length| format!("Content-Length: {length}\n")), "[a-z\n]{0,30}",
            ],
            0..24,
        ),
        piece in 1..60_usize,
    ) {
        let text = parts.concat();
        prop_assert_eq!(split_in(text.as_bytes(), piece), split_in(text.as_bytes(), BUFFER));
    }

    #[test]
    fn any_pieces_give_what_the_whole_gives(
        parts in prop::collection::vec(
            prop_oneof![
                Just("\n".to_owned()), Just("\r\n".to_owned()), Just("From ".to_owned()),
                Just(format!("{LINE}\n")), Just(LINE.to_owned()), Just("\n\n".to_owned()),
                Just("X: y\n".to_owned()), Just(" z\n".to_owned()), "[a-zA-Z:\n\r ]{0,9}",
            ],
            0..24,
        ),
        piece in 1..60_usize,
    ) {
        let text = parts.concat();
        let expected = naive(text.as_bytes());
        prop_assert_eq!(split_in(text.as_bytes(), piece), expected.clone());
        prop_assert_eq!(split_in(text.as_bytes(), BUFFER), expected);
    }

    #[test]
    fn any_bytes_are_taken(text in prop::collection::vec(any::<u8>(), 0..3000), piece in 1..999_usize) {
        prop_assert_eq!(split_in(&text, piece), naive(&text));
    }
}
