//! A map that forgets what has not been asked for in a while, so that no input can make it grow.

use std::collections::HashMap;

/// Two generations of at most `capacity` entries each. What is used goes to the young one; when that is full it
/// becomes the old one, and what was in the old one is forgotten. One step each, whatever comes.
#[derive(Debug)]
pub struct Memory<V> {
    young: HashMap<u64, V>,
    old: HashMap<u64, V>,
    capacity: usize,
}

impl<V: Default> Memory<V> {
    /// Keeps the last `capacity` keys that were used, and at most as many again.
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), capacity: capacity.max(1) }
    }

    /// What is remembered under `key`, or a fresh value.
    pub fn entry(&mut self, key: u64) -> &mut V {
        let remembered = self.old.remove(&key);
        if self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.entry(key).or_insert_with(|| remembered.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut memory: Memory<u32> = Memory::new(4);
        *memory.entry(1) = 11;
        for key in 100..1_000 {
            *memory.entry(key) = 1;
            assert_eq!(*memory.entry(1), 11, "{key}");
            assert!(memory.young.len() + memory.old.len() <= 8);
        }
        assert_eq!(*memory.entry(100), 0, "long forgotten");
    }
}
