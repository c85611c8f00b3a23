//! Where claims are counted.
//!
//! Where several gateways share a server, that one decides, and what it grants is counted in this process, too: when it
//! is lost, the local counts go on from what this gateway has granted itself, and a budget that is used up stays so.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::limit::local::Local;
use crate::limit::meter::{Claim, Keeper, Refused, Standing, Taken};
use crate::shared::Shared;

/// What has been counted, of whomever.
pub(crate) struct Ledger {
    /// The counts of this process.
    pub(crate) local: Local,
    /// The counts of all gateways, if there are several.
    shared: Option<Arc<Shared>>,
}

impl Ledger {
    /// Nothing counted yet.
    pub(crate) fn new(shared: Option<Arc<Shared>>) -> Self {
        Self { local: Local::new(), shared }
    }

    /// Counts all of the claims or none of them.
    ///
    /// Dropping the future may leave them counted.
    ///
    /// # Errors
    ///
    /// The claim for which there is no room for the longest time.
    pub(crate) async fn claim(&self, claims: &[Claim]) -> Result<Taken, Refused> {
        let Some(shared) = &self.shared else { return self.local.claim(claims, now_ms()) };
        match shared.counts.claim(claims).await {
            Ok(decided) => {
                let taken = decided?;
                self.local.count(claims, taken.at_ms);
                Ok(taken)
            }
            Err(_) => self.local.claim(claims, now_ms()),
        }
    }

    /// Replaces what a claim has counted by another amount, where it was counted, in the slot of `at_ms`. Does not wait.
    pub(crate) fn correct(&self, claim: &Claim, keeper: Keeper, at_ms: u64, amount: u64) {
        self.local.correct(claim, at_ms, amount);
        if let Some(shared) = self.shared.as_ref().filter(|_| keeper == Keeper::Shared) {
            shared.counts.correct(claim, at_ms, amount);
        }
    }

    /// How the meters of claims stand that were refused, as far as this process has counted.
    pub(crate) fn standings(&self, claims: &[Claim]) -> Vec<Standing> {
        self.local.standings(claims, now_ms())
    }
}

/// The clock on the wall, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
