//! Who wrote a message.

use std::ops::Deref;

use smallvec::SmallVec;

use super::address::{AddressBuf, AddressRules, Canonical};
use super::bytes;
use super::headers::Head;

/// Addresses looked at in one header, so that a From of thousands costs no more than a good one.
const MAX_MAILBOXES: usize = 16;

/// Layers of rewriting taken off an envelope sender (SRS over BATV over VERP).
const MAX_LAYERS: usize = 4;

/// An author's canonical address, without extension; at most 320 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuthorAddress(SmallVec<[u8; 64]>);

impl Deref for AuthorAddress {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for AuthorAddress {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Who wrote the message: the authenticated user `auth`, mapped to an address; else who From names (where that
/// is a list: who Reply-To names, then X-Original-From); else the envelope sender (raw), without VERP, SRS and
/// BATV. Without `head` the headers are not known.
///
/// `is_list` is asked with canonical addresses. `None` for a message of nobody: the null sender, with no From.
pub fn author(
    rules: &AddressRules,
    auth: Option<&[u8]>,
    head: Option<&Head>,
    sender: &[u8],
    is_list: impl Fn(&[u8]) -> bool,
) -> Option<AuthorAddress> {
    let mut buf = AddressBuf::new();
    let listed = |found: &Canonical<'_>| is_list(found.full()) || found.base().is_some_and(&is_list);
    if let Some(user) = auth.and_then(|user| rules.canonical(without_realm(user), &mut buf)) {
        return Some(owned(rules, &user));
    }
    // Where a list writes in its own name and nothing says for whom, it is the author after all.
    let mut list = None;
    if let Some(head) = head
        && let Some(from) = first_address(rules, head.from(), &mut buf, |_| true)
    {
        if !listed(&from) {
            return Some(owned(rules, &from));
        }
        list = Some(owned(rules, &from));
        for field in [head.reply_to(), head.original_from()] {
            if let Some(found) = first_address(rules, field, &mut buf, |found| !listed(found)) {
                return Some(owned(rules, &found));
            }
        }
    }
    match envelope_author(rules, sender, &mut buf) {
        Some(found) if list.is_none() || !listed(&found) => Some(owned(rules, &found)),
        _ => list,
    }
}

/// `user` without a Windows domain (`DOMAIN\user`).
fn without_realm(user: &[u8]) -> &[u8] {
    match memchr::memrchr(b'\\', user) {
        Some(at) if !user.contains(&b'@') => user.get(at + 1..).unwrap_or_default(),
        _ => user,
    }
}

/// The address without its extension. `recipient_delimiter` is this site's: elsewhere `jean-luc` is not `jean`,
/// and only a `+` means the same everywhere.
fn owned(rules: &AddressRules, found: &Canonical<'_>) -> AuthorAddress {
    let (local, domain) = (found.local(), found.domain());
    let ours = rules.local_domains.first().is_some_and(|first| domain == first.as_bytes());
    if ours {
        return AuthorAddress(SmallVec::from_slice(found.base().unwrap_or(found.full())));
    }
    let plus = memchr::memchr(b'+', local).filter(|&plus| {
        plus > 0
            && found.base().is_some()
            && !local.starts_with(b"\"")
            && rules.recipient_delimiter.contains(&b'+')
    });
    match plus.and_then(|plus| local.get(..plus)) {
        Some(local) => AuthorAddress(local.iter().chain(b"@").chain(domain).copied().collect()),
        None => AuthorAddress(SmallVec::from_slice(found.full())),
    }
}

/// The first address of a header field that is one, and that `wanted` wants.
fn first_address<'b>(
    rules: &AddressRules,
    field: Option<&[u8]>,
    buf: &'b mut AddressBuf,
    wanted: impl Fn(&Canonical<'_>) -> bool,
) -> Option<Canonical<'b>> {
    let is_good = |found: &Canonical<'_>| !found.domain().is_empty() && wanted(found);
    let field = field?;
    // Nearly always it is the only mailbox.
    let raw = match plain_mailbox(field) {
        Some(mailbox) => mailbox,
        None => mailboxes(field)
            .into_iter()
            .find(|raw| rules.canonical(raw, buf).is_some_and(|one| is_good(&one)))?,
    };
    rules.canonical(raw, buf).filter(is_good)
}

/// The first mailbox of a From field, raw and without brackets; empty for `<>`.
pub(super) fn first_mailbox(field: &[u8]) -> Option<&[u8]> {
    plain_mailbox(field).or_else(|| mailboxes(field).into_iter().next())
}

/// The mailboxes in an address header (RFC 5322 3.4), raw: what stands in angle brackets, or a bare address.
/// Display names, comments and group names are left out, and bare words too unless there is nothing else.
fn mailboxes(field: &[u8]) -> SmallVec<[&[u8]; 4]> {
    let mut found = SmallVec::new();
    let mut lone_word = None;
    let mut start = 0;
    let mut at = 0;
    while at <= field.len() && found.len() < MAX_MAILBOXES {
        match field.get(at) {
            Some(b'"') => at = after_quoted(field, at),
            Some(b'(') => at = after_comment(field, at),
            Some(b'\\') => at += 2,
            Some(b'<') => {
                let end = closing(field, at);
                found.push(field.get(at + 1..end).unwrap_or_default());
                // The rest, up to the comma, is not part of an address.
                at = field
                    .get(end..)
                    .and_then(|rest| memchr::memchr2(b',', b';', rest))
                    .map_or(field.len(), |n| end + n);
                start = at;
            }
            // A group's name ends here, if it is not a source route.
            Some(b':') if !field.get(start..at).unwrap_or_default().contains(&b'@') => {
                at += 1;
                start = at;
            }
            Some(b',' | b';') | None => {
                let bare = field.get(start..at).unwrap_or_default().trim_ascii();
                if bare.contains(&b'@') {
                    found.push(bare);
                } else if !bare.is_empty() && !bare.contains(&b' ') {
                    lone_word.get_or_insert(bare);
                }
                at += 1;
                start = at;
            }
            Some(_) => {
                let plain = |byte: &u8| !matches!(byte, b'"' | b'(' | b'\\' | b'<' | b':' | b',' | b';');
                let rest = field.get(at + 1..).unwrap_or_default();
                at += 1 + rest.iter().take_while(|byte| plain(byte)).count();
            }
        }
    }
    let resort = unquoted_last_resort(field);
    if found.is_empty() && resort.is_none() {
        found.extend(lone_word);
    }
    found.extend(resort);
    found
}

/// The one mailbox of a field without comments, groups and commas, and without quotes but around its display name, as
/// nearly all From fields are.
fn plain_mailbox(field: &[u8]) -> Option<&[u8]> {
    let (text, quoted) = match field.strip_prefix(b"\"") {
        None => (field, false),
        Some(rest) => {
            let (name, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
            if memchr::memchr(b'\\', name).is_some() {
                return None;
            }
            (rest.get(1..)?, true)
        }
    };
    // Each is compared, rather than looked up: then many can be at once.
    let special = |byte: u8| {
        (byte == b'"') | (byte == b'(') | (byte == b'\\') | (byte == b':') | (byte == b',') | (byte == b';')
    };
    if bytes::any(text, special) {
        return None;
    }
    let mailbox = match memchr::memchr(b'<', text) {
        // The quotes are part of the address.
        None if quoted => return None,
        None => text.trim_ascii(),
        Some(open) => {
            let inside = text.get(open + 1..)?;
            inside.get(..memchr::memchr(b'>', inside)?).filter(|_| memchr::memchr(b'<', inside).is_none())?
        }
    };
    mailbox.contains(&b'@').then_some(mailbox)
}

/// An unbalanced quote hides the address behind it; then whatever the last brackets hold will do.
fn unquoted_last_resort(field: &[u8]) -> Option<&[u8]> {
    let open = memchr::memrchr(b'<', field)?;
    field.get(open + 1..closing(field, open)).filter(|inside| inside.contains(&b'@'))
}

/// Where the bracket that opens at `open` closes; the end if it does not.
fn closing(field: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    loop {
        match field.get(at) {
            None => return field.len(),
            Some(b'>') => return at,
            Some(b'"') => at = after_quoted(field, at),
            Some(_) => at += 1,
        }
    }
}

/// What follows the quoted string that begins at `at`.
fn after_quoted(field: &[u8], mut at: usize) -> usize {
    loop {
        at += 1;
        match field.get(at) {
            None => return field.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 1,
            Some(_) => {}
        }
    }
}

/// What follows the comment that begins at `at`; comments nest.
fn after_comment(field: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    loop {
        match field.get(at) {
            None => return field.len(),
            Some(b'(') => depth += 1,
            Some(b')') if depth <= 1 => return at + 1,
            Some(b')') => depth -= 1,
            Some(b'\\') => at += 1,
            Some(_) => {}
        }
        at += 1;
    }
}

/// The envelope sender's canonical form, with what forwarders and list managers added taken off.
fn envelope_author<'b>(
    rules: &AddressRules,
    sender: &[u8],
    buf: &'b mut AddressBuf,
) -> Option<Canonical<'b>> {
    // What is added has an `=`, nearly always.
    if memchr::memchr(b'=', sender).is_none() {
        return rules.canonical(sender, buf);
    }
    let mut current: SmallVec<[u8; 128]> = SmallVec::from_slice(rules.canonical(sender, buf)?.full());
    for _ in 0..MAX_LAYERS {
        let Some(inner) = unwrapped(&current) else { break };
        // An inner part that is no address proves that nothing was wrapped.
        let Some(found) = rules.canonical(&inner, buf) else { break };
        current = SmallVec::from_slice(found.full());
    }
    rules.canonical(&current, buf)
}

/// One layer less; `address` is canonical, hence in lower case.
fn unwrapped(address: &[u8]) -> Option<SmallVec<[u8; 128]>> {
    let at = memchr::memrchr(b'@', address)?;
    let (local, domain) = (address.get(..at)?, address.get(at + 1..)?);
    srs(local)
        .or_else(|| batv(local).map(|local| join(local, domain)))
        .or_else(|| verp(local).map(|local| join(local, domain)))
}

fn join(local: &[u8], domain: &[u8]) -> SmallVec<[u8; 128]> {
    local.iter().chain(b"@").chain(domain).copied().collect()
}

/// Sender Rewriting Scheme: `srs0=hash=tt=domain=local`, `srs1=hash=forwarder==hash=tt=domain=local`; the
/// first separator may also be `+` or `-`.
fn srs(local: &[u8]) -> Option<SmallVec<[u8; 128]>> {
    let (version, rest) = local.split_at_checked(5)?;
    let separator = |byte: &u8| matches!(byte, b'=' | b'+' | b'-');
    if !separator(version.last()?) {
        return None;
    }
    let tagged = if version.starts_with(b"srs0") {
        rest
    } else if version.starts_with(b"srs1") {
        rest.splitn(3, |&byte| byte == b'=').nth(2)?.split_first().filter(|(first, _)| separator(first))?.1
    } else {
        return None;
    };
    let mut parts = tagged.splitn(4, |&byte| byte == b'=');
    let (_hash, _time) = (parts.next()?, parts.next()?);
    let (domain, local) = (parts.next()?, parts.next()?);
    (is_domain(domain) && !local.is_empty()).then(|| join(local, domain))
}

/// Bounce Address Tag Validation: `prvs=tag=local`, `btv1==tag==local`.
fn batv(local: &[u8]) -> Option<&[u8]> {
    let (tag, inner) = if let Some(rest) = local.strip_prefix(b"prvs=") {
        rest.split_at_checked(memchr::memchr(b'=', rest)?)
            .and_then(|(tag, rest)| Some((tag, rest.get(1..)?)))?
    } else {
        let rest = local.strip_prefix(b"btv1==")?;
        let end = memchr::memmem::find(rest, b"==")?;
        (rest.get(..end)?, rest.get(end + 2..)?)
    };
    // Ten characters by the draft; sixteen leave room for those who tag at more length.
    let is_tag = (1..=16).contains(&tag.len()) && tag.iter().all(u8::is_ascii_alphanumeric);
    (is_tag && !inner.is_empty()).then_some(inner)
}

/// Variable envelope return path: `list-bounces+user=example.org`, `bounce-123-user=example.org`. The address
/// in it is the recipient's, so what is left is the list's, the same for every copy.
fn verp(local: &[u8]) -> Option<&[u8]> {
    let equals = memchr::memrchr(b'=', local)?;
    if !is_domain(local.get(equals + 1..)?) {
        return None;
    }
    let head = local.get(..equals)?;
    let marked = ["bounces", "bounce", "return", "returns", "errors"].iter().find_map(|marker| {
        let end = memchr::memmem::find(head, marker.as_bytes())? + marker.len();
        matches!(head.get(end), Some(b'+' | b'-' | b'.' | b'=')).then_some(end)
    });
    let end = marked.or_else(|| memchr::memchr(b'+', head)).filter(|&end| end > 0)?;
    head.get(..end)
}

/// Whether it has the shape of a host name of two labels or more.
fn is_domain(text: &[u8]) -> bool {
    text.contains(&b'.')
        && text.split(|&byte| byte == b'.').all(|label| {
            !label.is_empty()
                && label.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte >= 0x80)
        })
}

#[cfg(test)]
mod tests;
