//! A bounded map that forgets what has not been used for long.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// Two generations of entries: when the younger one is full it becomes the older, and what was in that is dropped.
///
/// An entry in use moves to the younger generation, so a flood of keys that come once cannot push it out; it costs
/// less than a list in order of use, and no write while the working set fits.
pub(super) struct Recent<K, V> {
    younger: HashMap<K, V>,
    older: HashMap<K, V>,
    generation_max: usize,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// Makes a map that keeps at least the last `generation_max` keys, and at most twice as many.
    pub(super) fn new(generation_max: usize) -> Self {
        Self { younger: HashMap::new(), older: HashMap::new(), generation_max }
    }

    /// Looks a key up without marking it as used; an entry of the older generation counts as absent.
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.younger.get(key)
    }

    /// Looks a key up, marks it as used, and makes its value when there is none.
    pub(super) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if !self.younger.contains_key(&key) {
            let value = self.older.remove(&key).unwrap_or_else(make);
            if self.younger.len() >= self.generation_max {
                self.older = mem::take(&mut self.younger);
            }
            return self.younger.entry(key).or_insert(value);
        }
        self.younger.get_mut(&key).expect("the key was just seen")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_survives_a_flood_of_keys_that_come_once() {
        let mut recent = Recent::new(4);
        for key in 0..1000 {
            assert_eq!(*recent.get_or_insert_with(-1, || key), 0, "made once, before the flood");
            recent.get_or_insert_with(key, || key);
        }
    }

    #[test]
    fn it_never_holds_more_than_two_generations() {
        let mut recent = Recent::new(4);
        for key in 0..1000 {
            recent.get_or_insert_with(key, || key);
            assert!(recent.younger.len() + recent.older.len() <= 8);
        }
        assert_eq!(recent.get(&999), Some(&999));
        assert_eq!(recent.get(&0), None);
    }
}
