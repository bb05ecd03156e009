//! What one file says, as compact as counting allows: addresses are hashes, only the names of entries are kept.
//!
//! Members are told apart by 64-bit hashes without a secret key. Two of ten million different members share one
//! with a probability of 1 in 400,000, and then a count is one too small: nothing that a threshold would notice.

use std::ops::Range;
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;
use thiserror::Error;

use super::parse::{Complaint, Destination, Name, Sink};
use crate::mail::address::{AddressBuf, AddressRules, Canonical};

/// The lowest bit of a value: a mailbox that is not looked up again. The other 63 bits tell mailboxes apart.
pub const FINAL: u64 = 1;

/// Complaints kept of one file: enough to see what is wrong with it. The rest is counted.
const MAX_COMPLAINTS: usize = 20;

/// Domain aliases of one source. Sites have hundreds; each is looked at for every address.
const MAX_DOMAIN_ALIASES: usize = 100_000;

/// Files that one source may include: each is looked at at every refresh.
pub const MAX_INCLUDES: usize = 100_000;

/// The hash of a canonical address, as keys and values have it.
pub fn hash(address: &[u8]) -> u64 {
    SipHasher13::new().hash(address) & !FINAL
}

/// Which format a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// aliases(5).
    Aliases,
    /// virtual(5).
    Virtual,
    /// A file that aliases(5) includes: one entry without a name.
    Include,
}

/// How much a file may still add to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Entries.
    pub entries: usize,
    /// Members, includes and domain aliases.
    pub values: usize,
}

impl Allowance {
    /// Of one source: two million entries are a hundred megabytes at most, twenty million members 160. Sites
    /// beyond that do not keep them in text files.
    pub const SOURCE: Self = Self { entries: 2_000_000, values: 20_000_000 };
}

/// A file that holds more than becalm is willing to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TooMuch {
    /// Entries.
    #[error("more than 2,000,000 entries in one source; give becalm a file of the lists alone")]
    Entries,
    /// Members.
    #[error(
        "more than 20,000,000 members in one source; write the largest lists into becalm's configuration instead"
    )]
    Values,
    /// Includes.
    #[error("more than 100,000 files are included; merge some of them")]
    Includes,
    /// Domain aliases.
    #[error("more than 100,000 domain aliases")]
    DomainAliases,
}

/// What one file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Content {
    entries: Vec<Entry>,
    /// Names of the entries, one after the other.
    names: String,
    values: Vec<u64>,
    includes: Vec<PathBuf>,
    /// Hash of an address with extension → hash without it; sorted.
    extended: Vec<(u64, u64)>,
    domain_aliases: Vec<(String, String)>,
    complaints: Vec<(u32, Complaint)>,
    /// Complaints that were not kept.
    more_complaints: u64,
}

/// One entry. Each `_end` is the beginning of the next entry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: u64,
    line: u32,
    name_end: u32,
    values_end: u32,
    includes_end: u32,
}

impl Content {
    /// How many entries there are.
    pub const fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Members of all entries, as often as they are named.
    pub const fn members(&self) -> usize {
        self.values.len()
    }

    /// What this file takes of its source's allowance.
    pub const fn spent(&self) -> Allowance {
        Allowance {
            entries: self.entries.len(),
            values: self.values.len() + self.includes.len() + self.domain_aliases.len(),
        }
    }

    /// The hash of an entry's name; 0 for the nameless entry of an include, and for a number out of range.
    pub fn key(&self, entry: usize) -> u64 {
        self.entries.get(entry).map_or(0, |entry| entry.key)
    }

    /// The line an entry begins at.
    pub fn line(&self, entry: usize) -> u32 {
        self.entries.get(entry).map_or(0, |entry| entry.line)
    }

    /// The canonical address an entry stands for.
    pub fn name(&self, entry: usize) -> &str {
        self.names.get(self.span(entry, |entry| entry.name_end)).unwrap_or_default()
    }

    /// The members of an entry: hashes, [`FINAL`] set on those that are not looked up again.
    pub fn values(&self, entry: usize) -> &[u64] {
        self.values.get(self.span(entry, |entry| entry.values_end)).unwrap_or_default()
    }

    /// The files an entry includes.
    pub fn includes(&self, entry: usize) -> &[PathBuf] {
        self.includes.get(self.span(entry, |entry| entry.includes_end)).unwrap_or_default()
    }

    /// The files that all entries include.
    pub fn all_includes(&self) -> impl Iterator<Item = &Path> {
        self.includes.iter().map(PathBuf::as_path)
    }

    /// The line of the entry that includes the `at`-th of [`Self::all_includes`].
    pub fn line_of_include(&self, at: usize) -> u32 {
        let entry = self.entries.partition_point(|entry| entry.includes_end as usize <= at);
        self.line(entry)
    }

    /// The hash of an address without its extension, if it has one.
    pub fn base(&self, value: u64) -> Option<u64> {
        let at = self.extended.binary_search_by_key(&value, |(full, _)| *full).ok()?;
        self.extended.get(at).map(|(_, base)| *base)
    }

    /// Domain aliases, in the order of the file: alias and real domain.
    pub fn domain_aliases(&self) -> &[(String, String)] {
        &self.domain_aliases
    }

    /// What was skipped, by line, and how much more of that there was than is kept.
    pub fn complaints(&self) -> (&[(u32, Complaint)], u64) {
        (&self.complaints, self.more_complaints)
    }

    fn span(&self, entry: usize, end: impl Fn(&Entry) -> u32) -> Range<usize> {
        let start = entry.checked_sub(1).and_then(|before| self.entries.get(before)).map_or(0, &end);
        let end = self.entries.get(entry).map_or(start, &end);
        start as usize..end as usize
    }
}

/// Makes a [`Content`] of what a parser finds.
pub struct Builder<'r> {
    rules: &'r AddressRules,
    allowance: Allowance,
    content: Content,
    too_much: Option<TooMuch>,
    /// The present entry has no usable name: its values are dropped.
    skipping: bool,
    buf: AddressBuf,
    raw: Vec<u8>,
}

impl<'r> Builder<'r> {
    /// For one file.
    pub fn new(rules: &'r AddressRules, format: Format, allowance: Allowance) -> Self {
        let mut content = Content::default();
        if format == Format::Include {
            content.entries.push(Entry { key: 0, line: 1, name_end: 0, values_end: 0, includes_end: 0 });
        }
        Self {
            rules,
            allowance,
            content,
            too_much: None,
            skipping: format != Format::Include,
            buf: AddressBuf::new(),
            raw: Vec::new(),
        }
    }

    /// Whether the file has gone beyond its allowance; the rest of it is of no use.
    pub const fn too_much(&self) -> Option<TooMuch> {
        self.too_much
    }

    /// The file is at its end.
    pub fn finish(mut self) -> Content {
        self.complain_of_duplicates();
        let mut content = self.content;
        content.extended.sort_unstable();
        content.extended.dedup();
        content.entries.shrink_to_fit();
        content.names.shrink_to_fit();
        content.values.shrink_to_fit();
        content.includes.shrink_to_fit();
        content.extended.shrink_to_fit();
        content
    }

    fn complain_of_duplicates(&mut self) {
        let mut keys = self.content.entries.iter().map(|entry| (entry.key, entry.line)).collect::<Vec<_>>();
        keys.sort_unstable();
        let mut lines = keys
            .windows(2)
            .filter_map(|pair| match pair {
                [(first, _), (second, line)] if first == second => Some(*line),
                _ => None,
            })
            .collect::<Vec<_>>();
        lines.sort_unstable();
        for line in lines {
            self.complaint(line, Complaint::Duplicate);
        }
    }

    /// Marks the end of what the present entry has so far.
    fn close(&mut self) {
        let content = &mut self.content;
        if let Some(entry) = content.entries.last_mut() {
            // In u32: the allowance is far below.
            entry.values_end = u32::try_from(content.values.len()).unwrap_or(u32::MAX);
            entry.includes_end = u32::try_from(content.includes.len()).unwrap_or(u32::MAX);
        }
    }

    fn special(kind: u8, text: &[u8]) -> u64 {
        // No canonical address begins with a control character.
        let mut bytes = vec![kind];
        bytes.extend_from_slice(text);
        hash(&bytes) | FINAL
    }
}

/// A local part in a form that an address may have: quoted unless it is plain.
fn quote(local: &[u8], into: &mut Vec<u8>) {
    let plain = |byte: &u8| {
        byte.is_ascii_alphanumeric() || b".-_+=/&!#$%'*?^`{|}~".contains(byte) || !byte.is_ascii()
    };
    if local.iter().all(plain) {
        return into.extend_from_slice(local);
    }
    into.push(b'"');
    for &byte in local {
        if matches!(byte, b'"' | b'\\') {
            into.push(b'\\');
        }
        into.push(byte);
    }
    into.push(b'"');
}

impl Sink for Builder<'_> {
    fn entry(&mut self, line: u32, name: Name<'_>) {
        self.skipping = true;
        if self.content.entries.len() >= self.allowance.entries {
            self.too_much = Some(TooMuch::Entries);
            return;
        }
        let raw = match name {
            Name::Address(name) => name,
            // A local alias is valid in every local domain, and they are all written as the first of them.
            Name::Local(name) => {
                self.raw.clear();
                quote(name, &mut self.raw);
                if let Some(domain) = self.rules.local_domains.first() {
                    self.raw.push(b'@');
                    self.raw.extend_from_slice(domain.as_bytes());
                }
                &self.raw
            }
        };
        let address = self.rules.canonical(raw, &mut self.buf).map(|name| name.full());
        let Some(address) = address.and_then(|address| std::str::from_utf8(address).ok()) else {
            return self.complaint(line, Complaint::NotAnAddress);
        };
        self.skipping = false;
        let content = &mut self.content;
        content.names.push_str(address);
        content.entries.push(Entry {
            key: hash(address.as_bytes()),
            line,
            // In u32: no file is larger than that.
            name_end: u32::try_from(content.names.len()).unwrap_or(u32::MAX),
            values_end: 0,
            includes_end: 0,
        });
        self.close();
    }

    fn value(&mut self, line: u32, destination: Destination<'_>) {
        if self.skipping {
            return;
        }
        if self.content.spent().values >= self.allowance.values {
            self.too_much = Some(TooMuch::Values);
            return;
        }
        let value = match destination {
            Destination::Include(path) => {
                if self.content.includes.len() >= MAX_INCLUDES {
                    self.too_much = Some(TooMuch::Includes);
                    return;
                }
                if path.first() == Some(&b'/') {
                    use std::os::unix::ffi::OsStrExt;
                    self.content.includes.push(Path::new(std::ffi::OsStr::from_bytes(path)).to_owned());
                    return self.close();
                }
                return self.complaint(line, Complaint::RelativeInclude);
            }
            Destination::File(path) => Some(Self::special(1, path)),
            Destination::Command(command) => Some(Self::special(2, command)),
            Destination::Mailbox(name) => self
                .rules
                .canonical(name, &mut self.buf)
                .map(|name| hash(name.base().unwrap_or(name.full())) | FINAL),
            Destination::Address(raw) => {
                self.rules.canonical(raw, &mut self.buf).map(|address: Canonical<'_>| {
                    let full = hash(address.full());
                    if let Some(base) = address.base() {
                        self.content.extended.push((full, hash(base)));
                    }
                    full
                })
            }
        };
        match value {
            Some(value) => {
                self.content.values.push(value);
                self.close();
            }
            None => self.complaint(line, Complaint::NotAnAddress),
        }
    }

    fn domain_alias(&mut self, line: u32, old: &[u8], new: &[u8]) {
        if self.content.domain_aliases.len() >= MAX_DOMAIN_ALIASES {
            self.too_much = Some(TooMuch::DomainAliases);
            return;
        }
        let domain = |domain: &[u8]| {
            let domain = std::str::from_utf8(domain).ok()?.trim_end_matches('.').to_lowercase();
            (!domain.is_empty() && domain.len() <= 255).then_some(domain)
        };
        match (domain(old), domain(new)) {
            // `@here @here` says that every address of the domain is there: no alias.
            (Some(old), Some(new)) if old == new => (),
            (Some(old), Some(new)) => self.content.domain_aliases.push((old, new)),
            _ => self.complaint(line, Complaint::NotAnAddress),
        }
    }

    fn complaint(&mut self, line: u32, complaint: Complaint) {
        if self.content.complaints.len() < MAX_COMPLAINTS {
            self.content.complaints.push((line, complaint));
        } else {
            self.content.more_complaints = self.content.more_complaints.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::aliases::Aliases;
    use super::super::parse::virtuals::Virtuals;
    use super::*;

    fn rules() -> AddressRules {
        AddressRules {
            myorigin: "mail.example".to_owned(),
            local_domains: vec!["mail.example".to_owned(), "example".to_owned()],
            recipient_delimiter: [b'+'].into(),
            ..AddressRules::default()
        }
    }

    fn aliases(text: &str) -> Content {
        let rules = rules();
        let mut builder = Builder::new(&rules, Format::Aliases, Allowance::SOURCE);
        let mut parser = Aliases::default();
        for (number, line) in (1..).zip(text.lines()) {
            parser.line(number, line.as_bytes(), &mut builder);
        }
        builder.finish()
    }

    #[test]
    fn names_and_members_come_in_canonical_form() {
        let content = aliases("All: bob, BOB@example, <bob@mail.example>, \\bob\n\"two words\": x@y.example");
        assert_eq!(content.name(0), "all@mail.example");
        assert_eq!(content.name(1), "\"two words\"@mail.example");
        let bob = hash(b"bob@mail.example");
        assert_eq!(content.values(0), [bob, bob, bob, bob | FINAL]);
        assert_eq!(content.values(1), [hash(b"x@y.example")]);
        assert_eq!((content.line(0), content.line(1), content.members()), (1, 2, 5));
    }

    #[test]
    fn extensions_lead_to_their_base() {
        let content = aliases("all: bob+tag, eve");
        assert_eq!(content.base(hash(b"bob+tag@mail.example")), Some(hash(b"bob@mail.example")));
        assert_eq!(content.base(hash(b"eve@mail.example")), None);
    }

    #[test]
    fn files_and_commands_are_one_destination_each() {
        let content = aliases("all: /var/a, \"/var/a\", \"|/var/a\", /var/b");
        let values = content.values(0);
        assert_eq!(values[0], values[1]);
        assert_ne!(values[0], values[2]);
        assert_ne!(values[0], values[3]);
        assert!(values.iter().all(|value| value & FINAL != 0));
    }

    #[test]
    fn includes_belong_to_their_entry() {
        let content = aliases("a: :include:/1, x\nb: y\nc: :include:/2, :include:/3, :include:rel");
        assert_eq!(content.includes(0), [Path::new("/1")]);
        assert!(content.includes(1).is_empty());
        assert_eq!(content.includes(2).len(), 2);
        assert_eq!([0, 1, 2].map(|at| content.line_of_include(at)), [1, 3, 3]);
        assert_eq!(content.complaints().0, [(3, Complaint::RelativeInclude)]);
    }

    #[test]
    fn duplicates_and_unusable_names_are_told() {
        let content = aliases("a: x\nA: y\nb: z\na: w");
        assert_eq!(content.complaints().0, [(2, Complaint::Duplicate), (4, Complaint::Duplicate)]);
        let long = format!("{}: x\n  y", "a".repeat(400));
        let content = aliases(&long);
        assert_eq!((content.entries(), content.members()), (0, 0));
        assert_eq!(content.complaints().0, [(1, Complaint::NotAnAddress)]);
    }

    #[test]
    fn an_allowance_is_not_exceeded() {
        let rules = rules();
        let mut builder = Builder::new(&rules, Format::Virtual, Allowance { entries: 1, values: 2 });
        let mut parser = Virtuals::default();
        parser.line(1, b"a@x.example b, c", &mut builder);
        assert_eq!(builder.too_much(), None);
        parser.line(2, b" d", &mut builder);
        assert_eq!(builder.too_much(), Some(TooMuch::Values));
        parser.line(3, b"b@x.example b", &mut builder);
        assert_eq!(builder.too_much(), Some(TooMuch::Entries));
        assert_eq!(builder.finish().members(), 2);
    }

    #[test]
    fn domain_aliases_are_kept_but_not_identities() {
        let rules = rules();
        let mut builder = Builder::new(&rules, Format::Virtual, Allowance::SOURCE);
        let mut parser = Virtuals::default();
        parser.line(1, b"@Old.example @new.example", &mut builder);
        parser.line(2, b"@new.example @new.example", &mut builder);
        assert_eq!(builder.finish().domain_aliases(), [("old.example".to_owned(), "new.example".to_owned())]);
    }

    #[test]
    fn complaints_are_bounded() {
        let content = aliases(&"nothing\n".repeat(100));
        let (kept, more) = content.complaints();
        assert_eq!((kept.len(), more), (20, 80));
    }
}
