//! The directory as it lives: sources read, watched, and brought together in snapshots.
//!
//! # What is believed
//!
//! A file is read again when its modification time, size or inode is another. What cannot be read or parsed,
//! or is beyond a limit, changes nothing: its last good content stays, and the source says so
//! ([`SourceStatus::stale`]), since when and why. The same if a source has lost more than the configured share
//! of its members. Such a loss is never accepted by the passing of time, only by the operator's word:
//! [`Directory::reload`], or a new start.
//!
//! An include that breaks keeps the last good content of that include; the rest of its source goes on. An
//! include that is new and cannot be read keeps the whole source as it was, until the file is there or the
//! operator reloads; then, and at the start, it counts as empty and the status says so.

use std::path::Path;
use std::sync::Arc;

use super::content::{Content, Format, hash};
use super::resolve::{Configured, File, Input, Resolved, TooTangled, resolve};
use super::settings::{ConfiguredList, DirectorySettings};
use super::snapshot::{List, Lists, Snapshot, SourceStatus};
use super::source::{Source, Trust};
use crate::mail::address::{AddressBuf, AddressRules};
use crate::time::Timestamp;

/// Patterns are compared one after the other with every recipient that is no list.
const MAX_PATTERNS: usize = 1_000;

/// All sources of lists and their last good content. Its methods read files, and block while they do.
#[derive(Debug)]
pub struct Directory {
    settings: DirectorySettings,
    /// As configured, without the domain aliases of the sources.
    rules: AddressRules,
    /// With them.
    effective: Arc<AddressRules>,
    configured: Vec<Configured>,
    configuration: SourceStatus,
    sources: Vec<Source>,
    /// Why the sources as they are now could not be resolved, and since when.
    tangled: Option<(TooTangled, Timestamp)>,
    by_source: Vec<u64>,
    snapshot: Arc<Snapshot>,
}

/// What a look at the sources brought.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Nothing.
    Unchanged,
    /// The same lists, with the same ids; news of the sources.
    Status(Arc<Snapshot>),
    /// Other lists, or other rules for addresses. Ids may have changed.
    Changed(Arc<Snapshot>),
}

impl Directory {
    /// Reads all sources for the first time. One that cannot be read has no lists; its status says why. The
    /// filter works without: it must not stand still for want of a file.
    pub fn load(settings: DirectorySettings, rules: AddressRules, now: Timestamp) -> Self {
        let mut directory = Self {
            settings: DirectorySettings::default(),
            effective: Arc::new(rules.clone()),
            rules: rules.clone(),
            configured: Vec::new(),
            configuration: SourceStatus::default(),
            sources: Vec::new(),
            tangled: None,
            by_source: Vec::new(),
            snapshot: Arc::new(Snapshot::empty()),
        };
        directory.reload(settings, rules, now);
        directory
    }

    /// Takes other settings, or the same by the operator's word: what has shrunk is believed, and includes that
    /// are missing count as empty. A source that cannot be read at all keeps its last good content.
    pub fn reload(&mut self, settings: DirectorySettings, rules: AddressRules, now: Timestamp) -> Outcome {
        let mut old = std::mem::take(&mut self.sources);
        let aliases = settings.aliases.iter().map(|path| (Format::Aliases, path));
        let virtuals = settings.virtuals.iter().map(|path| (Format::Virtual, path));
        for (format, path) in aliases.chain(virtuals) {
            if self.sources.iter().any(|source| source.is(format, path)) {
                continue;
            }
            let known = old.iter().position(|source| source.is(format, path));
            let source = known.map(|at| old.swap_remove(at));
            self.sources.push(source.unwrap_or_else(|| Source::new(format, path.clone())));
        }
        self.settings = settings;
        self.rules = rules;
        self.merge_rules();
        for source in &mut self.sources {
            source.read(&self.effective, Trust::Operator, now);
        }
        self.settle_rules(Trust::Operator, now);
        self.configure(now);
        self.resolve(now)
    }

    /// Looks at every file, reads those that have changed, and makes a new snapshot if need be. Costs a stat(2)
    /// a file when nothing has.
    pub fn refresh(&mut self, now: Timestamp) -> Outcome {
        let trust = Trust::Shrink(self.settings.shrink_limit_per_mille);
        let mut changed = false;
        for source in &mut self.sources {
            if source.may_have_changed() {
                changed |= source.read(&self.effective, trust, now);
            }
        }
        if changed {
            if self.settle_rules(trust, now) {
                self.configure(self.configuration.read_at);
            }
            return self.resolve(now);
        }
        let statuses = self.statuses();
        if statuses == self.snapshot.sources() {
            return Outcome::Unchanged;
        }
        self.snapshot = Arc::new(self.snapshot.with_sources(statuses));
        Outcome::Status(self.snapshot.clone())
    }

    /// The lists as they are known now.
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Domain aliases in the sources say what addresses mean, in all of them: if there are others than at the
    /// last reading, everything is read again, once. Returns whether there are.
    fn settle_rules(&mut self, trust: Trust, now: Timestamp) -> bool {
        let changed = self.merge_rules();
        if changed {
            for source in &mut self.sources {
                source.read(&self.effective, trust, now);
            }
        }
        changed
    }

    /// Adds what the sources say about domains to the configured rules. Returns whether that has changed.
    fn merge_rules(&mut self) -> bool {
        let mut rules = self.rules.clone();
        for (old, new) in self.sources.iter().flat_map(Source::domain_aliases) {
            rules.domain_aliases.entry(old.clone()).or_insert_with(|| new.clone());
        }
        let changed = rules != *self.effective;
        if changed {
            self.effective = Arc::new(rules);
        }
        changed
    }

    /// Brings the lists of the configuration into canonical form.
    fn configure(&mut self, now: Timestamp) {
        let mut status =
            SourceStatus { name: "configuration".to_owned(), read_at: now, ..SourceStatus::default() };
        self.configured.clear();
        let mut patterns = 0_usize;
        let mut keys = std::collections::HashSet::new();
        for list in &self.settings.lists {
            let ConfiguredList { address, members, class, origin } = list;
            let mut warn = |problem: &str| {
                if status.warnings.len() < 50 {
                    status.warnings.push(format!("{origin}: {address}: {problem}"));
                }
            };
            let pattern = address.contains('*');
            patterns += usize::from(pattern);
            if patterns > MAX_PATTERNS && pattern {
                warn("more than 1,000 patterns; this one is ignored");
                continue;
            }
            let canonical = if pattern {
                canonical_pattern(&self.effective, address)
            } else {
                canonical(&self.effective, address)
            };
            let Some(address) = canonical else {
                warn("not an address; it is ignored");
                continue;
            };
            let key = hash(address.as_bytes());
            if !keys.insert(key) {
                warn("named before; the first one counts");
                continue;
            }
            status.lists += 1;
            status.members = status.members.saturating_add(*members);
            self.configured.push(Configured {
                key,
                list: List {
                    address,
                    names: Vec::new(),
                    members: *members,
                    class: class.clone(),
                    origin: origin.clone(),
                    contains: Vec::new(),
                    pattern,
                },
            });
        }
        self.configuration = status;
    }

    /// Makes a snapshot of what all sources say now.
    fn resolve(&mut self, now: Timestamp) -> Outcome {
        let first = self.tangled.is_none() && self.snapshot.sources().is_empty();
        let resolved = match self.work_out(&self.sources) {
            Ok(resolved) => {
                self.tangled = None;
                resolved
            }
            Err(why) => {
                let since = self.tangled.map_or(now, |(_, since)| since);
                self.tangled = Some((why, since));
                // At the start there is nothing better than the lists of the configuration.
                match self.work_out(&[]) {
                    Ok(resolved) if first => resolved,
                    _ => {
                        self.snapshot = Arc::new(self.snapshot.with_sources(self.statuses()));
                        return Outcome::Status(self.snapshot.clone());
                    }
                }
            }
        };
        self.by_source = resolved.by_file;
        let same = self.snapshot.lists() == resolved.lists && *self.snapshot.rules() == self.effective;
        if same {
            let statuses = self.statuses();
            self.snapshot = Arc::new(self.snapshot.with_sources(statuses));
            return Outcome::Status(self.snapshot.clone());
        }
        let lists = Arc::new(Lists::new(resolved.lists));
        self.snapshot = Arc::new(Snapshot::new(lists, self.effective.clone(), self.statuses()));
        Outcome::Changed(self.snapshot.clone())
    }

    /// The lists that `sources` and the configuration make together; `by_file` goes by the order of `sources`.
    fn work_out(&self, sources: &[Source]) -> Result<Resolved, TooTangled> {
        let mut rooms: Vec<Vec<(&Path, &Content)>> = vec![Vec::new(); sources.len()];
        let read = sources.iter().zip(&mut rooms).map(|(source, room)| source.file(room)).collect::<Vec<_>>();
        let files = read.iter().copied().flatten().collect::<Vec<File<'_>>>();
        let input =
            Input { configured: &self.configured, files: &files, min_members: self.settings.min_members };
        let mut resolved = resolve(&input)?;
        // Sources that were never read have no file.
        let mut counts = std::mem::take(&mut resolved.by_file).into_iter();
        resolved.by_file =
            read.iter().map(|file| file.and_then(|_| counts.next()).unwrap_or_default()).collect();
        Ok(resolved)
    }

    fn statuses(&self) -> Vec<SourceStatus> {
        let counts = self.by_source.iter().copied().chain(std::iter::repeat(0));
        let files = self.sources.iter().zip(counts).map(|(source, lists)| {
            let mut status = source.status(lists);
            if let (Some((why, since)), None) = (&self.tangled, &status.stale) {
                status.stale = Some(why.to_string());
                status.stale_since = Some(*since);
            }
            status
        });
        std::iter::once(self.configuration.clone()).chain(files).collect()
    }
}

fn canonical(rules: &AddressRules, address: &str) -> Option<String> {
    let mut buf = AddressBuf::new();
    let address = rules.canonical(address.as_bytes(), &mut buf)?;
    String::from_utf8(address.full().to_vec()).ok()
}

/// A pattern in lower case, its domain mapped if no star is in it; without a domain it is one of local parts at
/// `myorigin`, unless it ends in a star.
fn canonical_pattern(rules: &AddressRules, pattern: &str) -> Option<String> {
    let pattern = pattern.trim().to_lowercase();
    if pattern.len() > crate::mail::address::MAX_ADDRESS {
        return None;
    }
    let (local, domain) = match pattern.rsplit_once('@') {
        Some((_, "")) => return None,
        Some((local, domain)) if !domain.contains('*') => (local, format!("x@{domain}")),
        None if !pattern.ends_with('*') => (pattern.as_str(), "x".to_owned()),
        _ => return Some(pattern),
    };
    let mut buf = AddressBuf::new();
    let at = rules.canonical(domain.as_bytes(), &mut buf)?;
    let domain = std::str::from_utf8(at.domain()).ok()?;
    Some(if domain.is_empty() { local.to_owned() } else { format!("{local}@{domain}") })
}

#[cfg(test)]
mod tests;
