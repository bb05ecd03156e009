//! The entries of a cache as data, to be kept and put back.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Cache, Set, is_fresh, own};
use crate::time::Timestamp;

impl<V: Copy + Default> Cache<V> {
    /// Shows every entry younger than `max_age`: key, time and value. Takes one lock after the other, and holds
    /// none while it calls.
    pub fn each(&self, now: Timestamp, max_age: Duration, mut show: impl FnMut(u64, Timestamp, V)) {
        let mut entries = Vec::new();
        for shard in &self.shards {
            entries.clear();
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let all = shard.iter().flat_map(Set::entries);
            entries.extend(all.filter(|(_, at, _)| is_fresh(*at, now, max_age)));
            drop(shard);
            for (key, at, value) in entries.drain(..) {
                show(key, at, value);
            }
        }
    }

    /// Keeps a value of some time ago, unless there is a newer one.
    pub fn put_back(&self, key: u64, value: V, at: Timestamp) {
        let newer = {
            let key = own(key);
            let (shard, set) = self.lock(key);
            let there = shard.get(set).and_then(|set| set.get(set.find(key)?));
            there.is_some_and(|(_, since)| since > at)
        };
        if !newer {
            self.put(key, value, at);
        }
    }
}
