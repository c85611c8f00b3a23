//! What an answer cost, in Anthropic's counts and in the hub's.
//!
//! Anthropic counts what it read from the cache and wrote to it beside the input, the hub inside it.

use serde::Deserialize;

use crate::chat::Usage;
use crate::wire::json::Writer;

/// Anthropic's counts, each of which may be missing; those of a stream's end are totals, too.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Details {
    thinking_tokens: Option<u64>,
}

impl Counts {
    /// Reads counts; none if they are no such object.
    pub(super) fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Takes over what later counts say.
    pub(super) fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    /// The same in the hub's counts.
    pub(super) fn usage(self) -> Usage {
        let cached = self.cache_read_input_tokens.unwrap_or_default();
        let cache_written = self.cache_creation_input_tokens.unwrap_or_default();
        let input = self.input_tokens.unwrap_or_default();
        Usage {
            input: input.saturating_add(cached).saturating_add(cache_written),
            output: self.output_tokens.unwrap_or_default(),
            cached,
            cache_written,
            reasoning: self
                .output_tokens_details
                .and_then(|details| details.thinking_tokens)
                .unwrap_or_default(),
            is_estimated: false,
        }
    }
}

/// Writes the hub's counts as Anthropic's, every one that clients may look for.
pub(super) fn write(usage: Usage, out: &mut Vec<u8>) {
    let mut writer = Writer::new(out);
    let beside = usage.cached.saturating_add(usage.cache_written);
    writer.plain("input_tokens", usage.input.saturating_sub(beside));
    writer.plain("cache_creation_input_tokens", usage.cache_written);
    writer.plain("cache_read_input_tokens", usage.cached);
    writer.plain("output_tokens", usage.output);
    if usage.reasoning > 0 {
        let mut details = Writer::new(writer.member("output_tokens_details"));
        details.plain("thinking_tokens", usage.reasoning);
        details.finish();
    }
    writer.finish();
}
