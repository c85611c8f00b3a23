//! Which upstreams may answer a request, and in which order they are tried.
//!
//! Two questions, both answered without waiting: `candidates` says who accepts a model, `rank` orders them. What
//! happens after the first choice fails, and whether an upstream is fit to be tried at all, is `upstream::dispatch`'s.
//! No clock and no randomness live here: the caller passes both in, so that every order can be repeated in a test.

pub mod anchor;
pub mod explain;
mod recent;
pub mod rendezvous;
mod strategy;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::chat::Prompt;
use crate::config::{Config, ModelMatch, PriorityMode, Routing, Strategy, Upstream};
use crate::route::anchor::Anchor;
use crate::route::recent::Recent;
use crate::route::strategy::Turn;
pub use crate::route::strategy::{Choice, Ranking};

/// What routing knows of one configuration.
pub struct Routes {
    members: Vec<Member>,
    routing: Routing,
    accepting: RwLock<Recent<Box<str>, Arc<[usize]>>>,
    turns: Mutex<Recent<u64, Turn>>,
}

/// What routing knows of one upstream.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name, which is what is hashed: renaming an upstream moves its conversations.
    pub name: Arc<str>,
    /// The models it takes, besides its aliases.
    pub models: ModelMatch,
    /// The client's names of the models it knows by others; it takes these too.
    pub aliases: Vec<String>,
    /// Weight or rank, as `priority_mode` says.
    pub priority: u32,
    /// Whether it takes part at all.
    pub is_enabled: bool,
}

/// Whose conversation about what: it salts every anchor, so that equal prompts of two tenants do not meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keying<'a> {
    /// The caller's tenant; empty for an open gateway.
    pub tenant: &'a str,
    /// The model as the client named it, before any alias.
    pub model: &'a str,
}

/// What of a request's body [`Routes::rank`] will look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reads {
    /// Nothing: an empty [`Prompt`] will do.
    Nothing,
    /// `Prompt::prefix`.
    Prefix,
    /// `Prompt::prefix` and `Prompt::users`.
    Users,
}

/// What a name in an upstream's `fallback` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback<'a> {
    /// A model to ask for instead.
    Model(&'a str),
    /// The upstream with this index, asked for the same model.
    Upstream(usize),
}

impl Member {
    /// Whether it takes a model, by the name that the client uses.
    pub fn accepts(&self, model: &str) -> bool {
        self.models.accepts(model) || self.has_alias(model)
    }

    /// Whether it takes a model because it is told about it, and not because it takes everything.
    fn asks_for(&self, model: &str) -> bool {
        self.models != ModelMatch::Any && self.models.accepts(model) || self.has_alias(model)
    }

    fn has_alias(&self, model: &str) -> bool {
        self.aliases.iter().any(|alias| alias == model)
    }
}

impl Routes {
    /// Prepares the routing of `config`.
    pub fn new(config: &Config) -> Self {
        Self::with_members(config.upstreams.iter().map(Member::from).collect(), config.routing)
    }

    /// Prepares routing over `members`, whose positions are the indexes of every answer.
    pub fn with_members(members: Vec<Member>, routing: Routing) -> Self {
        Self {
            members,
            routing,
            accepting: RwLock::new(Recent::new(MODELS_MAX)),
            turns: Mutex::new(Recent::new(MODELS_MAX)),
        }
    }

    /// Lists the enabled upstreams that accept `model`, in configuration order; empty when nobody does.
    ///
    /// The answers for the models in use are kept, so that the cost does not grow with the number of upstreams.
    pub fn candidates(&self, model: &str) -> Arc<[usize]> {
        // Names are the client's: one that no vendor would choose shall not fill the memory.
        if model.len() > MODEL_BYTES_MAX {
            return self.find_candidates(model);
        }
        let known = self.accepting.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned();
        known.unwrap_or_else(|| {
            let mut accepting = self.accepting.write().unwrap_or_else(PoisonError::into_inner);
            accepting.get_or_insert_with(model.into(), || self.find_candidates(model)).clone()
        })
    }

    /// Says what `rank` needs to know of the request, so that nobody pays for anchors that are not used.
    pub fn reads(&self, candidates: &[usize]) -> Reads {
        match self.routing.strategy {
            _ if candidates.len() < 2 => Reads::Nothing,
            Strategy::Deterministic => Reads::Prefix,
            Strategy::Voting => Reads::Users,
            Strategy::Random | Strategy::RoundRobin | Strategy::LeastInFlight | Strategy::Failover => {
                Reads::Nothing
            }
        }
    }

    /// Orders `candidates`, which must come from this `Routes`; the first is where the request goes.
    ///
    /// `in_flight` counts an upstream's running exchanges and is asked by `least_in_flight` only; `draw` gives 64
    /// random bits and is called at most once, where the request has no anchor. Ranks hold within tiers: under
    /// `priority_mode: rank` a tier is a priority, otherwise upstreams of weight 0 are a last tier of their own.
    pub fn rank(
        &self,
        candidates: &[usize],
        keying: Keying<'_>,
        prompt: &Prompt<'_>,
        in_flight: impl Fn(usize) -> usize,
        draw: impl FnOnce() -> u64,
    ) -> Ranking {
        let strategy = match candidates.len() {
            // There is nothing to choose, whatever the strategy.
            0 | 1 => Strategy::Failover,
            _ => self.routing.strategy,
        };
        match strategy {
            Strategy::Failover => self.in_order(candidates),
            Strategy::Deterministic => self.by_score(candidates, self.anchor(keying, prompt, draw)),
            Strategy::Random => self.by_score(candidates, Anchor::drawn(draw())),
            Strategy::Voting => {
                let mut ranking = self.by_score(candidates, self.anchor(keying, prompt, draw));
                self.vote(&mut ranking, keying, prompt);
                ranking
            }
            Strategy::LeastInFlight => {
                let mut ranking = self.by_score(candidates, Anchor::drawn(draw()));
                self.count_in_flight(&mut ranking, in_flight);
                ranking
            }
            Strategy::RoundRobin => {
                let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                // All tenants take turns together: an upstream does not know them apart.
                let place = anchor::link_indexes(Anchor::salt(Keying { tenant: "", ..keying }), candidates);
                let turn = turns.get_or_insert_with(place, || self.first_turn(candidates, draw()));
                self.take_turn(candidates, turn)
            }
        }
    }

    /// Resolves a name in a `fallback`: a model that an upstream asks for by name, else an upstream, else a model
    /// that an upstream without `model_match` takes.
    ///
    /// An upstream that takes everything comes last because it would otherwise hide every upstream's name.
    pub fn fallback<'a>(&self, name: &'a str) -> Option<Fallback<'a>> {
        let mut enabled = self.members.iter().enumerate().filter(|(_, member)| member.is_enabled);
        if enabled.clone().any(|(_, member)| member.asks_for(name)) {
            return Some(Fallback::Model(name));
        }
        let named = enabled.clone().find(|(_, member)| &*member.name == name);
        named.map(|(index, _)| Fallback::Upstream(index)).or_else(|| {
            enabled.any(|(_, member)| member.models == ModelMatch::Any).then_some(Fallback::Model(name))
        })
    }

    /// The upstreams, in configuration order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The strategy and what `priority` means.
    pub fn routing(&self) -> Routing {
        self.routing
    }

    fn find_candidates(&self, model: &str) -> Arc<[usize]> {
        let accepting =
            |(index, member): (usize, &Member)| (member.is_enabled && member.accepts(model)).then_some(index);
        self.members.iter().enumerate().filter_map(accepting).collect()
    }

    fn anchor(&self, keying: Keying<'_>, prompt: &Prompt<'_>, draw: impl FnOnce() -> u64) -> Anchor {
        Anchor::of_prefix(keying, &prompt.prefix).unwrap_or_else(|| Anchor::drawn(draw()))
    }

    /// The tier of an upstream, smallest first, and its weight inside it, which is never zero.
    fn standing(&self, upstream: usize) -> (u32, u32) {
        let priority = self.members[upstream].priority;
        match self.routing.priority_mode {
            PriorityMode::Weight if priority > 0 => (0, priority),
            PriorityMode::Weight => (1, 1),
            PriorityMode::Rank => (priority, 1),
        }
    }
}

/// The models whose candidates and turns are kept, at least; those used longest ago go first.
const MODELS_MAX: usize = 1024;

/// The longest model name, in bytes, whose candidates are kept.
const MODEL_BYTES_MAX: usize = 256;

impl From<&Upstream> for Member {
    fn from(upstream: &Upstream) -> Self {
        Self {
            name: Arc::clone(&upstream.name),
            models: upstream.model_match.clone(),
            aliases: upstream.models.iter().map(|(alias, _)| alias.clone()).collect(),
            priority: upstream.priority,
            is_enabled: upstream.is_enabled,
        }
    }
}
