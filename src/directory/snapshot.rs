//! What the directory knows at one moment: immutable, shared, and asked for every recipient.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::content::hash;
use super::pattern::Pattern;
use crate::mail::address::{AddressRules, Canonical};
use crate::time::Timestamp;

/// One list of a [`Snapshot`]. Another snapshot may give the same list another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(u32);

impl ListId {
    /// The `index`-th list of a snapshot. There are fewer than 2^32.
    pub fn at(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Its place in [`Snapshot::lists`]: below their number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A list address and how far it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// In canonical form; a pattern as configured, in lower case.
    pub address: String,
    /// Other addresses, each of which leads to it and nowhere else, in ascending order.
    pub names: Vec<String>,
    /// Mailboxes it reaches, nested lists resolved, each mailbox once.
    pub members: u64,
    /// The group of lists that the configuration puts it in.
    pub class: Option<String>,
    /// Where it is written: `becalm.toml:12`, `aliases /etc/aliases:40`.
    pub origin: String,
    /// Lists nested in it, however deep, in ascending order; never itself.
    pub contains: Vec<ListId>,
    /// Whether `address` is a pattern.
    pub pattern: bool,
}

impl List {
    /// Is this its address, or another name of it? In canonical form; no pattern is one.
    pub fn is_named(&self, address: &[u8]) -> bool {
        let is_other = || self.names.binary_search_by(|name| name.as_bytes().cmp(address)).is_ok();
        !self.pattern && (self.address.as_bytes() == address || is_other())
    }
}

/// How one source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// `configuration`, `aliases /etc/aliases`, `virtual /etc/postfix/virtual`.
    pub name: String,
    /// Lists that come from it.
    pub lists: u64,
    /// Members it names, repetitions counted; the configured numbers for the configuration.
    pub members: u64,
    /// When the content in use was read.
    pub read_at: Timestamp,
    /// Why the content in use is not what the source says now: it, or a file it includes, could not be read or
    /// was not believed.
    pub stale: Option<String>,
    /// Since when it has been `stale`.
    pub stale_since: Option<Timestamp>,
    /// What was skipped, by file and line. At most 50.
    pub warnings: Vec<String>,
}

/// All lists, and how the sources are doing.
#[derive(Clone, Debug)]
pub struct Snapshot {
    lists: Arc<Lists>,
    rules: Arc<AddressRules>,
    sources: Arc<[SourceStatus]>,
}

impl Snapshot {
    /// No lists, no sources, no rules.
    pub fn empty() -> Self {
        Self::new(Arc::default(), Arc::default(), Vec::new())
    }

    /// Lists that are known without a source, as of a scenario; patterns among them last.
    pub fn of(lists: Vec<List>, rules: AddressRules) -> Self {
        Self::new(Arc::new(Lists::new(lists)), Arc::new(rules), Vec::new())
    }

    pub(super) fn new(lists: Arc<Lists>, rules: Arc<AddressRules>, sources: Vec<SourceStatus>) -> Self {
        Self { lists, rules, sources: sources.into() }
    }

    /// The same lists with other news of the sources.
    pub(super) fn with_sources(&self, sources: Vec<SourceStatus>) -> Self {
        Self { sources: sources.into(), ..self.clone() }
    }

    /// The list of an address: the full form, else the address without its extension, else the first pattern
    /// that matches. Two hashes at most and, but for patterns, constant time; allocates nothing.
    pub fn lookup(&self, address: &Canonical<'_>) -> Option<ListId> {
        let lists = &*self.lists;
        lists
            .find(address.full())
            .or_else(|| lists.find(address.base()?))
            .or_else(|| self.matching_pattern(address))
    }

    /// The first pattern that an address matches, its full form or else the one without extension.
    pub fn matching_pattern(&self, address: &Canonical<'_>) -> Option<ListId> {
        let lists = &*self.lists;
        lists.match_pattern(address.full()).or_else(|| lists.match_pattern(address.base()?))
    }

    /// As [`Self::lookup`], for an address in canonical form whose extension does not matter.
    pub fn lookup_bytes(&self, address: &[u8]) -> Option<ListId> {
        self.lists.find(address).or_else(|| self.lists.match_pattern(address))
    }

    /// The list of an id.
    ///
    /// # Panics
    ///
    /// If the id is of another snapshot, one with more lists. Keep the snapshot with the ids it gave.
    pub fn list(&self, id: ListId) -> &List {
        self.get(id).expect("an id goes with the snapshot that gave it")
    }

    /// The list of an id, if this snapshot has so many.
    pub fn get(&self, id: ListId) -> Option<&List> {
        self.lists.all.get(id.index())
    }

    /// All lists, by address; patterns last, in the order of the configuration.
    pub fn lists(&self) -> &[List] {
        &self.lists.all
    }

    /// All lists with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (ListId, &List)> {
        (0..).map(ListId).zip(&self.lists.all)
    }

    /// Mailboxes that the lists reach together. A list that is nested in another of them, or named twice, counts
    /// once; people who are on several lists that are not nested count for each.
    pub fn audience(&self, ids: &[ListId]) -> u64 {
        match ids {
            [] => 0,
            [id] => self.get(*id).map_or(0, |list| list.members),
            _ => self.joint_audience(ids),
        }
    }

    fn joint_audience(&self, ids: &[ListId]) -> u64 {
        let counts = |at: usize, id: ListId| {
            !ids.iter().enumerate().any(|(other_at, &other)| {
                if other == id {
                    return other_at < at;
                }
                let inside = self.has(other, id);
                // Of lists that contain each other, the first by number counts.
                inside && (other < id || !self.has(id, other))
            })
        };
        ids.iter()
            .enumerate()
            .filter(|(at, id)| counts(*at, **id))
            .filter_map(|(_, id)| self.get(*id))
            .fold(0, |sum, list| sum.saturating_add(list.members))
    }

    /// Whether `outer` contains `inner`.
    fn has(&self, outer: ListId, inner: ListId) -> bool {
        self.get(outer).is_some_and(|list| list.contains.binary_search(&inner).is_ok())
    }

    /// The sources: the configuration first, then files in the order of the settings.
    pub fn sources(&self) -> &[SourceStatus] {
        &self.sources
    }

    /// The rules the lists were read with: those of the configuration and the domain aliases (`@old @new`) of
    /// the virtual(5) files. Recipients must be brought into canonical form with the same.
    pub fn rules(&self) -> &Arc<AddressRules> {
        &self.rules
    }
}

/// The lists and the ways to find them.
#[derive(Debug, Default)]
pub(super) struct Lists {
    all: Vec<List>,
    by_hash: HashMap<u64, ListId, BuildHasherDefault<Hashed>>,
    patterns: Vec<(Pattern, ListId)>,
}

impl Lists {
    /// `all` with the patterns among them last.
    pub(super) fn new(all: Vec<List>) -> Self {
        let mut lists = Self::default();
        for (at, list) in all.iter().enumerate() {
            if list.pattern {
                lists.patterns.push((Pattern::new(&list.address), ListId::at(at)));
            } else {
                for address in std::iter::once(&list.address).chain(&list.names) {
                    lists.by_hash.entry(hash(address.as_bytes())).or_insert(ListId::at(at));
                }
            }
        }
        lists.all = all;
        lists
    }

    fn find(&self, address: &[u8]) -> Option<ListId> {
        let id = *self.by_hash.get(&hash(address))?;
        // A sender chooses addresses; a hash without a key is no proof.
        self.all.get(id.index())?.is_named(address).then_some(id)
    }

    fn match_pattern(&self, address: &[u8]) -> Option<ListId> {
        self.patterns.iter().find(|(pattern, _)| pattern.matches(address)).map(|(_, id)| *id)
    }
}

/// For keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        // The lowest bit is always 0; the table takes its place from the low bits.
        self.0 = hash.rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::AddressBuf;

    fn list(address: &str, members: u64, contains: &[u32]) -> List {
        List {
            address: address.to_owned(),
            names: Vec::new(),
            members,
            class: None,
            origin: String::new(),
            contains: contains.iter().copied().map(ListId).collect(),
            pattern: address.contains('*'),
        }
    }

    fn snapshot(lists: Vec<List>) -> Snapshot {
        Snapshot::of(lists, AddressRules::default())
    }

    fn find(snapshot: &Snapshot, raw: &str) -> Option<usize> {
        let rules = AddressRules { recipient_delimiter: [b'+'].into(), ..AddressRules::default() };
        let mut buf = AddressBuf::new();
        let canonical = rules.canonical(raw.as_bytes(), &mut buf).unwrap();
        snapshot.lookup(&canonical).map(ListId::index)
    }

    #[test]
    fn full_form_then_base_then_patterns() {
        let snapshot = snapshot(vec![
            list("all+x@d.example", 1, &[]),
            list("all@d.example", 2, &[]),
            list("*@lists.example", 3, &[]),
            list("*-all@*", 4, &[]),
        ]);
        assert_eq!(find(&snapshot, "All+X@d.example"), Some(0));
        assert_eq!(find(&snapshot, "all+y@d.example"), Some(1));
        assert_eq!(find(&snapshot, "<all@d.example>"), Some(1));
        assert_eq!(find(&snapshot, "any-all@lists.example"), Some(2), "the first pattern wins");
        assert_eq!(find(&snapshot, "any-all+ext@x.example"), Some(3));
        assert_eq!(find(&snapshot, "bob@d.example"), None);
        assert_eq!(snapshot.lookup_bytes(b"all@d.example").map(ListId::index), Some(1));
    }

    #[test]
    fn nested_lists_count_once() {
        let snapshot = snapshot(vec![list("a@x", 100, &[1, 2]), list("b@x", 30, &[2]), list("c@x", 10, &[])]);
        let [a, b, c] = [0, 1, 2].map(ListId);
        assert_eq!(snapshot.audience(&[]), 0);
        assert_eq!(snapshot.audience(&[b]), 30);
        assert_eq!(snapshot.audience(&[c, b]), 30);
        assert_eq!(snapshot.audience(&[c, a, b, a]), 100);
        assert_eq!(snapshot.audience(&[c, c, c]), 10);
    }

    #[test]
    fn lists_that_contain_each_other_count_once() {
        let snapshot = snapshot(vec![list("a@x", 7, &[1]), list("b@x", 7, &[0]), list("c@x", 5, &[])]);
        let [a, b, c] = [0, 1, 2].map(ListId);
        assert_eq!(snapshot.audience(&[b, a]), 7);
        assert_eq!(snapshot.audience(&[b, c, a, b]), 12);
    }

    #[test]
    fn ids_of_another_snapshot_are_not_found() {
        assert_eq!(Snapshot::empty().get(ListId(3)), None);
        assert_eq!(Snapshot::empty().audience(&[ListId(3), ListId(4)]), 0);
    }
}
