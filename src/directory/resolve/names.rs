//! Other names of lists: entries that lead to one list and nowhere else.

use std::collections::HashMap;

use super::super::content::{Format, hash};
use super::super::snapshot::List;
use super::{Entries, Entry, File, Input, MAX_CHASE, Target};

impl Entries<'_> {
    /// The key of the list that the entry of a node leads to, and nowhere else. None: it is one itself, or none at all.
    /// `members`: of either, as they are the same.
    pub(super) fn list_behind(
        &self,
        node: u32,
        members: u64,
        input: &Input<'_>,
        is_configured: &impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let own = self.entry(node)?.key;
        let mut at = node;
        for _ in 0..MAX_CHASE {
            let Some(entry) = self.entry(at) else {
                return self.configured.get(self.node(at)?.entry as usize).map(|configured| configured.key);
            };
            if entry.key != own && is_configured(entry.key) {
                return Some(entry.key);
            }
            let Some(value) = only_value(&entry) else {
                let owner = is_owner(input.files.get(entry.file)?, entry.content.name(entry.at));
                let is_list = members >= self.min_members && !owner;
                return Some(entry.key).filter(|key| is_list && *key != own);
            };
            match self.step(&entry, value) {
                Target::Mailbox(_) => return None,
                Target::Entry(next) => at = next,
            }
        }
        None
    }
}

fn only_value(entry: &Entry<'_>) -> Option<u64> {
    let [value, again @ ..] = entry.values() else { return None };
    let only = again.iter().all(|other| other == value) && entry.content.includes(entry.at).is_empty();
    only.then_some(*value)
}

/// Where a list's bounces go (aliases(5)), not a list.
pub(super) fn is_owner(source: &File<'_>, address: &str) -> bool {
    source.format == Format::Aliases && address.starts_with("owner-")
}

/// Gives the lists their other names, each with the key of its list.
pub(super) fn give_names(lists: &mut [(u32, List)], mut names: Vec<(u64, String)>) {
    names.sort_unstable();
    let mut by_key: HashMap<u64, &mut List> =
        lists.iter_mut().map(|(_, list)| (hash(list.address.as_bytes()), list)).collect();
    for (key, name) in names {
        if let Some(list) = by_key.get_mut(&key) {
            list.names.push(name);
        }
    }
}
