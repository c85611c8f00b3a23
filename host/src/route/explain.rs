//! Why a request goes where it goes.

use crate::chat::Prompt;
use crate::config::Strategy;
use crate::route::anchor::Anchor;
use crate::route::{Choice, Keying, Reads, Routes};

/// What is drawn where a request would draw: the same each time, so that two explanations can be compared.
const EXAMPLE_DRAW: u64 = 0;

/// Which upstreams would be tried for a request, in which order, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The strategy.
    pub strategy: Strategy,
    /// The hash that places the conversation, or why there is none.
    pub anchor: Result<Anchor, &'static str>,
    /// The candidates, best first; empty when no enabled upstream accepts the model.
    pub choices: Vec<Choice>,
}

/// Explains how `routes` would order the candidates of a request.
///
/// `in_flight` counts an upstream's running exchanges. A strategy that takes turns is shown as these `routes` would
/// go on, and takes that turn: whoever only looks gives routes of their own, which are shown as they would begin.
pub fn explain(
    routes: &Routes,
    keying: Keying<'_>,
    prompt: &Prompt<'_>,
    in_flight: impl Fn(usize) -> usize,
) -> Explanation {
    let candidates = routes.candidates(keying.model);
    let anchor = match (routes.reads(&candidates), Anchor::of_prefix(keying, &prompt.prefix)) {
        (Reads::Nothing, _) => Err("the choice does not depend on the text"),
        (Reads::Prefix | Reads::Users, Some(anchor)) => Ok(anchor),
        (Reads::Prefix | Reads::Users, None) => Err("there is no text, so that every request is a draw"),
    };
    let choices = routes.rank(&candidates, keying, prompt, in_flight, || EXAMPLE_DRAW).into_choices();
    Explanation { strategy: routes.routing().strategy, anchor, choices }
}
