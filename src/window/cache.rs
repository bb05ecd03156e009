//! A bounded map for the colder path.

mod image;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::mix;
use super::sets::WAYS;
use crate::time::Timestamp;

/// A map of fixed capacity behind a few dozen locks; the oldest entry of a set of eight makes room.
///
/// For list mail only: ordinary mail never comes here. A lock is held for a look at eight entries (and the
/// closure of [`Cache::update`], which must be short).
#[derive(Debug)]
pub struct Cache<V> {
    shards: Box<[Mutex<Shard<V>>]>,
    evictions: AtomicU64,
}

/// How full a cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Entries there is room for.
    pub capacity: usize,
    /// Entries there are, expired ones included.
    pub occupied: usize,
    /// Entries that gave way to another, expired ones included.
    pub evictions: u64,
    /// Memory of it all.
    pub bytes: usize,
}

type Shard<V> = Box<[Set<V>]>;

/// Eight entries. Their keys lie together: to see that one is not there takes a single cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Set<V> {
    /// 0: an empty place.
    keys: [u64; WAYS],
    /// When each was put.
    at: [Timestamp; WAYS],
    values: [V; WAYS],
}

impl<V: Copy + Default> Set<V> {
    fn new() -> Self {
        Self { keys: [0; WAYS], at: [Timestamp::default(); WAYS], values: [V::default(); WAYS] }
    }

    /// The place of a key.
    #[inline]
    fn find(&self, key: u64) -> Option<usize> {
        // All are looked at before anything is decided: nobody can guess in which place it stands.
        let own = self.keys.iter().enumerate().fold(0_u32, |own, (at, k)| own | u32::from(*k == key) << at);
        (own != 0).then(|| own.trailing_zeros() as usize)
    }

    /// What stands in a place, and since when.
    #[inline]
    fn get(&self, place: usize) -> Option<(V, Timestamp)> {
        Some((*self.values.get(place)?, *self.at.get(place)?))
    }

    /// Puts an entry into a place. True: another made room for it.
    #[inline]
    fn put(&mut self, place: usize, key: u64, value: V, at: Timestamp) -> bool {
        self.values[place] = value;
        self.at[place] = at;
        let before = std::mem::replace(&mut self.keys[place], key);
        before != 0 && before != key
    }

    /// The place for a new entry: an empty one, or that of the oldest.
    fn oldest(&self) -> usize {
        let places = self.keys.iter().zip(&self.at).enumerate();
        places.min_by_key(|(_, (key, at))| (**key != 0, **at)).map_or(0, |(place, _)| place)
    }

    /// All of them: key, time and value.
    fn entries(&self) -> impl Iterator<Item = (u64, Timestamp, V)> {
        let dated = self.keys.iter().zip(&self.at).zip(&self.values);
        dated.filter(|((key, _), _)| **key != 0).map(|((key, at), value)| (*key, *at, *value))
    }
}

/// Enough that two of some dozen connections seldom want the same one.
const MAX_SHARDS: usize = 64;

/// 2²² sets of eight: what an operator asks for beyond that is not meant (the same limit as the other tables').
const MAX_SETS: usize = 1 << 22;

impl<V: Copy + Default> Cache<V> {
    /// Room for `capacity` entries, rounded up to a power of two; 8 to 33 million.
    pub fn new(capacity: usize) -> Self {
        let sets = capacity.div_ceil(WAYS).clamp(1, MAX_SETS).next_power_of_two();
        let shards = sets.min(MAX_SHARDS);
        let shard = || (0..sets / shards).map(|_| Set::new()).collect();
        Self { shards: (0..shards).map(|_| Mutex::new(shard())).collect(), evictions: AtomicU64::new(0) }
    }

    /// The value put for `key` less than `max_age` before `now` (milliseconds).
    pub fn get(&self, key: u64, now: Timestamp, max_age: Duration) -> Option<V> {
        self.get_dated(key, now, max_age).map(|(value, _)| value)
    }

    /// The same, with the time when it was put.
    pub fn get_dated(&self, key: u64, now: Timestamp, max_age: Duration) -> Option<(V, Timestamp)> {
        let key = own(key);
        let (shard, set) = self.lock(key);
        let set = shard.get(set)?;
        set.get(set.find(key)?).filter(|(_, at)| is_fresh(*at, now, max_age))
    }

    /// Keeps `value` for `key`.
    pub fn put(&self, key: u64, value: V, now: Timestamp) {
        self.update(key, now, Duration::ZERO, |_| value);
    }

    /// Replaces the value, if there is one younger than `max_age`, by what `next` makes of it, and dates it
    /// `now`. Nobody else sees or changes this key meanwhile.
    pub fn update(
        &self,
        key: u64,
        now: Timestamp,
        max_age: Duration,
        next: impl FnOnce(Option<V>) -> V,
    ) -> V {
        let updated: Result<V, Infallible> = self.try_update(key, now, max_age, |old| {
            let value = next(old);
            Ok((value, value))
        });
        match updated {
            Ok(value) => value,
        }
    }

    /// The same, where `next` may leave all as it was by an error.
    pub fn try_update<T, E>(
        &self,
        key: u64,
        now: Timestamp,
        max_age: Duration,
        next: impl FnOnce(Option<V>) -> Result<(T, V), E>,
    ) -> Result<T, E> {
        let key = own(key);
        let (mut shard, set) = self.lock(key);
        let set = &mut shard[set];
        let place = set.find(key);
        let old = place.and_then(|place| set.get(place));
        let fresh = old.filter(|(_, at)| is_fresh(*at, now, max_age));
        let (result, value) = next(fresh.map(|(value, _)| value))?;
        let at = old.map_or(now, |(_, at)| at.max(now));
        if set.put(place.unwrap_or_else(|| set.oldest()), key, value, at) {
            // Relaxed: a figure for people.
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        Ok(result)
    }

    /// How full it is. Takes one lock after the other.
    pub fn stats(&self) -> CacheStats {
        let mut stats =
            CacheStats { evictions: self.evictions.load(Ordering::Relaxed), ..CacheStats::default() };
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            stats.capacity += shard.len() * WAYS;
            stats.occupied += shard.iter().map(|set| set.entries().count()).sum::<usize>();
            stats.bytes += size_of_val(&**shard) + size_of::<Mutex<Shard<V>>>();
        }
        stats
    }

    /// The shard of `key`, and the number of its set in there.
    fn lock(&self, key: u64) -> (MutexGuard<'_, Shard<V>>, usize) {
        let hash = mix(key) as usize;
        // Both counts are powers of two, and there is at least one of each.
        let shard = &self.shards[hash & (self.shards.len() - 1)];
        // A panic under the lock leaves whole entries behind: nothing panics while one is written.
        let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let set = (hash / MAX_SHARDS) & (shard.len() - 1);
        (shard, set)
    }
}

/// What stands for a key of 0, which is an empty place's: another key is the same by chance once in 2⁶⁴ times.
const ZERO: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn own(key: u64) -> u64 {
    if key == 0 { ZERO } else { key }
}

#[inline]
fn is_fresh(at: Timestamp, now: Timestamp, max_age: Duration) -> bool {
    now.since(at) < max_age
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn an_entry_is_gone_at_its_age() {
        let cache = Cache::new(8);
        cache.put(1, 'a', at(1000));
        assert_eq!(cache.get(1, at(1999), Duration::from_secs(1)), Some('a'));
        assert_eq!(cache.get(1, at(2000), Duration::from_secs(1)), None);
        assert_eq!(cache.get(2, at(1000), Duration::from_secs(1)), None);
    }

    #[test]
    fn update_sees_only_what_is_fresh_and_dates_it_anew() {
        let cache = Cache::new(8);
        let count = |old: Option<u32>| old.unwrap_or(0) + 1;
        let second = Duration::from_secs(1);
        assert_eq!(cache.update(7, at(0), second, count), 1);
        assert_eq!(cache.update(7, at(999), second, count), 2);
        assert_eq!(cache.update(7, at(1998), second, count), 3);
        assert_eq!(cache.update(7, at(2998), second, count), 1);
    }

    #[test]
    fn entries_of_the_epoch_and_a_key_of_nothing_are_entries() {
        let cache = Cache::new(8);
        cache.put(0, 'a', at(0));
        cache.put(1, 'b', at(0));
        let second = Duration::from_secs(1);
        assert_eq!((cache.get(0, at(1), second), cache.get(1, at(1), second)), (Some('a'), Some('b')));
        assert_eq!(cache.stats().occupied, 2);
    }

    #[test]
    fn an_error_leaves_everything_as_it_was() {
        let cache = Cache::new(8);
        let hour = Duration::from_secs(3600);
        assert_eq!(cache.try_update(1, at(0), hour, |_| Err::<((), u32), _>("no")), Err("no"));
        assert_eq!(cache.stats().occupied, 0);
        cache.put(1, 5, at(0));
        assert_eq!(cache.try_update(1, at(9), hour, |_| Err::<((), u32), _>("no")), Err("no"));
        assert_eq!(cache.get(1, at(9), hour), Some(5));
    }

    #[test]
    fn the_oldest_makes_room_and_is_counted() {
        let cache = Cache::new(8);
        for key in 1..=9 {
            cache.put(key, key, at(key));
        }
        let found: Vec<u64> =
            (1..=9).filter_map(|key| cache.get(key, at(10), Duration::from_secs(1))).collect();
        assert_eq!(found, [2, 3, 4, 5, 6, 7, 8, 9]);
        let stats = cache.stats();
        assert_eq!((stats.capacity, stats.occupied, stats.evictions), (8, 8, 1));
    }

    #[test]
    fn capacity_is_spread_over_all_sets() {
        let cache = Cache::new(4096);
        assert_eq!(cache.stats().capacity, 4096);
        for key in 0..2048 {
            cache.put(key, (), at(0));
        }
        // Half full: hardly a set of eight overflows.
        assert!(cache.stats().occupied > 2000, "{:?}", cache.stats());
    }

    #[test]
    fn updates_of_one_key_exclude_each_other() {
        let cache = Cache::new(8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        cache.update(1, at(0), Duration::from_secs(1), |old| {
                            old.map_or(1, |old: u32| old + 1)
                        });
                    }
                });
            }
        });
        assert_eq!(cache.get(1, at(0), Duration::from_secs(1)), Some(4000));
    }
}
