//! What a run has met: lists by number, and conversations told apart.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use super::NO_LIST;
use crate::engine::KeyHasher;
use crate::engine::WatchedList;
use crate::time::Timestamp;

/// Conversations of one generation that are told apart when they are counted: 8 bytes each, twice.
const MAX_CONVERSATIONS: usize = 131_072;

/// Spellings that are remembered: 8 bytes each.
const SPELLINGS: usize = 16_384;

/// The lists that had mail, by number.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) all: Vec<Known>,
    pub(super) by_key: HashMap<u64, usize, BuildHasherDefault<KeyHasher>>,
}

pub(super) struct Known {
    pub(super) address: String,
    pub(super) members: u64,
    pub(super) list: Option<Arc<WatchedList>>,
}

impl Lists {
    /// The number of a list, or of what has none.
    pub(super) fn number(&mut self, list: Option<&Arc<WatchedList>>, members: u64) -> usize {
        let key = list.map_or(0, |list| list.key);
        *self.by_key.entry(key).or_insert_with(|| {
            let address = list.map_or_else(|| NO_LIST.to_owned(), |list| list.address.clone());
            self.all.push(Known { address, members, list: list.cloned() });
            self.all.len() - 1
        })
    }

    pub(super) fn address(&self, number: usize) -> &str {
        self.all.get(number).map_or("", |list| &list.address)
    }

    /// When the storm of a list will have been quiet for long enough to end.
    pub(super) fn quiet(&self, number: usize) -> Option<Timestamp> {
        let list = self.all.get(number)?.list.as_ref()?;
        // Older than `quiet`, not just as old.
        Some(list.state.last_attempt().after(list.policy.thresholds.quiet).after(Duration::from_millis(1)))
    }
}

/// Counts different keys. Of very many, one that is seen again after very many others counts again.
#[derive(Default)]
pub(super) struct Distinct {
    present: HashSet<u64, BuildHasherDefault<KeyHasher>>,
    past: HashSet<u64, BuildHasherDefault<KeyHasher>>,
    pub(super) count: u64,
}

impl Distinct {
    pub(super) fn see(&mut self, key: u64) {
        if self.present.contains(&key) {
            return;
        }
        self.count += u64::from(!self.past.contains(&key));
        if self.present.len() >= MAX_CONVERSATIONS {
            self.past = std::mem::take(&mut self.present);
        }
        self.present.insert(key);
    }
}

/// Which spellings of addresses are lists: most are named again and again.
pub(super) struct Spellings(Vec<u64>);

impl Default for Spellings {
    fn default() -> Self {
        Self(vec![0; SPELLINGS])
    }
}

impl Spellings {
    /// What stands for this spelling if it is a list's: as remembered, or as `look_up` says.
    pub(super) fn list(&mut self, raw: &[u8], look_up: impl FnOnce(&[u8]) -> bool) -> Option<u64> {
        let spelling = fingerprint(raw) & !1;
        let place = &mut self.0[(spelling >> 1) as usize % SPELLINGS];
        // The lowest bit says what it is.
        if *place & !1 != spelling {
            *place = spelling | u64::from(look_up(raw));
        }
        (*place & 1 == 1).then_some(spelling)
    }
}

/// A quick hash: nobody gains by a collision in past mail, and by chance there is none. Its highest bit is set, as 0
/// stands for nothing.
fn fingerprint(text: &[u8]) -> u64 {
    // As irregular as any: of the golden ratio, and of the square root of 2.
    const SPREAD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909];
    let mix = |hash: u64, [a, b]: [u64; 2]| {
        let mixed = u128::from(hash ^ a ^ SPREAD[0]).wrapping_mul(u128::from(b ^ SPREAD[1]));
        (mixed as u64) ^ (mixed >> 64) as u64
    };
    let length = text.len() as u64;
    // The last words may begin in the ones before them: as well told apart, and sooner than byte by byte.
    let hash = match (text.last_chunk::<16>(), text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(last), ..) => {
            let words = text.as_chunks::<16>().0.iter().chain([last]);
            words.fold(length, |hash, word| mix(hash, halves(u128::from_le_bytes(*word))))
        }
        (None, Some(first), Some(last)) => mix(length, [first, last].map(|word| u64::from_le_bytes(*word))),
        _ => mix(length, [0, text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))]),
    };
    hash | 1 << 63
}

fn halves(word: u128) -> [u64; 2] {
    [word as u64, (word >> 64) as u64]
}
