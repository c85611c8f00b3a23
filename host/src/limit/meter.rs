//! What is counted, against which bound, and how it stands.

use std::sync::Arc;
use std::time::Duration;

/// One count of one party against one bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meter {
    /// Names the count, over all gateways that share it: the party, what is counted and the span, such as
    /// `key:team-a/tokens/60s`.
    pub(crate) id: Arc<str>,
    /// The most there may be within the span.
    pub(crate) bound: u64,
    /// What is counted together.
    pub(crate) span: Span,
}

/// What of a count's past is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// The last so many milliseconds: never more than the bound in any window of this length. The past is kept in
    /// [`Span::SLOTS`] slots of equal length and counts until its whole slot is out of the window.
    Window(Duration),
    /// The day, UTC.
    Day,
    /// The calendar month, UTC.
    Month,
}

impl Span {
    /// Into how many slots a window is divided.
    pub(crate) const SLOTS: u64 = 60;
}

/// So much is to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Where.
    pub(crate) meter: Meter,
    /// How much; a claim of 0 asks only whether the bound has been reached.
    pub(crate) amount: u64,
}

/// How a meter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The bound.
    pub(crate) bound: u64,
    /// What is left of it.
    pub(crate) left: u64,
    /// How long until all of it is there again if nothing more is counted.
    pub(crate) resets_in: Duration,
}

/// All of several claims were counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// When, by the clock of the ledger: milliseconds since 1970. Corrections go to the slot of this moment.
    pub(crate) at_ms: u64,
    /// Who has counted them.
    pub(crate) keeper: Keeper,
    /// How each meter stands, in the order of the claims.
    pub(crate) standings: Vec<Standing>,
}

/// Who decides on claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// This process.
    Local,
    /// The server that several gateways share, in this life of it: one that loses what was counted begins another.
    Shared(u64),
}

/// None of several claims was counted, because there is no room for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Which, by its place among the claims; the one with the longest wait, if there are several.
    pub(crate) index: usize,
    /// How its meter stands.
    pub(crate) standing: Standing,
    /// How long until there is room for it, if nothing more is counted.
    pub(crate) wait: Duration,
}
