//! When an upstream that fails is left alone, and how it is looked after.

use std::time::Duration;

/// The circuit breaker of an upstream, and how long its keys rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// The failures in a row that open it; 0 keeps it closed for ever. Default 5.
    pub failures: u32,
    /// How long the upstream is left alone after that, and a key that was refused. Default 30 s.
    pub cooldown: Duration,
    /// The longest such time. Default 300 s.
    pub cooldown_max: Duration,
    /// By how much that time grows each time that the upstream fails again; not below 1. Default 2.
    pub backoff_multiplier: f64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            cooldown: Duration::from_secs(30),
            cooldown_max: Duration::from_secs(300),
            backoff_multiplier: 2.0,
        }
    }
}

impl Breaker {
    /// Whether anything ever opens it.
    pub fn is_on(&self) -> bool {
        self.failures > 0
    }

    /// How long an upstream is left alone when this is the `opening`-th time in a row, counted from 1.
    pub fn cooldown_after(&self, opening: u32) -> Duration {
        let growth =
            self.backoff_multiplier.powi(i32::try_from(opening.saturating_sub(1)).unwrap_or(i32::MAX));
        let seconds = self.cooldown.as_secs_f64() * growth;
        // Infinite or not a number, it is longer than the bound as well.
        let grown = Duration::try_from_secs_f64(seconds).unwrap_or(self.cooldown_max);
        grown.min(self.cooldown_max)
    }
}

/// The checks of an upstream that no client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked with GET, from the root of its host: `/health`.
    pub path: String,
    /// How often. Default 10 s.
    pub interval: Duration,
}
