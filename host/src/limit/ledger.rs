//! Where claims are counted.
//!
//! Where several gateways share a server, that one decides, and what it grants is counted in this process, too: when it
//! is lost, the local counts go on from what this gateway has granted itself. What is granted meanwhile is told to the
//! server when it is back. A server may have forgotten what it knew; so a budget of a day or a month that this gateway
//! alone has used up stays so, whatever the server says.

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
    /// Dropping the future leaves none counted.
    ///
    /// # Errors
    ///
    /// The claim for which there is no room for the longest time.
    pub(crate) async fn claim(&self, claims: &[Claim]) -> Result<Taken, Refused> {
        let Some(shared) = &self.shared else { return self.local.claim(claims, now_ms()) };
        // All that this process has counted was granted, so that it never refuses what the server would rightly grant.
        if let Some(refused) = self.local.used_up(claims, now_ms()) {
            return Err(refused);
        }
        match shared.counts.claim(claims).await {
            Ok(decided) => {
                let taken = decided?;
                self.local.count(claims, taken.at_ms);
                Ok(taken)
            }
            Err(_) => self.local.claim(claims, now_ms()),
        }
    }

    /// Replaces what a claim has counted by another amount, in the slot of `at_ms`; what was counted here alone is told to
    /// the other gateways. Does not wait.
    pub(crate) fn correct(&self, claim: &Claim, keeper: Keeper, at_ms: u64, amount: u64) {
        self.local.correct(claim, at_ms, amount);
        if let Some(shared) = &self.shared {
            shared.counts.correct(claim, keeper, at_ms, amount);
        }
    }

    /// Whether other gateways' counts count, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
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
