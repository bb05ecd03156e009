//! Subjects: what is left when "Re:" and "Fwd:" of every language are taken off.

use std::borrow::Cow;

use mail_parser::MessageParser;
use smallvec::SmallVec;

use super::bytes;

/// Longest base subject. Longer ones differ early enough.
const MAX_BASE: usize = 250;

/// List tags (`[list]`) that are told apart in front of a subject.
const MAX_TAGS: usize = 4;

/// A subject taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Decoded (RFC 2047), without reply and forward prefixes, blanks squeezed, in lower case, at most 250
    /// bytes. List tags stay, in front.
    pub base: Cow<'a, str>,
    /// Whether a reply prefix was there.
    pub reply: bool,
    /// Whether a forward prefix or mark was there.
    pub forward: bool,
}

impl<'a> Subject<'a> {
    /// Takes apart a subject that [`clean`] has gone over.
    pub(super) fn parse(clean: &'a str) -> Self {
        let mut rest = clean;
        // From the first tag on.
        let mut tagged = None;
        let mut tags = SmallVec::<[&str; MAX_TAGS]>::new();
        let (mut reply, mut forward) = (false, false);
        loop {
            rest = trimmed(rest);
            if let Some((kind, after)) = prefix(rest) {
                reply |= kind == Prefix::Reply;
                forward |= kind == Prefix::Forward;
                rest = after;
            } else if let Some(inner) = forwarded_whole(rest) {
                forward = true;
                rest = inner;
            } else if let Some(before) = rest.strip_suffix("(fwd)") {
                forward = true;
                rest = before;
            } else if let Some((tag, after)) = tag(rest).filter(|_| tags.len() < MAX_TAGS) {
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
                tagged.get_or_insert(rest);
                rest = after;
            } else {
                break;
            }
        }
        let parts = || tags.iter().copied().chain([rest]).filter(|part| !part.is_empty());
        // Nearly all stand there as they are wanted: nothing was taken off behind the first tag.
        let whole = tagged.unwrap_or(rest);
        let base = if is_joined(whole, parts()) {
            Cow::Borrowed(shortened(whole))
        } else {
            Cow::Owned(shortened(&parts().collect::<SmallVec<[&str; MAX_TAGS + 1]>>().join(" ")).to_owned())
        };
        Self { base, reply, forward }
    }
}

/// A clean text without blanks at its ends: there are no other blanks than spaces in it.
fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [b' ', ..] | [.., b' '] => text.trim_matches(' '),
        _ => text,
    }
}

/// Is the text these parts, with single blanks between them?
fn is_joined<'a>(text: &str, mut parts: impl Iterator<Item = &'a str>) -> bool {
    let begin = parts.next().and_then(|first| text.strip_prefix(first));
    let end = begin
        .and_then(|begin| parts.try_fold(begin, |rest, part| rest.strip_prefix(' ')?.strip_prefix(part)));
    end.is_some_and(str::is_empty)
}

/// No longer than a base subject may be.
fn shortened(base: &str) -> &str {
    base.get(..base.floor_char_boundary(MAX_BASE)).unwrap_or_default().trim_end()
}

/// A subject decoded, in lower case, with single blanks and without invisible characters.
pub(super) fn clean(value: &[u8]) -> String {
    if value.is_ascii() && !has_encoded_words(value) {
        return clean_ascii(value);
    }
    let decoded = decode(value);
    let mut clean = String::with_capacity(decoded.len());
    for lower in decoded.chars().flat_map(char::to_lowercase) {
        if lower.is_whitespace() {
            if !clean.is_empty() && !clean.ends_with(' ') {
                clean.push(' ');
            }
        } else if !lower.is_control() && !is_invisible(lower) {
            clean.push(lower);
        }
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// The same for most subjects, which are plain: a tenth of the work.
fn clean_ascii(value: &[u8]) -> String {
    let mut clean = Vec::with_capacity(value.len());
    let mut rest = value;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1));
        rest = after;
        let line = line.trim_ascii();
        let mut blank = !clean.is_empty();
        if is_clean(line) {
            if blank && !line.is_empty() {
                clean.push(b' ');
            }
            clean.extend_from_slice(line);
            continue;
        }
        for byte in line {
            match byte {
                b'\t'..=b'\r' | b' ' => blank = !clean.is_empty(),
                byte if byte.is_ascii_control() => {}
                byte => {
                    if std::mem::take(&mut blank) {
                        clean.push(b' ');
                    }
                    clean.push(*byte);
                }
            }
        }
    }
    clean.make_ascii_lowercase();
    String::from_utf8(clean).expect("ASCII is UTF-8")
}

/// Has a line without blanks at its ends none but single spaces, and no control characters?
fn is_clean(value: &[u8]) -> bool {
    let control = |byte: u8| (byte < b' ') | (byte == 0x7f);
    !bytes::any(value, control) && !bytes::any_pair(value, |a, b| (a == b' ') & (b == b' '))
}

/// May there be any? Few subjects have an equals sign.
fn has_encoded_words(value: &[u8]) -> bool {
    memchr::memchr_iter(b'=', value).any(|at| value.get(at + 1) == Some(&b'?'))
}

fn decode(value: &[u8]) -> String {
    if !has_encoded_words(value) {
        return String::from_utf8_lossy(value).into_owned();
    }
    let mut field = Vec::with_capacity(value.len() + 16);
    field.extend_from_slice(b"Subject: ");
    field.extend(value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    field.extend_from_slice(b"\r\n\r\n");
    let message = MessageParser::new().with_minimal_headers().parse_headers(&field);
    match message.as_ref().and_then(|message| message.subject()) {
        Some(decoded) => decoded.to_owned(),
        None => String::from_utf8_lossy(value).into_owned(),
    }
}

/// Zero-width and direction marks, which right-to-left mail puts in front of a prefix.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Reply,
    Forward,
}

/// In lower case. What other words clients use is a matter of finding them in mail; these were.
const REPLY: [&str; 29] = [
    "re",
    "aw",
    "antwort",
    "sv",
    "vs",
    "antw",
    "rif",
    "r",
    "res",
    "odp",
    "odg",
    "ynt",
    "vá",
    "bls",
    "atb",
    "απ",
    "на",
    "ответ",
    "отв",
    "השב",
    "תשובה",
    "رد",
    "回复",
    "答复",
    "回覆",
    "回信",
    "返信",
    "답장",
    "회신",
];

/// In lower case (`İLT` becomes an i with a separate dot).
const FORWARD: [&str; 17] = [
    "fw",
    "fwd",
    "wg",
    "tr",
    "vb",
    "vl",
    "pd",
    "rv",
    "enc",
    "i\u{307}lt",
    "ilt",
    "doorst",
    "továbbítás",
    "转发",
    "轉寄",
    "転送",
    "전달",
];

/// A prefix at the start of `text` (clean), and what follows it: `re:`, `re :`, `re[2]:`, `re(2):`, `re^2:`,
/// `回复：`.
fn prefix(text: &str) -> Option<(Prefix, &str)> {
    // By far the most frequent one.
    if let Some(rest) = text.strip_prefix("re:") {
        return Some((Prefix::Reply, rest));
    }
    let end = word_end(text).filter(|end| *end > 0)?;
    let (word, rest) = text.split_at(end);
    // The colon first: most words have none behind them, and need not be looked for.
    let rest = counter(rest.trim_start()).trim_start().strip_prefix([':', '：'])?;
    if REPLY.contains(&word) {
        Some((Prefix::Reply, rest))
    } else if FORWARD.contains(&word) {
        Some((Prefix::Forward, rest))
    } else {
        None
    }
}

/// Where the first word ends: at a blank, a colon, or a count of replies.
fn word_end(text: &str) -> Option<usize> {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '[' | '(' | '^' | '*' | ':' | '：');
    // Most words are of ASCII, and need not be taken for characters.
    let at = text.bytes().position(|byte| !byte.is_ascii() || is_end(char::from(byte)))?;
    let rest = text.get(at..)?;
    if rest.as_bytes().first().is_some_and(u8::is_ascii) { Some(at) } else { Some(at + rest.find(is_end)?) }
}

/// `rest` without a count of replies in front.
fn counter(rest: &str) -> &str {
    let mut characters = rest.chars();
    let close = match characters.next() {
        Some('[') => "]",
        Some('(') => ")",
        Some('^' | '*') => "",
        _ => return rest,
    };
    let digits = characters.as_str();
    let after = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    if after.len() == digits.len() { rest } else { after.strip_prefix(close).unwrap_or(rest) }
}

/// The subject inside `[fwd: subject]` (RFC 5256).
fn forwarded_whole(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    prefix(inner.trim_start()).filter(|(kind, _)| *kind == Prefix::Forward).map(|(_, inner)| inner)
}

/// A tag in brackets at the start of `text`, and what follows it.
fn tag(text: &str) -> Option<(&str, &str)> {
    let end = memchr::memchr(b']', text.strip_prefix('[')?.as_bytes())? + 2;
    text.split_at_checked(end)
}

#[cfg(test)]
mod tests;
