//! What the engine knows of the site at one moment: the directory, each list's policy and state, who is
//! exempt. A reload or a change of a source makes a new world; the states of the lists live on.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;

use super::keys::{KeyHasher, Keys, Role};
use super::spellings::Spellings;
use crate::directory::snapshot::{List, ListId, Snapshot};
use crate::mail::{AddressBuf, AddressRules};
use crate::storm::limits::{LimitSettings, Limits, RateError};
use crate::storm::policy::{Mode, Policy};
use crate::storm::state::{ListState, Phase};
use crate::time::Timestamp;

/// Addresses that match a pattern become lists of their own, up to this many (about 1 KB each); beyond it
/// they share the pattern's state, which errs on the side of caution.
const MAX_PATTERN_LISTS: usize = 10_000;

/// Lists that no world names and that are remembered all the same; about 1 KB each.
const MAX_ABSENT_LISTS: usize = 10_000;

/// Authors whose rate is kept at a time; 32 bytes each, taken only if authors are limited.
const LIMITED_AUTHORS: usize = 65_536;

/// Turned round in the hash of a spelling that names a list: it is in the same set, and nobody takes it for a mailbox.
const OF_LIST: u64 = 1 << 63;

/// Everything about the site that can change at a reload.
pub struct World {
    /// Lists and their members.
    pub snapshot: Arc<Snapshot>,
    /// For messages to many recipients and no list.
    pub default_policy: Policy,
    /// Who and what is never judged.
    pub exempt: Exempt,
    /// What is watched.
    pub watch: Watch,
    /// Rates in copies.
    pub limits: Limits,
    /// What happens above a rate.
    pub limit_mode: Mode,
    lists: Vec<Arc<WatchedList>>,
    by_key: HashMap<u64, ListId, BuildHasherDefault<KeyHasher>>,
    pattern_lists: DashMap<u64, Arc<WatchedList>>,
    /// Recipients that are no lists; and, apart from them by [`OF_LIST`], lists.
    pub(super) spellings: Spellings,
    /// Who writes, by envelope sender and authenticated user.
    pub(super) authors: Spellings,
    states: Arc<StateRegistry>,
}

/// A list with everything that decides about its mail.
pub struct WatchedList {
    /// Its entry in the directory.
    pub id: ListId,
    /// Its address: for a pattern, the address that matched.
    pub address: String,
    /// Keyed hash of its address.
    pub key: u64,
    /// Mailboxes it reaches.
    pub members: u64,
    /// What the operator set for it.
    pub policy: Policy,
    /// What is remembered of it.
    pub state: Arc<ListState>,
    /// Did its address match a pattern?
    pub by_pattern: bool,
    /// Of the last storm that was named: since when, and its name.
    pub(super) named: ArcSwapOption<(Timestamp, String)>,
}

/// Authors and networks that are never judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    /// Canonical addresses; only an authenticated user counts as one of them, since a sender can be forged.
    pub authors: HashSet<Vec<u8>>,
    /// Client networks.
    pub networks: Vec<ipnet::IpNet>,
}

impl Exempt {
    /// Is this client, or this authenticated user, exempt?
    pub fn covers(&self, client: Option<IpAddr>, authenticated: Option<&[u8]>) -> bool {
        client.is_some_and(|ip| self.networks.iter().any(|network| network.contains(&ip.to_canonical())))
            || authenticated.is_some_and(|user| self.authors.contains(user))
    }
}

/// What makes a message worth reading; the default is that of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Recipients in one transaction that make a message watched though no list is named.
    pub many_recipients: u32,
    /// For how long the same client and sender may bring further parts of a watched message.
    pub parts_within: Duration,
    /// Distinct authors to an unknown address that make it a possible list.
    pub unknown_list_authors: u32,
    /// The window in which they are counted.
    pub unknown_list_window: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            many_recipients: 50,
            parts_within: Duration::from_secs(120),
            unknown_list_authors: 20,
            unknown_list_window: Duration::from_secs(3600),
        }
    }
}

/// The states of all lists, by the keys of their addresses, across worlds.
#[derive(Default)]
pub struct StateRegistry(Mutex<HashMap<u64, Arc<ListState>, BuildHasherDefault<KeyHasher>>>);

impl StateRegistry {
    /// The state of a list; a new one, seen first at `now`, if nothing is known of it.
    pub(super) fn state(&self, key: u64, now: Timestamp) -> Arc<ListState> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(states.entry(key).or_insert_with(|| Arc::new(ListState::new(now))))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(u64, Arc<ListState>)> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.iter().map(|(key, state)| (*key, Arc::clone(state))).collect()
    }

    /// Forgets lists that no world names, once they are calm; not before there are many of them, since a source
    /// that cannot be read for a while must not cost its lists their history.
    fn prune(&self, now: Timestamp) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let absent = states.values().filter(|state| Arc::strong_count(state) == 1).count();
        if absent <= MAX_ABSENT_LISTS {
            return;
        }
        states.retain(|_, state| Arc::strong_count(state) > 1 || state.phase(now) != Phase::Calm);
    }
}

/// What a new world is made of.
pub struct Parts {
    /// Lists and their members.
    pub snapshot: Arc<Snapshot>,
    /// For messages to many recipients and no list.
    pub default_policy: Policy,
    /// Who and what is never judged.
    pub exempt: Exempt,
    /// What is watched.
    pub watch: Watch,
    /// Rates in copies.
    pub limits: LimitSettings,
}

impl World {
    /// Joins a directory with the policies and with what the earlier world left: the states of lists, and what
    /// is used up of the rates.
    ///
    /// # Errors
    /// A rate that cannot be kept.
    pub fn new(
        parts: Parts,
        policy: impl Fn(&List) -> Policy,
        keys: &Keys,
        states: &Arc<StateRegistry>,
        earlier: Option<&World>,
        now: Timestamp,
    ) -> Result<Self, RateError> {
        let Parts { snapshot, default_policy, exempt, watch, limits: limit_settings } = parts;
        let limits = match earlier {
            Some(earlier) => earlier.limits.with_settings(&limit_settings)?,
            None => Limits::new(&limit_settings, LIMITED_AUTHORS)?,
        };
        let mut lists = Vec::with_capacity(snapshot.lists().len());
        let mut by_key = HashMap::with_capacity_and_hasher(snapshot.lists().len(), Default::default());
        for (id, list) in snapshot.iter() {
            let key = keys.bytes(Role::Recipient, list.address.as_bytes());
            by_key.insert(key, id);
            by_key.extend(list.names.iter().map(|name| (keys.bytes(Role::Recipient, name.as_bytes()), id)));
            lists.push(Arc::new(WatchedList {
                id,
                address: list.address.clone(),
                key,
                members: list.members,
                policy: policy(list),
                state: states.state(key, now),
                by_pattern: false,
                named: ArcSwapOption::empty(),
            }));
        }
        states.prune(now);
        let pattern_lists = earlier.map(|earlier| earlier.pattern_lists_in(&snapshot, &lists));
        Ok(Self {
            snapshot,
            default_policy,
            exempt,
            watch,
            limits,
            limit_mode: limit_settings.mode,
            lists,
            by_key,
            pattern_lists: pattern_lists.unwrap_or_default(),
            spellings: Spellings::new(),
            authors: Spellings::new(),
            states: Arc::clone(states),
        })
    }

    /// How addresses are read.
    pub fn rules(&self) -> &AddressRules {
        self.snapshot.rules()
    }

    /// The key of a recipient's address without its extension, and the list that it names, if it names one.
    /// `None`: it is no address. `spelling`: [`Keys::spelling`] of `raw`.
    #[inline]
    pub fn recipient(
        &self,
        raw: &[u8],
        spelling: u64,
        buf: &mut AddressBuf,
        keys: &Keys,
        now: Timestamp,
    ) -> Option<(u64, Option<Arc<WatchedList>>)> {
        match self.spellings.key(spelling) {
            Some(key) => Some((key, None)),
            None => self.make_out(raw, spelling, buf, keys, now),
        }
    }

    /// The same for a spelling that is not remembered as a mailbox's.
    pub(super) fn make_out(
        &self,
        raw: &[u8],
        spelling: u64,
        buf: &mut AddressBuf,
        keys: &Keys,
        now: Timestamp,
    ) -> Option<(u64, Option<Arc<WatchedList>>)> {
        let named_before = self.spellings.key(spelling ^ OF_LIST).and_then(|key| self.by_key.get(&key));
        if let Some(list) = named_before.and_then(|id| self.lists.get(id.index())) {
            return Some((list.key, Some(Arc::clone(list))));
        }
        let address = self.rules().canonical(raw, buf)?;
        let full = keys.bytes(Role::Recipient, address.full());
        let base = address.base().map(|base| (keys.bytes(Role::Recipient, base), base));
        let (key, short) = base.unwrap_or((full, address.full()));
        let named = self
            .list_named(full, address.full())
            .or_else(|| base.and_then(|(key, base)| self.list_named(key, base)));
        let list = named.map(Arc::clone).or_else(|| {
            let pattern = self.lists.get(self.snapshot.matching_pattern(&address)?.index())?;
            Some(self.pattern_list(pattern, key, short, now))
        });
        match &list {
            None => self.spellings.put(spelling, key),
            // Under any of its names it is one recipient.
            Some(list) if !list.by_pattern && self.by_key.get(&key) == Some(&list.id) => {
                self.spellings.put(spelling ^ OF_LIST, key);
                return Some((list.key, Some(Arc::clone(list))));
            }
            // Its extension is part of its name, or it matched a pattern.
            Some(_) => {}
        }
        Some((key, list))
    }

    /// The list of this very address, patterns left aside.
    fn list_named(&self, key: u64, address: &[u8]) -> Option<&Arc<WatchedList>> {
        let list = self.lists.get(self.by_key.get(&key)?.index())?;
        self.snapshot.get(list.id).is_some_and(|list| list.is_named(address)).then_some(list)
    }

    /// A list by the key of its address; other names of it are none.
    pub fn list_by_key(&self, key: u64) -> Option<Arc<WatchedList>> {
        self.list_by_name(key).filter(|list| list.key == key)
    }

    /// A list by the key of its address or of another name of it.
    pub(super) fn list_by_name(&self, key: u64) -> Option<Arc<WatchedList>> {
        match self.by_key.get(&key) {
            Some(id) => self.lists.get(id.index()).cloned(),
            None => self.pattern_lists.get(&key).map(|list| Arc::clone(&list)),
        }
    }

    /// All lists: those of the directory, then those that matched a pattern.
    pub fn lists(&self) -> Vec<Arc<WatchedList>> {
        let mut lists = self.lists.clone();
        lists.extend(self.pattern_lists.iter().map(|entry| Arc::clone(&entry)));
        lists
    }

    /// The addresses that matched a pattern and still do, under what is set for it now: their storms go on, and
    /// their history is not lost.
    fn pattern_lists_in(
        &self,
        snapshot: &Snapshot,
        lists: &[Arc<WatchedList>],
    ) -> DashMap<u64, Arc<WatchedList>> {
        let kept = self.pattern_lists.iter().filter_map(|old| {
            let id = snapshot.lookup_bytes(old.address.as_bytes())?;
            let pattern = lists.get(id.index()).filter(|_| snapshot.list(id).pattern)?;
            let (address, state) = (old.address.clone(), Arc::clone(&old.state));
            Some((old.key, Arc::new(matched(pattern, old.key, address, state))))
        });
        kept.collect()
    }

    fn pattern_list(
        &self,
        pattern: &Arc<WatchedList>,
        key: u64,
        address: &[u8],
        now: Timestamp,
    ) -> Arc<WatchedList> {
        if let Some(list) = self.pattern_lists.get(&key) {
            return Arc::clone(&list);
        }
        if self.pattern_lists.len() >= MAX_PATTERN_LISTS {
            return Arc::clone(pattern);
        }
        let address = String::from_utf8_lossy(address).into_owned();
        let state = self.states.state(key, now);
        let list = Arc::new(matched(pattern, key, address, state));
        Arc::clone(&self.pattern_lists.entry(key).or_insert(list))
    }
}

/// The list of an address that matched a pattern.
fn matched(pattern: &WatchedList, key: u64, address: String, state: Arc<ListState>) -> WatchedList {
    WatchedList {
        id: pattern.id,
        address,
        key,
        members: pattern.members,
        policy: pattern.policy.clone(),
        state,
        by_pattern: true,
        named: ArcSwapOption::empty(),
    }
}
