//! What one request has been given of the limits, and what it really used in the end.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::chat::Usage;
use crate::config::Price;
use crate::limit::Limits;
use crate::limit::meter::{Claim, Keeper, Standing};
use crate::limit::running::Seat;

/// Headers that tell how a kind of limit stands: the bound, what is left, and when all of it is there again.
///
/// Source: OpenAI, API documentation, "Rate limits", "Rate limits in headers", seen 2026-11.
const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
/// The same of tokens.
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// What is counted of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Itself.
    Requests,
    /// The tokens of its prompt and of its answer.
    Tokens,
    /// What these cost, in billionths of the unit of money.
    Money,
}

impl What {
    /// The name of it in a meter's.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Money => "money",
        }
    }
}

/// What a request was given. It lives as long as the exchange, and is settled at its end.
#[derive(Default)]
pub(crate) struct Permit {
    /// The claims on tokens and money, which are corrected by what was really used.
    pub(super) claims: Vec<(What, Claim)>,
    /// When they were made: by the ledger's clock, and by one that runs evenly.
    pub(super) taken: Option<(u64, Instant)>,
    /// Who counted them.
    pub(super) keeper: Option<Keeper>,
    /// Where they are corrected; none where nothing was claimed.
    pub(super) limits: Option<Arc<Limits>>,
    /// What was expected.
    pub(super) expected: Usage,
    /// What the model's tokens cost, if that is known.
    pub(super) price: Option<Price>,
    /// How the tightest meters stand, requests and tokens.
    pub(super) shown: [Option<Standing>; 2],
    /// Its places among the running requests of its parties.
    pub(super) seats: Vec<Seat>,
}

/// How an exchange ended, as far as that decides what it used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    /// What somebody counted or estimated.
    pub(crate) usage: Option<Usage>,
    /// Whether an upstream was asked.
    pub(crate) was_sent: bool,
    /// Whether the client was sent a good answer, or the beginning of one.
    pub(crate) was_answered: bool,
    /// Whether the client left before it was sent anything.
    pub(crate) was_left: bool,
}

impl Permit {
    /// Replaces what was expected by what was used; gives what that cost, in billionths of the unit of money, if the
    /// model has a price.
    ///
    /// What was used beyond what was claimed counts from now on: an answer may take longer than a window.
    pub(crate) fn settle(&mut self, end: End) -> Option<u64> {
        let used = self.used(end);
        let cost = self.price.as_ref().map(|price| cost(price, used));
        if let (Some(limits), Some((at_ms, at)), Some(keeper)) = (self.limits.take(), self.taken, self.keeper)
        {
            for (what, claim) in &self.claims {
                let amount = match what {
                    What::Requests => continue,
                    What::Tokens => used.total(),
                    What::Money => cost.unwrap_or(0),
                };
                let since = if amount > claim.amount { at.elapsed() } else { Duration::ZERO };
                let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
                limits.ledger.correct(claim, keeper, at_ms.saturating_add(since_ms), amount);
            }
        }
        self.seats.clear();
        cost
    }

    /// Takes over what the request was given before: its places, and how the limits stood that are not shown yet.
    pub(crate) fn follow(&mut self, before: &mut Self) {
        self.seats.append(&mut before.seats);
        for (shown, known) in self.shown.iter_mut().zip(before.shown) {
            *shown = shown.or(known);
        }
    }

    /// Whether what the request really used has to be known.
    pub(crate) fn counts_tokens(&self) -> bool {
        !self.claims.is_empty()
    }

    fn used(&self, end: End) -> Usage {
        match end.usage {
            // Also what a plugin answered.
            _ if !end.was_sent => Usage::default(),
            // The answer alone could be estimated.
            Some(usage) if usage.is_estimated && usage.input == 0 => {
                Usage { input: self.expected.input, ..usage }
            }
            Some(usage) => usage,
            None if end.was_answered => self.expected,
            // The upstream may have read the prompt.
            None if end.was_left => Usage { output: 0, ..self.expected },
            None => Usage::default(),
        }
    }

    /// Tells how the limits stand, instead of what an upstream tells of its own.
    pub(crate) fn describe(&self, headers: &mut HeaderMap) {
        if self.shown.iter().all(Option::is_none) {
            return;
        }
        let is_limit = |name: &&HeaderName| name.as_str().starts_with("x-ratelimit-");
        let foreign: Vec<HeaderName> = headers.keys().filter(is_limit).cloned().collect();
        for name in foreign {
            headers.remove(name);
        }
        for (names, standing) in [REQUESTS, TOKENS].into_iter().zip(self.shown) {
            let Some(Standing { bound, left, resets_in }) = standing else { continue };
            let [limit, remaining, reset] = names;
            headers.insert(limit, HeaderValue::from(bound));
            headers.insert(remaining, HeaderValue::from(left));
            let reset_in = HeaderValue::try_from(spoken(resets_in));
            headers.insert(reset, reset_in.expect("digits and units are a valid header value"));
        }
    }

    /// Shows how a meter stands if no other one of its kind has less left.
    pub(super) fn show(&mut self, what: What, standing: Standing) {
        let place = match what {
            What::Requests => &mut self.shown[0],
            What::Tokens => &mut self.shown[1],
            What::Money => return,
        };
        if place.is_none_or(|known| standing.left < known.left) {
            *place = Some(standing);
        }
    }
}

/// What tokens cost, in billionths of the unit of money.
pub(crate) fn cost(price: &Price, usage: Usage) -> u64 {
    let Usage { input, output, cached, reasoning, .. } = usage;
    let (cached, reasoning) = (cached.min(input), reasoning.min(output));
    [
        (input - cached, price.input),
        (cached, price.cached),
        (output - reasoning, price.output),
        (reasoning, price.reasoning),
    ]
    .iter()
    .fold(0, |sum: u64, (tokens, price)| sum.saturating_add(tokens.saturating_mul(*price)))
}

/// A duration as OpenAI writes it: `120ms`, `1s`, `8.64s`, `6m0s`, `24h0m0s`.
pub(super) fn spoken(duration: Duration) -> String {
    let (seconds, ms) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 && ms > 0 {
        return format!("{ms}ms");
    }
    let fraction = match ms {
        0 => String::new(),
        ms => format!(".{ms:03}").trim_end_matches('0').to_owned(),
    };
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, second) => format!("{second}{fraction}s"),
        (0, minute, second) => format!("{minute}m{second}{fraction}s"),
        (hour, minute, second) => format!("{hour}h{minute}m{second}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Glob;

    #[test]
    fn a_duration_is_written_as_openai_does() {
        for (ms, expected) in [
            (0, "0s"),
            (20, "20ms"),
            (1_000, "1s"),
            (8_640, "8.64s"),
            (59_999, "59.999s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (86_399_500, "23h59m59.5s"),
        ] {
            assert_eq!(spoken(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn every_kind_of_token_has_its_price() {
        let price = Price { models: Glob::new("*"), input: 10, cached: 1, output: 100, reasoning: 50 };
        let check = |input, output, cached, reasoning, expected| {
            let usage = Usage { input, output, cached, reasoning, is_estimated: false, ..Usage::default() };
            assert_eq!(cost(&price, usage), expected, "{usage:?}");
        };
        check(0, 0, 0, 0, 0);
        check(5, 0, 0, 0, 50);
        check(5, 2, 0, 0, 250);
        check(5, 2, 4, 1, 10 + 4 + 100 + 50);
        check(1, 1, 9, 9, 1 + 50);
        check(u64::MAX, u64::MAX, 0, 0, u64::MAX);
    }

    #[track_caller]
    fn check_used(end: End, input: u64, output: u64) {
        let expected = Usage { input: 7, output: 100, ..Usage::default() };
        let used = Permit { expected, ..Permit::default() }.used(end);
        assert_eq!((used.input, used.output), (input, output), "{end:?}");
    }

    #[test]
    fn what_was_used_is_what_was_counted_or_else_expected() {
        let counted = Some(Usage { input: 5, output: 9, ..Usage::default() });
        let estimated = Some(Usage { input: 0, output: 9, is_estimated: true, ..Usage::default() });
        let sent = End { was_sent: true, ..End::default() };
        check_used(End { usage: counted, was_answered: true, ..sent }, 5, 9);
        check_used(End { usage: estimated, was_answered: true, ..sent }, 7, 9);
        check_used(End { was_answered: true, ..sent }, 7, 100);
        check_used(End { was_left: true, ..sent }, 7, 0);
        check_used(sent, 0, 0);
        check_used(End { usage: counted, was_sent: false, was_answered: true, was_left: false }, 0, 0);
    }

    #[test]
    fn the_tightest_meter_is_told_in_place_of_the_upstreams() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-limit-tokens", HeaderValue::from_static("7"));
        headers.insert("x-ratelimit-other", HeaderValue::from_static("7"));
        let mut permit = Permit::default();
        permit.describe(&mut headers);
        assert_eq!(headers.len(), 2, "without limits the upstream's stay");
        let standing = |left| Standing { bound: 100, left, resets_in: Duration::from_secs(60) };
        permit.show(What::Requests, standing(30));
        permit.show(What::Requests, standing(20));
        permit.show(What::Requests, standing(25));
        permit.show(What::Money, standing(1));
        permit.describe(&mut headers);
        let told: Vec<(String, &str)> =
            REQUESTS.iter().map(|name| (name.to_string(), headers[name].to_str().unwrap())).collect();
        assert_eq!(
            told,
            [
                ("x-ratelimit-limit-requests".to_owned(), "100"),
                ("x-ratelimit-remaining-requests".to_owned(), "20"),
                ("x-ratelimit-reset-requests".to_owned(), "1m0s"),
            ]
        );
        assert_eq!(headers.len(), 3);
    }
}
