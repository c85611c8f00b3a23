//! The keys of one upstream: they take turns, and one that was refused rests while the others go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use crate::config;
use crate::config::secret::Secret;
use crate::upstream::breaker::{Breaker, Pass, Standing};

/// The keys of one upstream.
pub(super) struct Keys {
    all: Box<[Key]>,
    /// Whose turn it is.
    turn: AtomicUsize,
    rests: config::Breaker,
}

/// One key.
struct Key {
    /// What a request carries in the header of the upstream's dialect.
    credential: HeaderValue,
    breaker: Arc<Breaker>,
}

/// One key for one attempt; what comes of it is told to the key.
pub(super) struct KeyPass<'a> {
    key: &'a Key,
    pass: Pass<'a>,
}

impl Keys {
    /// Takes the keys of an upstream; those that were there before keep resting.
    ///
    /// # Errors
    ///
    /// A message when one cannot be sent.
    pub(super) fn new(settings: &config::Upstream, before: Option<&Self>) -> Result<Self, String> {
        let known = |credential: &HeaderValue| {
            let mut known = before.into_iter().flat_map(|before| &before.all);
            known.find(|key| key.credential == *credential).map(|key| key.breaker.clone())
        };
        let key = |secret: &Secret| {
            let credential = super::credential(settings.dialect, secret)?;
            let breaker = known(&credential).unwrap_or_default();
            Ok(Key { credential, breaker })
        };
        let all = settings.keys().map(key).collect::<Result<_, String>>()?;
        // One refusal is enough to know that a key is refused, also where upstreams have no breaker.
        let rests = config::Breaker { failures: 1, ..settings.breaker };
        Ok(Self { all, turn: AtomicUsize::new(0), rests })
    }

    /// Whether they take turns.
    pub(super) fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// The key for one attempt: the next one that does not rest; none where there are not several to choose from.
    ///
    /// # Errors
    ///
    /// When the first of them can be used again, if all rest.
    pub(super) fn next(&self) -> Result<Option<KeyPass<'_>>, Instant> {
        if !self.are_several() {
            return Ok(None);
        }
        let mut soonest: Option<Instant> = None;
        for (place, key) in self.in_turn().enumerate() {
            match key.breaker.ask(&self.rests) {
                Ok(pass) => {
                    // The turns of those that rest are shared by all others, not taken by their neighbours.
                    if place > 0 {
                        self.turn.fetch_add(place, Ordering::Relaxed);
                    }
                    return Ok(Some(KeyPass { key, pass }));
                }
                Err(until) => soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
            }
        }
        soonest.map_or(Ok(None), Err)
    }

    /// The next key that does not rest and was not tried for this request; none if there is no such key.
    pub(super) fn next_but<T>(&self, tried: &[(KeyPass<'_>, T)]) -> Option<KeyPass<'_>> {
        let is_tried = |key: &&Key| tried.iter().any(|(pass, _)| std::ptr::eq(pass.key, *key));
        let mut others = self.in_turn().filter(|key| !is_tried(key));
        others.find_map(|key| Some(KeyPass { key, pass: key.breaker.ask(&self.rests).ok()? }))
    }

    fn in_turn(&self) -> impl Iterator<Item = &Key> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..self.all.len()).map(move |place| &self.all[turn.wrapping_add(place) % self.all.len()])
    }

    /// The first key, for what is no attempt.
    pub(super) fn first(&self) -> Option<&HeaderValue> {
        self.all.first().map(|key| &key.credential)
    }

    /// How they stand, in the order of the configuration; nothing where they do not take turns.
    pub(super) fn standings(&self) -> Vec<Standing> {
        let all = if self.are_several() { &*self.all } else { &[] };
        all.iter().map(|key| key.breaker.standing(&self.rests)).collect()
    }
}

impl<'a> KeyPass<'a> {
    /// What the request carries as `Authorization`.
    pub(super) fn credential(&self) -> &'a HeaderValue {
        &self.key.credential
    }

    /// It was taken.
    pub(super) fn accepted(self, upstream: &Arc<str>) {
        self.pass.succeeded(upstream);
    }

    /// It was refused, and may be used again after `wait` if the upstream said that.
    pub(super) fn refused(self, upstream: &Arc<str>, wait: Option<Duration>, keys: &Keys) {
        self.pass.refused(upstream, wait, &keys.rests, "a key of the upstream was refused and rests");
    }
}
