//! How many bytes of bodies are held in memory at once, over all exchanges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that may be held.
pub(crate) struct Budget {
    held: AtomicU64,
}

/// Bytes that are held; given back when dropped.
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// An unused budget.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { held: AtomicU64::new(0) })
    }

    /// How many bytes are held.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Takes further bytes unless more than `bytes_max` would be held in all; says whether it did.
    #[must_use]
    pub(crate) fn take(&mut self, bytes: usize, bytes_max: u64) -> bool {
        let bytes = bytes as u64;
        let held = self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        held + bytes <= bytes_max
    }

    /// Another share of the same budget, of bytes that are held already.
    pub(crate) fn another(&self, bytes: usize) -> Self {
        let mut share = self.budget.share();
        // Nothing is asked for that could be refused.
        let _ = share.take(bytes, u64::MAX);
        share
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back() {
        let budget = Budget::new();
        let mut first = budget.share();
        assert!(first.take(60, 100));
        assert!(!budget.share().take(50, 100));
        drop(first);
        assert!(budget.share().take(100, 100));
    }
}
