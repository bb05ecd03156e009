//! From what the files say to lists with counts: nested entries resolved across all sources, every mailbox once,
//! cycles survived.
//!
//! An address is looked up as Postfix delivers it: virtual(5) first, then aliases(5); the file named first wins.
//! A virtual entry that names itself goes on to the alias of that name, an alias that names itself is a mailbox.
//! An entry that leads to one list and nowhere else is no list, but another name of that one.
//!
//! ```text
//! values ──▶ leaf: a mailbox        ─┐
//!        └─▶ edge: another entry     ├─▶ components (cycles) ─▶ closures ─▶ counts, containment
//! includes ─▶ edge: the file         ─┘
//! ```
//!
//! Counting does not visit mailboxes list by list. A mailbox that only one component names is a number of that
//! component; only the others, grouped by the components that name them, are marked as visited.

mod count;
mod graph;
mod names;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::path::Path;

use smallvec::SmallVec;
use thiserror::Error;

use self::count::Atoms;
use self::graph::{Closures, Components, Graph, Rows};
use self::names::{give_names, is_owner};
use super::content::{Content, FINAL, Format};
use super::pattern::Pattern;
use super::snapshot::{Hashed, List, ListId};

/// Lists that becalm keeps counters for; each has a slot of its own there. Beyond that, `min_members` is too low.
const MAX_LISTS: usize = 100_000;

/// An entry with at most this many members, all of them mailboxes, is written out where it is named. People
/// with an address or two are most entries of most sites; they would only burden the graph.
const MAX_LIGHT: usize = 4;

/// Entries with one member that are followed in a row before they are treated as nested lists: longer than any
/// chain of personal aliases; cycles end here.
const MAX_CHASE: usize = 16;

/// What there is to resolve.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Lists of the configuration; they win.
    pub configured: &'a [Configured],
    /// Files, the more important first within each format.
    pub files: &'a [File<'a>],
    /// An entry with fewer members is not a list, unless it is configured.
    pub min_members: u64,
}

/// A list of the configuration, its address hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// The hash of the address.
    pub key: u64,
    /// The list as it will be. With 0 members it takes the number, and what it contains, from a source that
    /// knows the address.
    pub list: List,
}

/// One source.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// aliases(5) or virtual(5).
    pub format: Format,
    /// Before the line number in a list's origin: `aliases /etc/aliases`.
    pub name: &'a str,
    /// What it says.
    pub content: &'a Content,
    /// The files it includes, however deep. One that is missing here counts as empty.
    pub included: &'a [(&'a Path, &'a Content)],
}

/// The lists.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// By address; patterns last, as configured.
    pub lists: Vec<List>,
    /// How many of them come from each of the files.
    pub by_file: Vec<u64>,
}

/// More than becalm is willing to work out. The snapshot before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TooTangled {
    /// Too many lists.
    #[error("more than 100,000 lists; raise `min_members`")]
    Lists,
    /// Too many pairs of a list and one nested in it.
    #[error(
        "more than 16,000,000 pairs of a list and one nested in it; a chain or cycle of aliases runs through most of them"
    )]
    Nesting,
    /// Counting would take too long.
    #[error("lists share so many members and nested lists that counting them would take minutes")]
    Work,
}

/// Works out all lists.
///
/// # Errors
///
/// If there are more lists, nesting or work than its bounds allow.
pub fn resolve(input: &Input<'_>) -> Result<Resolved, TooTangled> {
    let entries = Entries::new(input);
    let (graph, mailboxes) = entries.walk();
    let components = Components::new(&graph);
    let closures = Closures::new(&graph, &components)?;
    let atoms = entries.atoms(&components, &mailboxes);
    drop(mailboxes);
    let totals = atoms.totals(&closures, &entries.wanted(&components))?;
    entries.lists(input, &components, &closures, &totals)
}

/// All entries and includes as numbered nodes.
struct Entries<'a> {
    /// What nodes are entries of: the file they belong to, and the content of that file or one it includes.
    contents: Vec<(usize, &'a Content)>,
    nodes: Vec<Node>,
    /// Hash of an address → the entry that mail for it meets first.
    top: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    /// (file, path) → the node of an include.
    includes: HashMap<(usize, &'a Path), u32>,
    configured: &'a [Configured],
    min_members: u64,
}

/// Small: there may be millions, most of them people.
#[derive(Clone, Copy)]
struct Node {
    /// Place in `contents`; [`CONFIGURED`] for a list of the configuration.
    content: u32,
    /// Place in that content, or in the configuration.
    entry: u32,
    /// For a virtual entry, the alias of the same address; else [`NONE`].
    shadow: u32,
}

const CONFIGURED: u32 = u32::MAX;
const NONE: u32 = u32::MAX;

/// An entry of a file, or the only one of an include, with the key 0.
#[derive(Clone, Copy)]
struct Entry<'a> {
    node: u32,
    file: usize,
    content: &'a Content,
    at: usize,
    key: u64,
}

impl<'a> Entry<'a> {
    fn values(&self) -> &'a [u64] {
        self.content.values(self.at)
    }
}

/// What a value leads to.
enum Target {
    Mailbox(u64),
    Entry(u32),
}

impl<'a> Entries<'a> {
    fn new(input: &Input<'a>) -> Self {
        let count =
            input.files.iter().map(|file| file.content.entries() + file.included.len()).sum::<usize>();
        let mut entries = Self {
            contents: Vec::new(),
            nodes: Vec::with_capacity(count + input.configured.len()),
            top: HashMap::default(),
            includes: HashMap::new(),
            configured: input.configured,
            min_members: input.min_members,
        };
        for (file, source) in
            input.files.iter().enumerate().filter(|(_, file)| file.format != Format::Virtual)
        {
            entries.add_file(file, source);
        }
        let aliases = std::mem::take(&mut entries.top);
        for (file, source) in
            input.files.iter().enumerate().filter(|(_, file)| file.format == Format::Virtual)
        {
            entries.add_file(file, source);
        }
        for (key, alias) in aliases {
            let top = *entries.top.entry(key).or_insert(alias);
            if top != alias
                && let Some(node) = entries.nodes.get_mut(top as usize)
            {
                node.shadow = alias;
            }
        }
        for (at, configured) in input.configured.iter().enumerate() {
            let list = &configured.list;
            if !list.pattern && (list.members > 0 || !entries.top.contains_key(&configured.key)) {
                let node = entries.add(CONFIGURED, at);
                entries.top.insert(configured.key, node);
            }
        }
        entries
    }

    fn add(&mut self, content: u32, entry: usize) -> u32 {
        let node = number(self.nodes.len());
        self.nodes.push(Node { content, entry: number(entry), shadow: NONE });
        node
    }

    fn add_content(&mut self, file: usize, content: &'a Content) -> u32 {
        self.contents.push((file, content));
        number(self.contents.len() - 1)
    }

    fn add_file(&mut self, file: usize, source: &File<'a>) {
        let content = self.add_content(file, source.content);
        for entry in 0..source.content.entries() {
            let node = self.add(content, entry);
            self.top.entry(source.content.key(entry)).or_insert(node);
        }
        for &(path, included) in source.included {
            let content = self.add_content(file, included);
            let node = self.add(content, 0);
            self.includes.insert((file, path), node);
        }
    }

    fn node(&self, node: u32) -> Option<&Node> {
        self.nodes.get(node as usize)
    }

    /// The entry of a node; none for a list of the configuration.
    fn entry(&self, node: u32) -> Option<Entry<'a>> {
        let Node { content, entry, .. } = *self.node(node)?;
        let &(file, content) = self.contents.get(content as usize)?;
        let at = entry as usize;
        Some(Entry { node, file, content, at, key: content.key(at) })
    }

    /// What a value of an entry leads to, in one step.
    fn step(&self, entry: &Entry<'_>, value: u64) -> Target {
        if value & FINAL != 0 {
            return Target::Mailbox(value & !FINAL);
        }
        // Its own name ends the search in this table.
        let own = |mailbox| match self.node(entry.node) {
            Some(Node { shadow, .. }) if *shadow != NONE => Target::Entry(*shadow),
            _ => Target::Mailbox(mailbox),
        };
        if value == entry.key {
            return own(value);
        }
        if let Some(entry) = self.top.get(&value) {
            return Target::Entry(*entry);
        }
        match entry.content.base(value) {
            Some(base) if base == entry.key => own(base),
            Some(base) => self.top.get(&base).map_or(Target::Mailbox(base), |entry| Target::Entry(*entry)),
            None => Target::Mailbox(value),
        }
    }

    /// The mailbox that an entry leads to by way of entries with one member each.
    fn chase(&self, mut node: u32) -> Option<u64> {
        for _ in 0..MAX_CHASE {
            let entry = self.entry(node)?;
            let &[value] = entry.values() else { return None };
            if !entry.content.includes(entry.at).is_empty() {
                return None;
            }
            match self.step(&entry, value) {
                Target::Mailbox(mailbox) => return Some(mailbox),
                Target::Entry(next) => node = next,
            }
        }
        None
    }

    /// The mailboxes of an entry that is a few of them and nothing else.
    fn light(&self, node: u32) -> Option<SmallVec<[u64; MAX_LIGHT]>> {
        let entry = self.entry(node)?;
        if entry.key == 0 {
            // An include is named by its path, not by its address: nobody writes it out.
            return None;
        }
        let values = entry.values();
        // A light entry is no list: it has fewer members than the smallest.
        let few = values.len() <= MAX_LIGHT && (values.len() as u64) < self.min_members;
        if !few || !entry.content.includes(entry.at).is_empty() {
            return None;
        }
        values
            .iter()
            .map(|&value| match self.step(&entry, value) {
                Target::Mailbox(mailbox) => Some(mailbox),
                Target::Entry(next) => self.chase(next),
            })
            .collect()
    }

    fn numbers(&self) -> impl Iterator<Item = u32> + Clone + use<> {
        0..number(self.nodes.len())
    }

    /// For every node, the nodes it names, and the mailboxes. Light entries have neither: they are written out
    /// where they are named, and by themselves would make every mailbox of theirs a shared one.
    fn walk(&self) -> (Graph, Rows<u64>) {
        let mut graph = Graph::with_capacity(self.nodes.len());
        let named = self.contents.iter().map(|(_, content)| content.members()).sum();
        let mut mailboxes = Rows::with_capacity(self.nodes.len(), named);
        let mut edges = Vec::new();
        for node in self.numbers() {
            edges.clear();
            if let Some(entry) = self.entry(node)
                && self.light(node).is_none()
            {
                for &value in entry.values() {
                    match self.step(&entry, value) {
                        Target::Mailbox(mailbox) => mailboxes.items.push(mailbox),
                        Target::Entry(next) => match self.light(next) {
                            Some(few) => mailboxes.items.extend(few),
                            None => edges.push(next),
                        },
                    }
                }
                let includes = entry.content.includes(entry.at).iter();
                edges.extend(includes.filter_map(|path| self.includes.get(&(entry.file, path.as_path()))));
                edges.sort_unstable();
                edges.dedup();
            }
            mailboxes.close();
            graph.push(&edges);
        }
        (graph, mailboxes)
    }

    /// The mailboxes that components name themselves.
    fn atoms(&self, components: &Components, mailboxes: &Rows<u64>) -> Atoms {
        let rows = self.numbers().map(|node| (components.of(node), mailboxes.row(node)));
        let mut atoms = Atoms::new(components.count(), mailboxes.items.len(), rows);
        for (node, Node { content, entry, .. }) in self.numbers().zip(&self.nodes) {
            if *content == CONFIGURED {
                let members =
                    self.configured.get(*entry as usize).map_or(0, |configured| configured.list.members);
                atoms.add(components.of(node), members);
            }
        }
        atoms
    }

    /// Components that may be lists: others are only counted as parts of them.
    fn wanted(&self, components: &Components) -> Vec<bool> {
        let mut wanted = vec![false; components.count()];
        for &node in self.top.values() {
            if let Some(wanted) = wanted.get_mut(components.of(node) as usize) {
                *wanted = true;
            }
        }
        wanted
    }

    fn lists(
        &self,
        input: &Input<'_>,
        components: &Components,
        closures: &Closures,
        totals: &[u64],
    ) -> Result<Resolved, TooTangled> {
        let configured = input.configured.iter().filter(|configured| !configured.list.pattern);
        let configured =
            configured.map(|configured| (configured.key, &configured.list)).collect::<HashMap<_, _>>();
        let is_configured = |key: u64| configured.contains_key(&key);
        let patterns = input.configured.iter().filter(|configured| configured.list.pattern);
        let patterns: Vec<_> = patterns.map(|configured| Pattern::new(&configured.list.address)).collect();
        let mut found = Vec::new();
        let mut names = Vec::new();
        let mut by_file = vec![0_u64; input.files.len()];
        for (key, &node) in &self.top {
            let members = totals.get(components.of(node) as usize).copied().unwrap_or_default();
            let configured = configured.get(key);
            let list = match self.entry(node) {
                None => {
                    let at = self.node(node).map(|node| node.entry as usize);
                    let Some(configured) = at.and_then(|at| self.configured.get(at)) else { continue };
                    configured.list.clone()
                }
                Some(Entry { file, content, at, .. }) => {
                    let Some(source) = input.files.get(file) else { continue };
                    let address = content.name(at);
                    let owner = is_owner(source, address);
                    // A light entry has no total, and is below the minimum.
                    let members =
                        if configured.is_some() { self.small_total(node, members) } else { members };
                    // What the configuration names, by a pattern too, is a list of its own.
                    if configured.is_none()
                        && !owner
                        && let Some(list) = self.list_behind(node, members, input, &is_configured)
                        && !patterns.iter().any(|pattern| pattern.matches(address.as_bytes()))
                    {
                        names.push((list, address.to_owned()));
                        continue;
                    }
                    if configured.is_none() && (members < self.min_members || owner) {
                        continue;
                    }
                    if let Some(count) = by_file.get_mut(file) {
                        *count += 1;
                    }
                    let origin = format!("{}:{}", source.name, content.line(at));
                    List {
                        address: address.to_owned(),
                        names: Vec::new(),
                        members,
                        class: configured.and_then(|configured| configured.class.clone()),
                        origin: configured.map_or_else(
                            || origin.clone(),
                            |configured| format!("{}, members from {origin}", configured.origin),
                        ),
                        contains: Vec::new(),
                        pattern: false,
                    }
                }
            };
            found.push((components.of(node), list));
            if found.len() + names.len() > MAX_LISTS {
                return Err(TooTangled::Lists);
            }
        }
        found.sort_unstable_by(|(_, left), (_, right)| left.address.cmp(&right.address));
        give_names(&mut found, names);
        contain(&mut found, components.count(), closures)?;
        let patterns = input.configured.iter().filter(|configured| configured.list.pattern);
        let lists = found.into_iter().map(|(_, list)| list);
        Ok(Resolved { lists: lists.chain(patterns.map(|pattern| pattern.list.clone())).collect(), by_file })
    }

    /// The members of an entry, light or not.
    fn small_total(&self, node: u32, total: u64) -> u64 {
        self.light(node).map_or(total, |mut mailboxes| {
            mailboxes.sort_unstable();
            mailboxes.dedup();
            mailboxes.len() as u64
        })
    }
}

/// As a number of a node or entry: a source has at most two million entries and includes.
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Fills in which of the lists, given with their components, are nested in which.
fn contain(lists: &mut [(u32, List)], components: usize, closures: &Closures) -> Result<(), TooTangled> {
    let mut by_component = lists.iter().enumerate().map(|(at, (part, _))| (*part, at)).collect::<Vec<_>>();
    by_component.sort_unstable();
    let mut starts = vec![0; components + 1];
    for (part, _) in &by_component {
        if let Some(count) = starts.get_mut(*part as usize + 1) {
            *count += 1;
        }
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let within = |part: u32| {
        let bound = |part: usize| starts.get(part).copied().unwrap_or_default();
        let lists = by_component.get(bound(part as usize)..bound(part as usize + 1)).unwrap_or_default();
        lists.iter().map(|(_, at)| *at)
    };
    let mut pairs = 0_usize;
    for (at, (part, list)) in lists.iter_mut().enumerate() {
        for other in closures.of(*part).iter().copied().chain([*part]).flat_map(within) {
            if other != at {
                list.contains.push(ListId::at(other));
                pairs += 1;
                if pairs > graph::MAX_PAIRS {
                    return Err(TooTangled::Nesting);
                }
            }
        }
        list.contains.sort_unstable();
        list.contains.shrink_to_fit();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
