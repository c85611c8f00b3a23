//! A plugin's own memory: keys and values that outlive its instances, bounded in bytes and, per key, in time.
//!
//! One store belongs to one plugin's name and outlives reloads. It is not persistent and not shared with other
//! processes; [`crate::plugin::memory`] puts one that is before it. The caller says what time it is.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// What an entry costs besides its key and value: hash table, order of expiry, allocations.
pub(crate) const ENTRY_BYTES: u64 = 128;

/// Expired entries taken away by one call, so that no call pays for all of them. A write that lacks room takes more.
const COLLECTED_MAX: usize = 32;

/// The memory of one plugin.
pub(crate) struct Store {
    entries: Mutex<Entries>,
}

/// Why an operation failed; nothing was changed then, unless it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// Keys and values together would be over the grant: `too-large`.
    TooLarge {
        /// The grant in bytes.
        bytes_max: u64,
    },
    /// `add` met a value that is no decimal number of 64 bits: `other`.
    NotANumber,
    /// The store that gateways share did not answer; whether anything was changed is not known: `unavailable`.
    Unavailable,
}

/// How full a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Entries, expired ones that were not met yet included.
    pub(crate) entries: usize,
    /// What they count against the grant, in bytes.
    pub(crate) bytes: u64,
    /// The grant in bytes.
    pub(crate) bytes_max: u64,
    /// Entries whose time was over, since the store was made.
    pub(crate) expired: u64,
    /// Writes that were refused because there was no room, since the store was made.
    pub(crate) refused: u64,
}

struct Entries {
    by_key: HashMap<Arc<str>, Entry>,
    /// The keys that have a time to live, the one whose time is over first at the beginning.
    by_deadline: BTreeMap<Deadline, Arc<str>>,
    bytes: u64,
    bytes_max: u64,
    deadlines: u64,
    expired: u64,
    refused: u64,
}

struct Entry {
    value: Box<[u8]>,
    deadline: Option<Deadline>,
}

/// When an entry's time is over, and a number that makes it unique.
type Deadline = (Instant, u64);

impl Store {
    /// An empty store for `bytes_max` bytes of keys, values and [`ENTRY_BYTES`] for each entry.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            entries: Mutex::new(Entries {
                by_key: HashMap::new(),
                by_deadline: BTreeMap::new(),
                bytes: 0,
                bytes_max,
                deadlines: 0,
                expired: 0,
                refused: 0,
            }),
        }
    }

    /// Changes the grant, after a reload. Entries that are over a smaller one stay, but nothing can grow.
    pub(crate) fn set_bytes_max(&self, bytes_max: u64) {
        self.entries().bytes_max = bytes_max;
    }

    /// The value of a key whose time is not over.
    pub(crate) fn get(&self, key: &str, now: Instant) -> Option<Vec<u8>> {
        let mut entries = self.entries();
        entries.collect(now);
        entries.live(key, now).map(|entry| entry.value.to_vec())
    }

    /// Sets a value, for `ttl` or, without one, for ever; a time to live of zero is over at once.
    ///
    /// # Errors
    ///
    /// `TooLarge`.
    pub(crate) fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<(), Error> {
        let mut entries = self.entries();
        entries.collect(now);
        entries.put(key, value, Lifetime::Until(until(now, ttl)), now)
    }

    /// Deletes a key; it need not exist.
    pub(crate) fn delete(&self, key: &str, now: Instant) {
        let mut entries = self.entries();
        entries.collect(now);
        entries.remove(key);
    }

    /// Adds to the decimal number that a key has, and returns the sum.
    ///
    /// A key that does not exist begins at 0 and lives for `ttl`; one that exists keeps its time. A sum beyond 64 bits
    /// is the largest or smallest number there is: a counter that is compared with a limit stays over it.
    ///
    /// # Errors
    ///
    /// `NotANumber` and `TooLarge`.
    pub(crate) fn add(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<i64, Error> {
        let mut entries = self.entries();
        entries.collect(now);
        let (before, lifetime) = match entries.live(key, now) {
            Some(entry) => (number(&entry.value)?, Lifetime::Kept),
            None => (0, Lifetime::Until(until(now, ttl))),
        };
        let sum = before.saturating_add(delta);
        entries.put(key, sum.to_string().into_bytes(), lifetime, now)?;
        Ok(sum)
    }

    /// Sets a value if the key has the `expected` one, or does not exist if none is; says whether it did.
    ///
    /// A key that exists keeps its time; a new one lives for ever.
    ///
    /// # Errors
    ///
    /// `TooLarge`.
    pub(crate) fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
        now: Instant,
    ) -> Result<bool, Error> {
        let mut entries = self.entries();
        entries.collect(now);
        let current = entries.live(key, now);
        if current.map(|entry| &*entry.value) != expected {
            return Ok(false);
        }
        let lifetime = if current.is_some() { Lifetime::Kept } else { Lifetime::Until(None) };
        entries.put(key, value, lifetime, now)?;
        Ok(true)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut entries = self.entries();
        entries.by_key.clear();
        entries.by_deadline.clear();
        entries.bytes = 0;
    }

    /// How full it is.
    pub(crate) fn usage(&self) -> Usage {
        let entries = self.entries();
        Usage {
            entries: entries.by_key.len(),
            bytes: entries.bytes,
            bytes_max: entries.bytes_max,
            expired: entries.expired,
            refused: entries.refused,
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("no code panics while it holds this lock")
    }
}

/// How long a value that is written lives.
enum Lifetime {
    /// As long as the one it replaces.
    Kept,
    /// Until then, or for ever.
    Until(Option<Instant>),
}

/// The end of a time to live; one that no clock reaches is for ever.
fn until(now: Instant, ttl: Option<Duration>) -> Option<Instant> {
    ttl.and_then(|ttl| now.checked_add(ttl))
}

fn number(value: &[u8]) -> Result<i64, Error> {
    str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Error::NotANumber)
}

fn cost(key: &str, value: &[u8]) -> u64 {
    key.len() as u64 + value.len() as u64 + ENTRY_BYTES
}

impl Entries {
    fn live(&self, key: &str, now: Instant) -> Option<&Entry> {
        self.by_key.get(key).filter(|entry| entry.deadline.is_none_or(|(end, _)| end > now))
    }

    fn put(&mut self, key: &str, value: Vec<u8>, lifetime: Lifetime, now: Instant) -> Result<(), Error> {
        let before = self.by_key.get(key).map_or(0, |entry| cost(key, &entry.value));
        let after = cost(key, &value);
        // What became smaller may stay even if the grant was lowered below what there is.
        if after > before {
            self.make_room(after - before, key, now)?;
        }
        let deadline = match lifetime {
            Lifetime::Kept => self.by_key.get(key).and_then(|entry| entry.deadline),
            Lifetime::Until(end) => end.map(|end| {
                self.deadlines += 1;
                (end, self.deadlines)
            }),
        };
        let kept = self.remove(key);
        let key = kept.unwrap_or_else(|| Arc::from(key));
        if let Some(deadline) = deadline {
            self.by_deadline.insert(deadline, key.clone());
        }
        self.bytes += after;
        self.by_key.insert(key, Entry { value: value.into_boxed_slice(), deadline });
        Ok(())
    }

    /// Makes sure that `growth` more bytes fit, at the cost of what has expired, but for `key`, which is being written.
    fn make_room(&mut self, growth: u64, key: &str, now: Instant) -> Result<(), Error> {
        while self.bytes.saturating_add(growth) > self.bytes_max {
            let dead = self.by_deadline.range(..=(now, u64::MAX)).find(|(_, dead)| &***dead != key);
            let Some(dead) = dead.map(|(_, dead)| dead.clone()) else {
                self.refused += 1;
                return Err(Error::TooLarge { bytes_max: self.bytes_max });
            };
            self.remove(&dead);
            self.expired += 1;
        }
        Ok(())
    }

    fn collect(&mut self, now: Instant) {
        for _ in 0..COLLECTED_MAX {
            match self.by_deadline.first_key_value() {
                Some(((end, _), key)) if *end <= now => {
                    let key = key.clone();
                    self.remove(&key);
                    self.expired += 1;
                }
                _ => break,
            }
        }
    }

    /// Takes an entry out and returns its key, which a successor may share.
    fn remove(&mut self, key: &str) -> Option<Arc<str>> {
        let (key, entry) = self.by_key.remove_entry(key)?;
        if let Some(deadline) = entry.deadline {
            self.by_deadline.remove(&deadline);
        }
        self.bytes -= cost(&key, &entry.value);
        Some(key)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes_max } => {
                write!(formatter, "keys and values would take more than the {bytes_max} bytes of `allow.kv`")
            }
            Self::NotANumber => formatter.write_str("the value is not a decimal number of 64 bits"),
            Self::Unavailable => formatter.write_str("the shared store did not answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn store() -> (Store, Instant) {
        (Store::new(1 << 20), Instant::now())
    }

    #[test]
    fn a_value_is_there_until_it_is_deleted() {
        let (store, now) = store();
        assert_eq!(store.get("a", now), None);
        store.set("a", b"1".to_vec(), None, now).unwrap();
        store.set("a", b"2".to_vec(), None, now).unwrap();
        assert_eq!(store.get("a", now + 1000 * SECOND), Some(b"2".to_vec()));
        store.delete("a", now);
        store.delete("a", now);
        assert_eq!(store.get("a", now), None);
        assert_eq!((store.usage().entries, store.usage().bytes), (0, 0));
    }

    #[test]
    fn a_value_is_gone_when_its_time_is_over() {
        let (store, now) = store();
        store.set("a", vec![], Some(SECOND), now).unwrap();
        assert!(store.get("a", now + SECOND / 2).is_some());
        assert_eq!(store.get("a", now + SECOND), None);
        assert_eq!((store.usage().bytes, store.usage().expired), (0, 1));
        store.set("b", vec![], Some(Duration::ZERO), now).unwrap();
        assert_eq!(store.get("b", now), None);
        store.set("c", vec![], Some(Duration::from_millis(u64::MAX)), now).unwrap();
        assert!(store.get("c", now + SECOND).is_some());
    }

    #[test]
    fn setting_again_sets_the_time_again() {
        let (store, now) = store();
        store.set("a", vec![], Some(SECOND), now).unwrap();
        store.set("a", vec![], None, now).unwrap();
        assert!(store.get("a", now + 2 * SECOND).is_some());
        store.set("a", vec![], Some(SECOND), now).unwrap();
        assert_eq!(store.get("a", now + 2 * SECOND), None);
    }

    #[track_caller]
    fn check_add(before: Option<&str>, delta: i64, sum: Result<i64, Error>) {
        let (store, now) = store();
        if let Some(value) = before {
            store.set("n", value.as_bytes().to_vec(), None, now).unwrap();
        }
        assert_eq!(store.add("n", delta, None, now), sum);
        let after = sum.ok().map(|sum| sum.to_string()).or_else(|| before.map(str::to_owned));
        assert_eq!(store.get("n", now), after.map(String::into_bytes));
    }

    #[test]
    fn a_number_is_added_to() {
        check_add(None, 5, Ok(5));
        check_add(Some("-7"), 5, Ok(-2));
        check_add(Some("9223372036854775806"), 5, Ok(i64::MAX));
        check_add(Some("-9223372036854775807"), -5, Ok(i64::MIN));
        check_add(Some(""), 5, Err(Error::NotANumber));
        check_add(Some("1.5"), 5, Err(Error::NotANumber));
        check_add(Some("9223372036854775808"), 5, Err(Error::NotANumber));
    }

    #[test]
    fn a_counter_keeps_the_time_it_began_with() {
        let (store, now) = store();
        store.add("n", 1, Some(2 * SECOND), now).unwrap();
        assert_eq!(store.add("n", 1, Some(60 * SECOND), now + SECOND), Ok(2));
        assert_eq!(store.add("n", 1, Some(2 * SECOND), now + 2 * SECOND), Ok(1));
    }

    #[test]
    fn a_value_is_exchanged_only_for_the_expected_one() {
        let (store, now) = store();
        let swap = |expected: Option<&[u8]>, value: &[u8], now| {
            store.compare_and_set("a", expected, value.to_vec(), now)
        };
        assert_eq!(swap(Some(b"1"), b"2", now), Ok(false));
        assert_eq!(swap(None, b"1", now), Ok(true));
        assert_eq!(swap(None, b"2", now), Ok(false));
        assert_eq!(swap(Some(b"1"), b"2", now), Ok(true));
        store.set("a", b"3".to_vec(), Some(SECOND), now).unwrap();
        assert_eq!(swap(Some(b"3"), b"4", now), Ok(true));
        assert_eq!(swap(Some(b"4"), b"5", now + SECOND), Ok(false));
        assert_eq!(swap(None, b"5", now + SECOND), Ok(true));
        assert!(store.get("a", now + 100 * SECOND).is_some());
    }

    #[test]
    fn nothing_goes_over_the_grant() {
        let now = Instant::now();
        let store = Store::new(2 * (ENTRY_BYTES + 10));
        let too_large = Err(Error::TooLarge { bytes_max: 2 * (ENTRY_BYTES + 10) });
        store.set("a", vec![0; 9], None, now).unwrap();
        store.set("b", vec![0; 9], None, now).unwrap();
        assert_eq!(store.set("c", vec![], None, now), too_large);
        assert_eq!(store.set("b", vec![0; 10], None, now), too_large);
        assert_eq!(store.add("c", 1, None, now).map(drop), too_large);
        assert_eq!(store.compare_and_set("c", None, vec![], now).map(drop), too_large);
        assert_eq!(store.get("b", now), Some(vec![0; 9]));
        store.set("b", vec![0; 8], None, now).unwrap();
        store.set("a", vec![0; 10], None, now).unwrap();
        assert_eq!(store.usage().refused, 4);
    }

    #[test]
    fn a_lowered_grant_lets_values_shrink_only() {
        let (store, now) = store();
        store.set("a", vec![0; 100], None, now).unwrap();
        store.set_bytes_max(50);
        assert!(store.set("a", vec![0; 101], None, now).is_err());
        store.set("a", vec![0; 99], None, now).unwrap();
        assert_eq!(store.get("a", now), Some(vec![0; 99]));
    }

    #[test]
    fn one_call_collects_a_bounded_number_but_the_dead_never_take_room() {
        let now = Instant::now();
        let count = 3 * COLLECTED_MAX;
        let store = Store::new(count as u64 * (ENTRY_BYTES + 3));
        for index in 0..count {
            store.set(&format!("{index:03}"), vec![], Some(SECOND), now).unwrap();
        }
        let later = now + SECOND;
        assert_eq!(store.get("095", later), None);
        assert_eq!(store.usage().entries, 2 * COLLECTED_MAX);
        store
            .set("all", vec![0; (count as u64 * (ENTRY_BYTES + 3) - ENTRY_BYTES - 3) as usize], None, later)
            .unwrap();
        assert_eq!((store.usage().entries, store.usage().expired), (1, count as u64));
    }

    #[test]
    fn a_dead_value_is_replaced_in_its_own_room() {
        let now = Instant::now();
        let store = Store::new(ENTRY_BYTES + 10);
        store.set("a", vec![0; 9], Some(SECOND), now).unwrap();
        store.set("a", vec![1; 9], None, now + SECOND).unwrap();
        assert_eq!(store.get("a", now + SECOND), Some(vec![1; 9]));
    }

    #[test]
    fn sums_of_many_threads_are_exact() {
        let (store, now) = store();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| assert!(store.add("n", 1, None, now).is_ok())));
            }
        });
        assert_eq!(store.get("n", now), Some(b"4000".to_vec()));
    }

    proptest! {
        /// Against the obvious model: a map of values and ends.
        #[test]
        fn it_behaves_like_a_map_with_ends(
            steps in prop::collection::vec((0u8..6, 0u8..4, 0u64..5, 0usize..300), 0..200),
        ) {
            let mut now = Instant::now();
            let store = Store::new(700);
            let mut model: HashMap<String, (Vec<u8>, Option<Instant>)> = HashMap::new();
            for (what, key, seconds, len) in steps {
                let key = key.to_string();
                let ttl = (seconds > 0).then(|| Duration::from_secs(seconds));
                model.retain(|_, (_, end)| end.is_none_or(|end| end > now));
                let others = model.iter().filter(|(name, _)| **name != key);
                let others: u64 = others.map(|(name, (value, _))| cost(name, value)).sum();
                match what {
                    0 | 1 => {
                        let value = vec![what; len];
                        let fits = others + cost(&key, &value) <= 700;
                        prop_assert_eq!(store.set(&key, value.clone(), ttl, now).is_ok(), fits);
                        if fits {
                            model.insert(key, (value, until(now, ttl)));
                        }
                    }
                    2 => {
                        store.delete(&key, now);
                        model.remove(&key);
                    }
                    3 => {
                        let expected = model.get(&key).map(|(value, _)| value.clone());
                        let value = vec![3; len / 10];
                        if store.compare_and_set(&key, expected.as_deref(), value.clone(), now) == Ok(true) {
                            let end = model.get(&key).and_then(|(_, end)| *end);
                            model.insert(key, (value, end));
                        }
                    }
                    4 => now += Duration::from_secs(seconds),
                    _ => {
                        let live = model.get(&key).map(|(value, _)| value.clone());
                        prop_assert_eq!(store.get(&key, now), live);
                    }
                }
                prop_assert!(store.usage().bytes <= 700);
            }
        }
    }
}
