//! Where claims are counted.
//!
//! Counts that several gateways share go before the local ones in [`Ledger::claim`] and [`Ledger::correct`]; where they
//! cannot be reached, the local ones hold.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::limit::local::Local;
use crate::limit::meter::{Claim, Refused, Standing, Taken};

/// What has been counted, of whomever.
pub(crate) struct Ledger {
    /// The counts of this process.
    pub(crate) local: Local,
}

impl Ledger {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self { local: Local::new() }
    }

    /// Counts all of the claims or none of them.
    ///
    /// Dropping the future may leave them counted.
    ///
    /// # Errors
    ///
    /// The claim for which there is no room for the longest time.
    #[expect(clippy::unused_async, reason = "shared counts are waited for")]
    pub(crate) async fn claim(&self, claims: &[Claim]) -> Result<Taken, Refused> {
        self.local.claim(claims, now_ms())
    }

    /// Replaces what a claim has counted by another amount, in the slot of `at_ms`. Does not wait.
    pub(crate) fn correct(&self, claim: &Claim, at_ms: u64, amount: u64) {
        self.local.correct(claim, at_ms, amount);
    }

    /// How the meters of claims stand that were refused.
    pub(crate) fn standings(&self, claims: &[Claim]) -> Vec<Standing> {
        self.local.standings(claims, now_ms())
    }
}

/// The clock on the wall, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
