//! A page of a vendor's list of models.

/// A page of a list of models, as far as it tells their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The names that requests use, in the order of the list.
    pub ids: Vec<String>,
    /// What the next page is asked for with; none after the last.
    pub next: Option<String>,
}
