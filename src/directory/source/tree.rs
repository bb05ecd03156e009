//! One source: a file with everything it includes, its last good content, and what has become of it since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::content::{Allowance, Content, Format, MAX_INCLUDES};
use super::super::resolve::File;
use super::super::snapshot::SourceStatus;
use super::file::{self, Reading, Seen, Stamp, Unusable};
use crate::mail::address::AddressRules;
use crate::time::Timestamp;

/// Includes within includes. Postfix gives up at 100.
const MAX_DEPTH: u32 = 1_000;

/// Warnings shown of one source.
const MAX_WARNINGS: usize = 50;

/// How far a new reading is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The operator asked for it: however small it has become.
    Operator,
    /// Not if it has lost more than this share of its members, in per mille.
    Shrink(u32),
}

/// A source and the state it is in.
#[derive(Debug)]
pub struct Source {
    format: Format,
    path: PathBuf,
    name: String,
    good: Option<Good>,
    /// How every file looked at the last attempt. While they look the same, another would end the same.
    tried: BTreeMap<PathBuf, Seen>,
    /// ... unless something was in the middle of changing, or may be readable without looking different.
    uncertain: bool,
    /// Why `good` is not what the files say, and since when.
    stale: Option<(String, Timestamp)>,
}

/// The content in use.
#[derive(Clone, Debug)]
pub struct Good {
    top: Kept,
    included: BTreeMap<PathBuf, Kept>,
    /// Includes that could not be read when the list that names them was first seen: they count as empty.
    missing: BTreeMap<PathBuf, String>,
    read_at: Timestamp,
}

/// One file as it was read.
#[derive(Clone, Debug)]
struct Kept {
    stamp: Stamp,
    settled: bool,
    content: Arc<Content>,
    /// Those it was read with: with others its hashes mean something else.
    rules: Arc<AddressRules>,
}

impl Good {
    fn members(&self) -> u64 {
        self.contents().map(|content| content.members() as u64).sum()
    }

    fn contents(&self) -> impl Iterator<Item = &Content> {
        [&self.top].into_iter().chain(self.included.values()).map(|kept| &*kept.content)
    }

    fn says_the_same(&self, other: &Self) -> bool {
        self.included.len() == other.included.len()
            && self.top.content == other.top.content
            && self.included.iter().zip(&other.included).all(|((path, kept), (other_path, other))| {
                path == other_path && kept.content == other.content
            })
    }
}

/// One attempt to read everything anew.
struct Attempt<'a> {
    rules: &'a Arc<AddressRules>,
    now: Timestamp,
    allowance: Allowance,
    tried: BTreeMap<PathBuf, Seen>,
    uncertain: bool,
}

impl Source {
    /// A source that has not been read.
    pub fn new(format: Format, path: PathBuf) -> Self {
        let kind = if format == Format::Virtual { "virtual" } else { "aliases" };
        let name = format!("{kind} {}", path.display());
        Self { format, path, name, good: None, tried: BTreeMap::new(), uncertain: true, stale: None }
    }

    /// Whether this is the source of that file.
    pub fn is(&self, format: Format, path: &Path) -> bool {
        self.format == format && self.path == path
    }

    /// Whether its files may say something else than at the last attempt.
    pub fn may_have_changed(&self) -> bool {
        self.uncertain || self.tried.iter().any(|(path, seen)| file::look(path) != *seen)
    }

    /// Reads what has changed; all of it if `rules` are not those of the last time. Returns whether the content in
    /// use is another.
    pub fn read(&mut self, rules: &Arc<AddressRules>, trust: Trust, now: Timestamp) -> bool {
        let mut attempt =
            Attempt { rules, now, allowance: Allowance::SOURCE, tried: BTreeMap::new(), uncertain: false };
        let result = attempt.source(self.format, &self.path, self.good.as_ref(), trust);
        self.tried = attempt.tried;
        self.uncertain = attempt.uncertain;
        let (changed, trouble) = match result {
            Ok((good, trouble)) => {
                let changed = self.good.as_ref().is_none_or(|old| !old.says_the_same(&good));
                self.good = Some(good);
                (changed, trouble)
            }
            Err(trouble) => (false, Some(trouble)),
        };
        self.stale = trouble.map(|why| {
            let since = self.stale.take().map_or(now, |(_, since)| since);
            (why, since)
        });
        changed
    }

    /// The content in use, for resolving. `included` is room for what it includes.
    pub fn file<'a>(&'a self, included: &'a mut Vec<(&'a Path, &'a Content)>) -> Option<File<'a>> {
        let good = self.good.as_ref()?;
        included.extend(good.included.iter().map(|(path, kept)| (path.as_path(), &*kept.content)));
        Some(File { format: self.format, name: &self.name, content: &good.top.content, included })
    }

    /// Domain aliases it tells of.
    pub fn domain_aliases(&self) -> &[(String, String)] {
        self.good.as_ref().map_or(&[], |good| good.top.content.domain_aliases())
    }

    /// How it is doing, `lists` of the snapshot being its own.
    pub fn status(&self, lists: u64) -> SourceStatus {
        SourceStatus {
            name: self.name.clone(),
            lists,
            members: self.good.as_ref().map_or(0, Good::members),
            read_at: self.good.as_ref().map_or(Timestamp::default(), |good| good.read_at),
            stale: self.stale.as_ref().map(|(why, _)| why.clone()),
            stale_since: self.stale.as_ref().map(|(_, since)| *since),
            warnings: self.warnings(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let Some(good) = &self.good else { return Vec::new() };
        let files = [(&self.path, &good.top)].into_iter().chain(&good.included);
        let mut warnings = good.missing.values().take(MAX_WARNINGS).cloned().collect::<Vec<_>>();
        let mut more = (good.missing.len() - warnings.len()) as u64;
        for (path, kept) in files {
            let (complaints, not_kept) = kept.content.complaints();
            more = more.saturating_add(not_kept);
            for (line, complaint) in complaints {
                if warnings.len() < MAX_WARNINGS {
                    warnings.push(format!("{}:{line}: {complaint}", path.display()));
                } else {
                    more = more.saturating_add(1);
                }
            }
        }
        if more > 0 {
            warnings.truncate(MAX_WARNINGS - 1);
            warnings.push(format!("and {more} or more of the kind"));
        }
        warnings
    }
}

impl Attempt<'_> {
    /// A whole source: its new content, and what is wrong with it if it can be used all the same.
    fn source(
        &mut self,
        format: Format,
        path: &Path,
        good: Option<&Good>,
        trust: Trust,
    ) -> Result<(Good, Option<String>), String> {
        let top = self.file(path, format, good.map(|good| &good.top));
        let top = top.map_err(|why| format!("{} {why}", path.display()))?;
        let mut trouble = top.trouble.map(|why| format!("{} {why}", path.display()));
        let mut new =
            Good { top: top.kept, included: BTreeMap::new(), missing: BTreeMap::new(), read_at: self.now };
        let mut waiting = Vec::new();
        wait_for(&mut waiting, path, &new.top.content, 1)?;
        while let Some((path, from, depth)) = waiting.pop() {
            if new.included.contains_key(&path) || new.missing.contains_key(&path) {
                continue;
            }
            if depth > MAX_DEPTH {
                return Err(format!(
                    "{from}: includes are nested more than {MAX_DEPTH} deep; Postfix stops at 100"
                ));
            }
            if new.included.len() + new.missing.len() >= MAX_INCLUDES {
                return Err(too_many(&from));
            }
            let old = good.and_then(|good| good.included.get(&path));
            match self.file(&path, Format::Include, old) {
                Ok(outcome) => {
                    wait_for(&mut waiting, &path, &outcome.kept.content, depth + 1)?;
                    if let Some(why) = outcome.trouble {
                        trouble.get_or_insert(format!("{from}: {} {why}", path.display()));
                    }
                    new.included.insert(path, outcome.kept);
                }
                Err(why) => {
                    let why = format!("{from}: {} {why}", path.display());
                    // A list that was whole until now keeps all of its source as it was.
                    let known = good.is_none_or(|good| good.missing.contains_key(&path));
                    if !known && trust != Trust::Operator {
                        return Err(why);
                    }
                    trouble.get_or_insert_with(|| why.clone());
                    new.missing.insert(path, why);
                }
            }
        }
        if let (Some(good), Trust::Shrink(limit)) = (good, trust) {
            let (before, after) = (good.members(), new.members());
            let lost = before.saturating_sub(after);
            if u128::from(lost) * 1000 > u128::from(before) * u128::from(limit) {
                return Err(format!(
                    "{} has gone from {before} members to {after}, which is not believed; reload becalm if it is right",
                    path.display()
                ));
            }
        }
        if let (Some(good), Some(_)) = (good, &trouble) {
            // Part of it is as old as that.
            new.read_at = good.read_at;
        }
        Ok((new, trouble))
    }

    /// One file: as it was kept if it has not changed, or if it cannot be had now.
    fn file(&mut self, path: &Path, format: Format, old: Option<&Kept>) -> Result<Outcome, Unusable> {
        let seen = file::look(path);
        self.tried.insert(path.to_owned(), seen);
        if let Some(old) = old
            && Arc::ptr_eq(&old.rules, self.rules)
            && old.settled
            && seen == Seen::Something(old.stamp)
        {
            self.spend(&old.content);
            return Ok(Outcome { kept: old.clone(), trouble: None });
        }
        let trouble = match file::read(path, format, self.rules, self.allowance, self.now) {
            Ok(Reading { content, stamp, whole, settled }) => {
                self.tried.insert(path.to_owned(), Seen::Something(stamp));
                self.uncertain |= !whole || !settled;
                if whole || old.is_none() {
                    self.spend(&content);
                    let trouble = (!whole).then(|| CHANGING.to_owned());
                    let kept = Kept {
                        stamp,
                        settled: settled && whole,
                        content: Arc::new(content),
                        rules: self.rules.clone(),
                    };
                    return Ok(Outcome { kept, trouble });
                }
                CHANGING.to_owned()
            }
            Err(why) => {
                self.uncertain |= why.may_pass() && matches!(seen, Seen::Something(_));
                // The file at the top decides for itself; a list whose include is broken keeps what it had.
                match old {
                    Some(_) if format == Format::Include => why.to_string(),
                    _ => return Err(why),
                }
            }
        };
        old.map_or(Err(Unusable::NotAFile), |old| {
            self.spend(&old.content);
            Ok(Outcome { kept: old.clone(), trouble: Some(trouble) })
        })
    }

    fn spend(&mut self, content: &Content) {
        let spent = content.spent();
        self.allowance.entries = self.allowance.entries.saturating_sub(spent.entries);
        self.allowance.values = self.allowance.values.saturating_sub(spent.values);
    }
}

const CHANGING: &str = "was being written to while it was read; it is read again at the next refresh";

/// A file that can be used, and what is wrong with it.
struct Outcome {
    kept: Kept,
    trouble: Option<String>,
}

/// A file to read: its path, the file and line that include it, and how deep.
type Waiting = (PathBuf, String, u32);

/// Puts the includes of a file on the list of what to read.
fn wait_for(waiting: &mut Vec<Waiting>, path: &Path, content: &Content, depth: u32) -> Result<(), String> {
    let path = path.display();
    for (at, include) in content.all_includes().enumerate() {
        let from = format!("{path}:{}", content.line_of_include(at));
        // Many files may name the same ones; as many again are put up with.
        if waiting.len() > 2 * MAX_INCLUDES {
            return Err(too_many(&from));
        }
        waiting.push((include.to_owned(), from, depth));
    }
    Ok(())
}

fn too_many(from: &str) -> String {
    format!("{from}: more than {MAX_INCLUDES} files are included; merge some of them")
}
