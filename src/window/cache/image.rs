//! The entries of a cache as data, to be kept and put back.

use std::sync::PoisonError;
use std::time::Duration;

use super::Cache;
use crate::time::Timestamp;

impl<V: Copy> Cache<V> {
    /// Shows every entry younger than `max_age`: key, time and value. Takes one lock after the other, and holds
    /// none while it calls.
    pub fn each(&self, now: Timestamp, max_age: Duration, mut show: impl FnMut(u64, Timestamp, V)) {
        let mut entries = Vec::new();
        for shard in &self.shards {
            entries.clear();
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = shard.iter().flatten().flatten().filter(|item| item.is_fresh(now, max_age));
            entries.extend(fresh.map(|item| (item.key, item.at, item.value)));
            drop(shard);
            for (key, at, value) in entries.drain(..) {
                show(key, at, value);
            }
        }
    }

    /// Keeps a value of some time ago, unless there is a newer one.
    pub fn put_back(&self, key: u64, value: V, at: Timestamp) {
        let newer = {
            let (mut shard, set) = self.lock(key);
            let items = shard.get_mut(set).map(|set| set.iter().flatten());
            items.is_some_and(|mut items| items.any(|item| item.key == key && item.at > at))
        };
        if !newer {
            self.put(key, value, at);
        }
    }
}
