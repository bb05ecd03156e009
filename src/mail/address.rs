//! Addresses as Postfix would deliver them: every spelling of a mailbox or list comes to the same bytes.
//!
//! The rules are Postfix's own: `trivial-rewrite`(8) for source routes, bare names and trailing dots,
//! `split_addr` for extensions, RFC 5322 for quoting. The percent hack and bang paths, which Postfix makes other
//! addresses of for clients it relays for, are left alone: nobody else writes to a list by them.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

/// Longest canonical address: 64 bytes of local part, `@`, 255 of domain (RFC 5321 4.5.3.1).
pub const MAX_ADDRESS: usize = 320;

/// Longest raw spelling that is looked at: Postfix's `line_length_limit`, above which no command arrives in
/// one piece.
const MAX_RAW: usize = 2048;

/// Longest chain of domain aliases that is followed. A longer one is a cycle or a mistake, and the domain
/// stays as it is.
const MAX_ALIAS_HOPS: usize = 8;

/// How this site's Postfix rewrites and splits addresses; each field is the Postfix parameter of that name.
/// Domains are expected in lower case without a trailing dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// `myorigin`: the domain of a bare local part. Empty: a bare local part stays bare.
    pub myorigin: String,
    /// `mydestination`, expanded: domains whose local parts are looked up in the local aliases. All are one
    /// domain to becalm: addresses there are written with the first of them.
    pub local_domains: Vec<String>,
    /// Domains that are another spelling of a domain (alias → real), as in `@old.example @new.example`.
    pub domain_aliases: BTreeMap<String, String>,
    /// `recipient_delimiter`: characters that may start an address extension; commonly `+`. Empty: none.
    pub recipient_delimiter: BTreeSet<u8>,
}

impl AddressRules {
    /// The canonical form of `raw`, written into `buf`: without angle brackets, source route, comments and
    /// needless quotes; in lower case; a bare local part completed with `myorigin`; domain aliases and local
    /// domains mapped. Canonical forms are fixed points.
    ///
    /// `None` for the null sender, the empty string, what is longer than [`MAX_ADDRESS`], and what is no
    /// address. Allocates nothing for an address of plain ASCII atoms, quoted or not in angle brackets.
    pub fn canonical<'b>(&self, raw: &[u8], buf: &'b mut AddressBuf) -> Option<Canonical<'b>> {
        let layout = self.plain(raw, buf).or_else(|| self.involved(raw, buf))?;
        Some(Canonical { bytes: buf.bytes.get(..layout.base_end)?, layout })
    }

    /// The fast path: plain atoms, at most one `@`. `None`: let [`Self::involved`] see.
    fn plain(&self, raw: &[u8], buf: &mut AddressBuf) -> Option<Layout> {
        let text = match raw {
            [b'<', inner @ .., b'>'] => inner,
            bare => bare,
        };
        if text.len() > MAX_ADDRESS {
            return None;
        }
        let at = memchr::memchr(b'@', text).unwrap_or(text.len());
        let (local, domain) = text.split_at(at);
        let domain = domain.get(1..);
        let kept = buf.bytes.get_mut(..at)?;
        if !fold_dotted(local, LOCAL, kept) {
            return None;
        }
        let split = self.split(local);
        // `a.+x` leaves `a.`, which needs quotes.
        if split.is_some_and(|at| local.get(..at).is_some_and(|base| base.ends_with(b"."))) {
            return None;
        }
        let end = match domain {
            None => at,
            Some(domain) => {
                *buf.bytes.get_mut(at)? = b'@';
                let domain = domain.strip_suffix(b".").unwrap_or(domain);
                let from = at + 1;
                let end = from + domain.len();
                if !fold_dotted(domain, DOMAIN, buf.bytes.get_mut(from..end)?) {
                    return None;
                }
                end
            }
        };
        let end = self.complete(buf, at, end)?;
        let Some(split) = split else { return Some(Layout { at, end, base_end: end }) };
        let base_end = end + split + (end - at);
        if base_end > buf.bytes.len() {
            return None;
        }
        buf.bytes.copy_within(..split, end);
        buf.bytes.copy_within(at..end, end + split);
        Some(Layout { at, end, base_end })
    }

    /// Everything else: quotes, escapes, comments, routes, UTF-8.
    fn involved(&self, raw: &[u8], buf: &mut AddressBuf) -> Option<Layout> {
        let parsed = parse(raw.get(..MAX_RAW.min(raw.len())).filter(|kept| kept.len() == raw.len())?)?;
        let local = fold(&parsed.local);
        let mut at = 0;
        put_local(&local, &mut buf.bytes, &mut at)?;
        let mut end = at;
        if let Some(domain) = &parsed.domain {
            put(b"@", &mut buf.bytes, &mut end)?;
            put(&fold(domain), &mut buf.bytes, &mut end)?;
        }
        if end > MAX_ADDRESS {
            return None;
        }
        let end = self.complete(buf, at, end)?;
        let mut base_end = end;
        if let Some(base) = self.split(&local).and_then(|split| local.get(..split)) {
            put_local(base, &mut buf.bytes, &mut base_end)?;
            let domain = at..end;
            if base_end + domain.len() > buf.bytes.len() {
                return None;
            }
            buf.bytes.copy_within(domain.clone(), base_end);
            base_end += domain.len();
        }
        Some(Layout { at, end, base_end })
    }

    /// Completes `local[@domain]`, whose `@` is (or will be) at `at`, with `myorigin`, and maps its domain.
    /// Returns the new end, at most [`MAX_ADDRESS`].
    fn complete(&self, buf: &mut AddressBuf, at: usize, mut end: usize) -> Option<usize> {
        if end == at {
            if self.myorigin.is_empty() {
                return Some(end);
            }
            put(b"@", &mut buf.bytes, &mut end)?;
            put_folded(&self.myorigin, &mut buf.bytes, &mut end)?;
        }
        let from = at + 1;
        let mapped = self.mapped(buf.bytes.get(from..end)?);
        if let Some(mapped) = mapped {
            end = from;
            put_folded(mapped, &mut buf.bytes, &mut end)?;
        }
        (end <= MAX_ADDRESS).then_some(end)
    }

    /// What `domain` (lower case) is written as, if that is something else.
    fn mapped(&self, domain: &[u8]) -> Option<&str> {
        let first = self.local_domains.first();
        if first.is_some_and(|first| first.as_bytes() == domain) {
            return None;
        }
        let mut target: Option<&str> = None;
        for _ in 0..=MAX_ALIAS_HOPS {
            let current = target.map_or(domain, str::as_bytes);
            if self.local_domains.iter().any(|local| local.as_bytes().eq_ignore_ascii_case(current)) {
                return first.map(String::as_str);
            }
            if self.domain_aliases.is_empty() {
                return None;
            }
            match std::str::from_utf8(current).ok().and_then(|current| self.domain_aliases.get(current)) {
                Some(next) => target = Some(next),
                None => return target,
            }
        }
        None
    }

    /// Where the extension of `local` begins (at the delimiter), as Postfix's `split_addr` decides.
    fn split(&self, local: &[u8]) -> Option<usize> {
        let delimiters = || self.recipient_delimiter.iter().filter(|byte| byte.is_ascii());
        let first = delimiters().filter_map(|&byte| memchr::memchr(byte, local)).min()?;
        if first == 0 || NEVER_SPLIT.iter().any(|name| name.eq_ignore_ascii_case(local)) {
            return None;
        }
        let owner_or_request = self.recipient_delimiter.contains(&b'-')
            && (starts_with(local, b"owner-") || (local.len() > 8 && ends_with(local, b"-request")));
        (!owner_or_request).then_some(first)
    }
}

/// Room for one canonical address and its base form. Meant to be kept and used again.
pub struct AddressBuf {
    bytes: [u8; 2 * MAX_ADDRESS],
}

impl AddressBuf {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self { bytes: [0; 2 * MAX_ADDRESS] }
    }
}

impl Default for AddressBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for AddressBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressBuf").finish_non_exhaustive()
    }
}

/// A canonical address; see [`AddressRules::canonical`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canonical<'b> {
    bytes: &'b [u8],
    layout: Layout,
}

impl<'b> Canonical<'b> {
    /// Local part with its extension, `@`, domain; without `@` where there is no domain and no `myorigin`.
    pub fn full(&self) -> &'b [u8] {
        self.bytes.get(..self.layout.end).unwrap_or_default()
    }

    /// The same without the extension; `None` if the address has none.
    pub fn base(&self) -> Option<&'b [u8]> {
        self.bytes.get(self.layout.end..).filter(|base| !base.is_empty())
    }

    /// The local part, with its extension, and quoted if it needs to be.
    pub fn local(&self) -> &'b [u8] {
        self.bytes.get(..self.layout.at).unwrap_or_default()
    }

    /// The domain; empty for a bare local part.
    pub fn domain(&self) -> &'b [u8] {
        self.bytes.get(self.layout.at + 1..self.layout.end).unwrap_or_default()
    }
}

/// `full` is `..end`, its `@` at `at`; the base form, if any, is `end..base_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    at: usize,
    end: usize,
    base_end: usize,
}

/// Local parts that Postfix never splits, whatever the delimiter.
const NEVER_SPLIT: [&[u8]; 3] = [b"postmaster", b"mailer-daemon", b"double-bounce"];

/// Bytes of a plain local part (RFC 5322 atext and the dot), mapped to lower case; 0 for every other byte.
static LOCAL: &[u8; 256] = &folding(b"!#$%&'*+-/=?^_`{|}~.");

/// Bytes of a plain domain, mapped to lower case. Underscores are no host names but do occur.
static DOMAIN: &[u8; 256] = &folding(b"-_.");

const fn folding(also: &[u8]) -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    let mut index = 0;
    while index < also.len() {
        table[also[index] as usize] = also[index];
        index += 1;
    }
    table
}

/// Copies `text`, folded by `table`, into `kept` (of the same length). False if a byte is not in the table, or
/// a dot stands at either end or beside another.
fn fold_dotted(text: &[u8], table: &[u8; 256], kept: &mut [u8]) -> bool {
    let mut bad = text.is_empty();
    let mut last = b'.';
    for (to, &from) in kept.iter_mut().zip(text) {
        let byte = table[usize::from(from)];
        bad |= byte == 0 || (byte == b'.' && last == b'.');
        last = byte;
        *to = byte;
    }
    !bad && last != b'.'
}

/// Lower case: of every character that is UTF-8; other bytes stay.
fn fold(text: &[u8]) -> Text {
    let mut utf8 = [0; 4];
    let mut folded = Text::new();
    for chunk in text.utf8_chunks() {
        for lower in chunk.valid().chars().flat_map(char::to_lowercase) {
            folded.extend_from_slice(lower.encode_utf8(&mut utf8).as_bytes());
        }
        folded.extend_from_slice(chunk.invalid());
    }
    folded
}

fn put(text: &[u8], bytes: &mut [u8], end: &mut usize) -> Option<()> {
    let next = end.checked_add(text.len())?;
    bytes.get_mut(*end..next)?.copy_from_slice(text);
    *end = next;
    Some(())
}

fn put_folded(text: &str, bytes: &mut [u8], end: &mut usize) -> Option<()> {
    let from = *end;
    put(text.as_bytes(), bytes, end)?;
    bytes.get_mut(from..*end)?.make_ascii_lowercase();
    Some(())
}

/// Writes a local part as text, in quotes where RFC 5322 asks for them.
fn put_local(local: &[u8], bytes: &mut [u8], end: &mut usize) -> Option<()> {
    let plain = |byte: u8| byte >= 0x80 || LOCAL[usize::from(byte)] != 0;
    let dotted = !local.is_empty()
        && local
            .split(|&byte| byte == b'.')
            .all(|atom| !atom.is_empty() && atom.iter().all(|&byte| plain(byte)));
    if dotted {
        return put(local, bytes, end);
    }
    put(b"\"", bytes, end)?;
    for &byte in local {
        if matches!(byte, b'"' | b'\\') {
            put(b"\\", bytes, end)?;
        }
        put(&[byte], bytes, end)?;
    }
    put(b"\"", bytes, end)
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

fn ends_with(text: &[u8], suffix: &[u8]) -> bool {
    text.len()
        .checked_sub(suffix.len())
        .and_then(|at| text.get(at..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
}

/// Text that is nearly always shorter than an address may be.
type Text = SmallVec<[u8; MAX_ADDRESS]>;

/// An address taken apart, without quoting.
struct Parsed {
    local: Text,
    domain: Option<Text>,
}

/// Takes an address apart as Postfix's `tok822_parse` does.
fn parse(raw: &[u8]) -> Option<Parsed> {
    if memchr::memchr(0, raw).is_some() {
        return None;
    }
    let raw = raw.trim_ascii();
    let mut bytes = raw.strip_prefix(b"<").unwrap_or(raw).iter().copied();
    let mut text = Text::new();
    let mut at = None;
    let mut route = false;
    // A blank between two words stays, as one; next to anything else it means nothing.
    let (mut blank, mut word) = (false, false);
    let add = |text: &mut Text, byte: u8, blank: &mut bool, word: &mut bool| {
        if std::mem::take(blank) && *word {
            text.push(b' ');
        }
        *word = true;
        text.push(if byte.is_ascii_whitespace() { b' ' } else { byte });
    };
    while let Some(byte) = bytes.next() {
        match byte {
            b'>' => break,
            b'<' => return None,
            b',' | b';' if !route => return None,
            b'\\' => add(&mut text, bytes.next()?, &mut blank, &mut word),
            b'"' => loop {
                match bytes.next()? {
                    b'"' => break,
                    b'\\' => add(&mut text, bytes.next()?, &mut blank, &mut word),
                    byte => add(&mut text, byte, &mut blank, &mut word),
                }
            },
            b'(' => skip_comment(&mut bytes)?,
            b'@' => {
                route |= text.is_empty();
                at = Some(text.len());
                text.push(byte);
                (blank, word) = (false, false);
            }
            b':' if route => {
                text.clear();
                (at, route, blank, word) = (None, false, false, false);
            }
            b'.' => {
                text.push(byte);
                (blank, word) = (false, false);
            }
            b' ' | b'\t' | b'\r' | b'\n' => blank = true,
            byte => add(&mut text, byte, &mut blank, &mut word),
        }
    }
    let Some(at) = at else { return (!text.is_empty()).then_some(Parsed { local: text, domain: None }) };
    let domain = text.get(at + 1..)?;
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    if at == 0 || !is_domain(domain) {
        return None;
    }
    let domain = Some(Text::from_slice(domain));
    text.truncate(at);
    Some(Parsed { local: text, domain })
}

/// Skips to the end of a comment that has just begun; comments nest.
fn skip_comment(bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
    let mut depth = 1_usize;
    while depth > 0 {
        match bytes.next()? {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\\' => drop(bytes.next()?),
            _ => {}
        }
    }
    Some(())
}

/// Labels of host name characters or UTF-8, or an address literal in brackets.
fn is_domain(domain: &[u8]) -> bool {
    if let [b'[', literal @ .., b']'] = domain {
        return !literal.is_empty()
            && literal
                .iter()
                .all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-'));
    }
    domain.split(|&byte| byte == b'.').all(|label| {
        !label.is_empty() && label.iter().all(|&byte| byte >= 0x80 || DOMAIN[usize::from(byte)] != 0)
    })
}

#[cfg(test)]
mod tests;
