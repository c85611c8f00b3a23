//! The points at which plugins are called.

use std::fmt;

/// A point at which plugins are called; an interface of the contract each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    Authenticate,
    OnRequest,
    OnRoute,
    OnUpstreamRequest,
    OnResponse,
    StreamText,
    StreamEvents,
    OnError,
    OnComplete,
    OnTick,
}

impl Hook {
    /// All hooks, in the order an exchange meets them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Authenticate,
        Self::OnRequest,
        Self::OnRoute,
        Self::OnUpstreamRequest,
        Self::OnResponse,
        Self::StreamText,
        Self::StreamEvents,
        Self::OnError,
        Self::OnComplete,
        Self::OnTick,
    ];

    /// The name of its interface, also in the configuration, in metrics and on `/admin/plugins`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::OnRequest => "on-request",
            Self::OnRoute => "on-route",
            Self::OnUpstreamRequest => "on-upstream-request",
            Self::OnResponse => "on-response",
            Self::StreamText => "stream-text",
            Self::StreamEvents => "stream-events",
            Self::OnError => "on-error",
            Self::OnComplete => "on-complete",
            Self::OnTick => "on-tick",
        }
    }

    /// The hook whose interface has this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }
}

/// A set of hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hooks(u16);

impl Hooks {
    /// Adds one.
    pub(crate) fn insert(&mut self, hook: Hook) {
        self.0 |= 1 << hook as u16;
    }

    /// Those of either.
    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one is in it.
    pub(crate) fn has(self, hook: Hook) -> bool {
        self.0 & 1 << hook as u16 != 0
    }

    /// Whether none is in it.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in the order an exchange meets them.
    pub(crate) fn iter(self) -> impl Iterator<Item = Hook> {
        Hook::ALL.into_iter().filter(move |hook| self.has(*hook))
    }
}

impl fmt::Display for Hooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Hook::name).collect();
        formatter.write_str(&names.join(", "))
    }
}
