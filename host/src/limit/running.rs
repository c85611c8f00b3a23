//! How many requests of each party are running.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// The requests that run, by party. There are no more parties than there are requests.
#[derive(Default)]
pub(crate) struct Running {
    counts: Mutex<HashMap<Arc<str>, usize>>,
}

/// One request counts as running until this is dropped.
pub(crate) struct Seat {
    running: Arc<Running>,
    party: Arc<str>,
}

impl Running {
    /// Counts one more request of a party, if fewer than `bound` are running.
    pub(crate) fn enter(self: &Arc<Self>, party: &str, bound: usize) -> Option<Seat> {
        let party: Arc<str> = Arc::from(party);
        let mut counts = self.counts();
        let count = counts.entry(party.clone()).or_insert(0);
        if *count >= bound {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Seat { running: self.clone(), party })
    }

    /// How many are running of whom.
    pub(crate) fn counted(&self) -> Vec<(Arc<str>, usize)> {
        self.counts().iter().map(|(party, count)| (party.clone(), *count)).collect()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.counts.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.running.counts();
        if let Some(count) = counts.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_bound_are_running_and_none_is_remembered() {
        let running = Arc::new(Running::default());
        let mut seats: Vec<Seat> = (0..3).filter_map(|_| running.enter("a", 3)).collect();
        assert_eq!(seats.len(), 3);
        assert!(running.enter("a", 3).is_none());
        let other = running.enter("b", 1);
        assert!(other.is_some() && running.enter("b", 1).is_none());
        seats.pop();
        assert!(running.enter("a", 3).is_some());
        assert!(running.enter("a", 2).is_none(), "a bound that was lowered holds");
        drop((seats, other));
        assert_eq!(running.counted(), []);
    }
}
