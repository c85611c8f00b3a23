//! The tokens of an exchange: read from every vendor's words, or estimated where no vendor said any.
//!
//! Input always counts what came from a cache, output always counts the thinking, whatever the vendor does.
//!
//! Source: OpenAI API reference, "Chat", "Embeddings", "Responses"; llama.cpp, tools/server/README.md, `timings`;
//! Anthropic API reference, "Messages", `usage`, and "Prompt caching"; Google, Gemini API reference, `UsageMetadata`;
//! Google Cloud, "Reasoning for Grok models"; all seen 2026-11.

use crate::chat::Usage;
use crate::wire::json::{Kind, Scanner, SyntaxError};

type Scan<T> = Result<T, SyntaxError>;

/// Counts as a vendor gave them. A stream may give them in parts, the later of which hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
    /// Input that stands beside the input proper: Anthropic's reads and writes of the cache, Gemini's tool use.
    cache_read: Option<u64>,
    cache_written: Option<u64>,
    tool_use: Option<u64>,
    /// What was written to a cache and is counted in the input, in the words of OpenAI and OpenRouter.
    cache_write: Option<u64>,
    /// Whether the input is given under Anthropic's name, so that what is counted as `cache_…` is not in it. OpenAI's
    /// Responses use that name too, with the cached tokens in it, but count them in other words.
    is_input_apart: bool,
    /// Whether the thinking is not in the output, as Gemini counts.
    is_thinking_apart: bool,
    /// Whether they are from llama.cpp's `timings`, which give way to any usage.
    is_timings: bool,
}

impl Counts {
    /// Reads a whole answer or one event of any vendor and lets what it tells replace what was known. Returns
    /// whether it tells anything; what is not JSON tells nothing.
    pub fn read(&mut self, document: &[u8]) -> bool {
        let mut scanner = Scanner::new(document);
        let mut found = Self::default();
        let is_read = top(&mut scanner, &mut found).and_then(|()| scanner.end()).is_ok();
        if !is_read
            || found == Self::default()
            || (found.is_timings && self.usage().is_some() && !self.is_timings)
        {
            return false;
        }
        if self.is_timings {
            *self = Self::default();
        }
        self.update(found);
        true
    }

    /// What they amount to; none if no count is known.
    pub fn usage(&self) -> Option<Usage> {
        let Self { input, output, total, .. } = *self;
        input.or(output).or(total)?;
        let reasoning = self.reasoning.unwrap_or(0);
        let cache_read = self.cache_read.unwrap_or(0);
        let beside = if self.is_input_apart {
            cache_read.saturating_add(self.cache_written.unwrap_or(0))
        } else {
            self.tool_use.unwrap_or(0)
        };
        let whole_input = input.map(|input| input.saturating_add(beside));
        let thinking = if self.is_thinking_apart { reasoning } else { 0 };
        let whole_output = output.map(|output| output.saturating_add(thinking));
        let (input, mut output) = match (whole_input, whole_output, total) {
            // Some rerankers count only the total, all of which is input.
            (None | Some(0), None | Some(0), total) => (total.unwrap_or(0), 0),
            (Some(input), Some(output), _) => (input, output),
            (Some(input), None, total) => (input, total.unwrap_or(0).saturating_sub(input)),
            (None, Some(output), total) => (total.unwrap_or(0).saturating_sub(output), output),
        };
        // xAI counts thinking beside the output; only the total shows it.
        if reasoning > 0 && total == input.checked_add(output).and_then(|sum| sum.checked_add(reasoning)) {
            output = output.saturating_add(reasoning);
        }
        let cached = self.cached.unwrap_or(cache_read);
        let cache_written = self.cache_write.or(self.cache_written).unwrap_or(0);
        Some(Usage { input, output, cached, cache_written, reasoning, is_estimated: false })
    }

    /// Puts later counts over these.
    fn update(&mut self, later: Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.total = later.total.or(self.total);
        self.cached = later.cached.or(self.cached);
        self.reasoning = later.reasoning.or(self.reasoning);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_written = later.cache_written.or(self.cache_written);
        self.tool_use = later.tool_use.or(self.tool_use);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.is_input_apart |= later.is_input_apart;
        self.is_thinking_apart |= later.is_thinking_apart;
        self.is_timings = later.is_timings;
    }
}

/// Reads the tokens of a whole answer or of one event, of any vendor; none if it tells none.
pub fn of(document: &[u8]) -> Option<Usage> {
    let mut counts = Counts::default();
    counts.read(document);
    counts.usage()
}

/// Reads the object `usage` or `usageMetadata`; anything else is passed over.
pub(super) fn read(scanner: &mut Scanner<'_>) -> Scan<Option<Usage>> {
    let is_object = scanner.peek()? == Kind::Object;
    let counts = counts(scanner)?;
    // An object without any count is still what the upstream says of its usage.
    Ok(is_object.then(|| counts.usage().unwrap_or_default()))
}

/// Reads the object `timings`.
pub(super) fn read_timings(scanner: &mut Scanner<'_>) -> Scan<Option<Usage>> {
    Ok(timings(scanner)?.usage())
}

/// Walks over an answer or event. Gemini sends a list of them where it is not asked for events.
fn top(scanner: &mut Scanner<'_>, found: &mut Counts) -> Scan<()> {
    if scanner.peek()? == Kind::Array {
        return scanner.array(|scanner| parts(scanner, found));
    }
    parts(scanner, found)
}

fn parts(scanner: &mut Scanner<'_>, found: &mut Counts) -> Scan<()> {
    let mut timed = Counts::default();
    scanner.members(|scanner, name| {
        if name.is("usage") || name.is("usageMetadata") {
            found.update(counts(scanner)?);
        } else if name.is("response") || name.is("message") {
            // The Responses API's last event, and Anthropic's first.
            scanner.members(|scanner, name| {
                if name.is("usage") || name.is("usageMetadata") {
                    found.update(counts(scanner)?);
                    return Ok(());
                }
                scanner.skip().map(drop)
            })?;
        } else if name.is("timings") {
            timed = timings(scanner)?;
        } else {
            scanner.skip()?;
        }
        Ok(())
    })?;
    if found.usage().is_none() {
        *found = timed;
    }
    Ok(())
}

fn counts(scanner: &mut Scanner<'_>) -> Scan<Counts> {
    let mut counts = Counts::default();
    scanner.members(|scanner, name| {
        let count = match name.raw() {
            "prompt_tokens" | "promptTokenCount" => &mut counts.input,
            "input_tokens" => {
                counts.is_input_apart = true;
                &mut counts.input
            }
            "completion_tokens" | "output_tokens" => &mut counts.output,
            "candidatesTokenCount" => {
                counts.is_thinking_apart = true;
                &mut counts.output
            }
            "total_tokens" | "totalTokenCount" => &mut counts.total,
            // The first is DeepSeek's.
            "prompt_cache_hit_tokens" | "cachedContentTokenCount" => &mut counts.cached,
            "cache_read_input_tokens" => &mut counts.cache_read,
            "cache_creation_input_tokens" => &mut counts.cache_written,
            "toolUsePromptTokenCount" => &mut counts.tool_use,
            "thoughtsTokenCount" => {
                counts.is_thinking_apart = true;
                &mut counts.reasoning
            }
            "prompt_tokens_details" | "input_tokens_details" => {
                return scanner.members(|scanner, name| {
                    let count = match name.raw() {
                        "cached_tokens" => &mut counts.cached,
                        "cache_write_tokens" => &mut counts.cache_write,
                        _ => return scanner.skip().map(drop),
                    };
                    *count = scanner.count()?.or(*count);
                    Ok(())
                });
            }
            "completion_tokens_details" | "output_tokens_details" => {
                return scanner.members(|scanner, name| {
                    if name.is("reasoning_tokens") {
                        counts.reasoning = scanner.count()?.or(counts.reasoning);
                        return Ok(());
                    }
                    scanner.skip().map(drop)
                });
            }
            _ => return scanner.skip().map(drop),
        };
        *count = scanner.count()?.or(*count);
        Ok(())
    })?;
    Ok(counts)
}

/// Reads llama.cpp's `timings`; `prompt_n` does not count what came from its cache, `cache_n` does.
fn timings(scanner: &mut Scanner<'_>) -> Scan<Counts> {
    let (mut prompt, mut predicted, mut cached) = (None, None, None);
    scanner.members(|scanner, name| {
        let count = match name.raw() {
            "prompt_n" => &mut prompt,
            "predicted_n" => &mut predicted,
            "cache_n" => &mut cached,
            _ => return scanner.skip().map(drop),
        };
        *count = scanner.count()?;
        Ok(())
    })?;
    if prompt.or(predicted).is_none() {
        return Ok(Counts::default());
    }
    let input = prompt.unwrap_or(0).saturating_add(cached.unwrap_or(0));
    Ok(Counts {
        input: Some(input),
        output: predicted.or(Some(0)),
        cached,
        is_timings: true,
        ..Counts::default()
    })
}

/// Estimates tokens from texts, without a tokenizer: which one would be right is known to the upstream alone.
///
/// A character of one or two bytes of UTF-8 is a quarter of a token for each byte, a longer one (Chinese, Japanese,
/// Korean, emoji) is a token. Never more than the bytes, and never 0 for a text that is not empty. Pictures and
/// sound count nothing.
///
/// Source: OpenAI Help Center, "What are tokens and how to count them?", seen 2026-11: "1 token ~= 4 chars in English";
/// DeepSeek API documentation, "Token & Token Usage", seen 2026-11: 0.3 tokens for an English character, 0.6 for a Chinese
/// one; older vocabularies need one or more for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    narrow_bytes: u64,
    wide_characters: u64,
    whole_tokens: u64,
}

impl Estimate {
    /// Adds a text.
    pub fn add(&mut self, text: &str) {
        // The first byte of a character of three or four bytes is at least 0xE0, of four at least 0xF0.
        let bytes = text.as_bytes();
        let wide = bytes.iter().filter(|byte| **byte >= 0xE0).count() as u64;
        let long = bytes.iter().filter(|byte| **byte >= 0xF0).count() as u64;
        self.wide_characters += wide;
        self.narrow_bytes += bytes.len() as u64 - 3 * wide - long;
    }

    /// Adds a text as it stands between the quotes of a JSON string.
    pub(super) fn add_json(&mut self, raw: &str) {
        let mut rest = raw;
        while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
            self.add(&rest[..at]);
            let unit = rest.get(at..at + 6).and_then(|escape| escape.strip_prefix("\\u"));
            match unit.map(|digits| u16::from_str_radix(digits, 16).unwrap_or(0)) {
                // The second half of a pair; the first was counted.
                Some(0xDC00..=0xDFFF) => {}
                Some(0x800..) => self.wide_characters += 1,
                Some(_) | None => self.narrow_bytes += 1,
            }
            let length = if unit.is_some() { 6 } else { 2 };
            rest = rest.get(at + length..).unwrap_or_default();
        }
        self.add(rest);
    }

    /// Adds text of which only the length is known.
    pub fn add_bytes(&mut self, bytes: u64) {
        self.narrow_bytes = self.narrow_bytes.saturating_add(bytes);
    }

    /// Adds the texts of a request's body: messages, prompt, input, instructions, tools. What is not JSON has none.
    pub fn add_request(&mut self, body: &[u8]) {
        let mut scanner = Scanner::new(body);
        // What stands before a break counts, the rest is lost.
        let _ = scanner.members(|scanner, name| match name.raw() {
            "messages" | "prompt" | "input" | "instructions" | "system" | "query" | "documents"
            | "text_1" | "text_2" | "suffix" => self.add_value(scanner, true),
            "tools" | "functions" | "response_format" => {
                let value = scanner.skip()?;
                self.add(scanner.slice(value));
                Ok(())
            }
            _ => scanner.skip().map(drop),
        });
    }

    /// Adds the texts of a whole answer's body: content, thinking, refusals and the arguments of tool calls. What is
    /// not JSON has none.
    pub fn add_answer(&mut self, body: &[u8]) {
        let mut scanner = Scanner::new(body);
        let _ = scanner.members(|scanner, name| match name.raw() {
            "choices" | "output" | "text" => self.add_value(scanner, true),
            _ => scanner.skip().map(drop),
        });
    }

    /// Adds the texts inside of a value that may be anything. `is_text` says whether a string here is such a text, and
    /// a number a token.
    pub(super) fn add_value(&mut self, scanner: &mut Scanner<'_>, is_text: bool) -> Scan<()> {
        match scanner.peek()? {
            Kind::Object => scanner.object(|scanner, name| {
                let is_text = TEXTS.contains(&name.raw());
                self.add_value(scanner, is_text)
            }),
            Kind::Array => scanner.array(|scanner| self.add_value(scanner, is_text)),
            Kind::String => {
                let text = scanner.string()?;
                if is_text {
                    self.add_json(text.raw());
                }
                Ok(())
            }
            Kind::Number => {
                self.whole_tokens += u64::from(is_text);
                scanner.skip().map(drop)
            }
            Kind::True | Kind::False | Kind::Null => scanner.skip().map(drop),
        }
    }

    /// How many tokens that is.
    pub fn tokens(&self) -> u64 {
        self.narrow_bytes.div_ceil(4).saturating_add(self.wide_characters).saturating_add(self.whole_tokens)
    }
}

/// The members of messages, parts and items whose strings a model reads or writes.
const TEXTS: [&str; 14] = [
    "content",
    "text",
    "reasoning",
    "reasoning_content",
    "refusal",
    "arguments",
    "name",
    "function",
    "message",
    "input",
    "output",
    "summary",
    "thinking",
    "code",
];

/// Makes the usage of an exchange from the texts of its request and of its answer.
pub fn estimate(input: Estimate, output: Estimate) -> Usage {
    Usage { input: input.tokens(), output: output.tokens(), is_estimated: true, ..Usage::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(documents: &[&str], expected: Option<(u64, u64, u64, u64)>) {
        let mut counts = Counts::default();
        for document in documents {
            counts.read(document.as_bytes());
        }
        let usage = |(input, output, cached, reasoning)| Usage {
            input,
            output,
            cached,
            reasoning,
            ..Usage::default()
        };
        let found = counts.usage().map(|found| Usage { cache_written: 0, ..found });
        assert_eq!(found, expected.map(usage), "{documents:?}");
    }

    #[track_caller]
    fn check_written(document: &str, input: u64, cache_written: u64) {
        let usage = of(document.as_bytes()).unwrap();
        assert_eq!((usage.input, usage.cache_written), (input, cache_written), "{document}");
    }

    #[test]
    fn what_is_written_to_a_cache_is_in_the_input() {
        check_written(r#"{"usage":{"input_tokens":3,"cache_creation_input_tokens":100}}"#, 103, 100);
        let details = r#"{"cached_tokens":1,"cache_write_tokens":2}"#;
        check_written(
            &format!(r#"{{"usage":{{"prompt_tokens":9,"prompt_tokens_details":{details}}}}}"#),
            9,
            2,
        );
        check_written(&format!(r#"{{"usage":{{"input_tokens":9,"input_tokens_details":{details}}}}}"#), 9, 2);
    }

    // parity: 159
    #[test]
    fn openais_words_are_read() {
        check(
            &[r#"{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#],
            Some((3, 4, 0, 0)),
        );
        check(
            &[
                r#"{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens":4.0,
                "completion_tokens_details":{"x":null,"reasoning_tokens":1}}}"#,
            ],
            Some((3, 4, 2, 1)),
        );
        check(
            &[r#"{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4,
                "input_tokens_details":{"cached_tokens":2},"output_tokens_details":{"reasoning_tokens":1}}}}"#],
            Some((3, 4, 2, 1)),
        );
        // Embeddings have no output, and DeepSeek another word for the cache.
        check(&[r#"{"usage":{"prompt_tokens":5,"total_tokens":5}}"#], Some((5, 0, 0, 0)));
        check(&[r#"{"usage":{"prompt_tokens":3,"prompt_cache_hit_tokens":2}}"#], Some((3, 0, 2, 0)));
        // xAI counts the thinking beside the output.
        check(
            &[r#"{"usage":{"prompt_tokens":37,"completion_tokens":50,"total_tokens":320,
                "completion_tokens_details":{"reasoning_tokens":233}}}"#],
            Some((37, 283, 0, 233)),
        );
    }

    // parity: 159
    #[test]
    fn what_is_absent_is_the_difference() {
        check(&[r#"{"usage":{"prompt_tokens":3,"total_tokens":7}}"#], Some((3, 4, 0, 0)));
        check(&[r#"{"usage":{"completion_tokens":4,"total_tokens":7}}"#], Some((3, 4, 0, 0)));
        check(&[r#"{"usage":{"prompt_tokens":9,"total_tokens":7}}"#], Some((9, 0, 0, 0)));
        check(&[r#"{"usage":{"total_tokens":7}}"#], Some((7, 0, 0, 0)));
        check(&[r#"{"usage":{"prompt_tokens":0,"total_tokens":7}}"#], Some((7, 0, 0, 0)));
        check(&[r#"{"usage":{"prompt_tokens":null,"completion_tokens":4}}"#], Some((0, 4, 0, 0)));
        assert_eq!(of(br#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#).map(Usage::total), Some(7));
    }

    // parity: 91, 159
    #[test]
    fn llama_cpps_timings_are_read_but_give_way() {
        let timings = r#"{"timings":{"prompt_n":3,"predicted_n":4,"cache_n":10,"predicted_ms":1.5}}"#;
        check(&[timings], Some((13, 4, 10, 0)));
        check(&[r#"{"timings":{"prompt_n":3}}"#], Some((3, 0, 0, 0)));
        check(&[r#"{"timings":{}}"#], None);
        let usage = r#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        check(&[timings, usage], Some((1, 2, 0, 0)));
        check(&[usage, timings], Some((1, 2, 0, 0)));
        check(
            &[r#"{"timings":{"prompt_n":3,"predicted_n":4},"usage":{"prompt_tokens":1}}"#],
            Some((1, 0, 0, 0)),
        );
    }

    // parity: 159
    #[test]
    fn anthropics_input_includes_its_cache() {
        check(&[r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#], Some((3, 4, 0, 0)));
        check(
            &[r#"{"usage":{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":100,
                "cache_creation":{"ephemeral_5m_input_tokens":100},"output_tokens":4}}"#],
            Some((113, 4, 10, 0)),
        );
        let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"cache_read_input_tokens":10,"output_tokens":1}}}"#;
        let delta = r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":40}}"#;
        check(&[start, r#"{"type":"ping"}"#, delta], Some((13, 40, 10, 0)));
        // Who speaks OpenAI's dialect counts OpenAI's way.
        check(&[r#"{"usage":{"prompt_tokens":13,"cache_read_input_tokens":10}}"#], Some((13, 0, 10, 0)));
    }

    // parity: 159
    #[test]
    fn geminis_output_includes_its_thoughts() {
        let last = r#"{"candidates":[],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4,
            "thoughtsTokenCount":5,"cachedContentTokenCount":2,"totalTokenCount":12}}"#;
        check(&[last], Some((3, 9, 2, 5)));
        check(&[r#"{"usageMetadata":{"promptTokenCount":3}}"#, last], Some((3, 9, 2, 5)));
        check(&[&format!("[{{}},{last}]")], Some((3, 9, 2, 5)));
        check(&[r#"{"usageMetadata":{"promptTokenCount":3,"totalTokenCount":12}}"#], Some((3, 9, 0, 0)));
        check(
            &[
                r#"{"usageMetadata":{"promptTokenCount":3,"toolUsePromptTokenCount":6,"candidatesTokenCount":1}}"#,
            ],
            Some((9, 1, 0, 0)),
        );
    }

    #[test]
    fn what_makes_no_sense_counts_nothing() {
        for document in [
            "",
            "x",
            "5",
            "{}",
            "[1]",
            r#"{"usage":null}"#,
            r#"{"usage":7}"#,
            r#"{"usage":{"prompt_tokens":-1,"completion_tokens":"x"}}"#,
            r#"{"usage":{"prompt_tokens":1}"#,
            r#"{"response":7,"message":"x","timings":[]}"#,
        ] {
            check(&[document], None);
        }
        check(
            &[r#"{"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":1}}"#],
            Some((u64::MAX, 1, 0, 0)),
        );
    }

    #[track_caller]
    fn check_estimate(text: &str, tokens: u64) {
        let mut plain = Estimate::default();
        plain.add(text);
        assert_eq!(plain.tokens(), tokens, "{text}");
        for json in [serde_json::to_string(text).unwrap(), escaped(text)] {
            let mut estimate = Estimate::default();
            estimate.add_json(json.trim_matches('"'));
            assert_eq!(estimate.wide_characters, plain.wide_characters, "{json}");
            assert!(estimate.tokens() <= tokens, "{json}");
        }
    }

    fn escaped(text: &str) -> String {
        text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
    }

    // parity: 160
    #[test]
    fn a_text_has_about_so_many_tokens() {
        check_estimate("", 0);
        check_estimate("a", 1);
        check_estimate("The quick brown fox jumps over the lazy dog.", 11);
        check_estimate("敏捷的棕色狐狸", 7);
        check_estimate("狐狸 fox 😀", 5);
        check_estimate("line\nline", 3);
        check_estimate("Привет", 3);
    }

    #[track_caller]
    fn check_request(body: &str, tokens: u64) {
        let mut estimate = Estimate::default();
        estimate.add_request(body.as_bytes());
        assert_eq!(estimate.tokens(), tokens, "{body}");
    }

    // parity: 160
    #[test]
    fn the_texts_of_a_request_are_counted() {
        check_request(
            r#"{"model":"long name","messages":[{"role":"system","content":"12345678"},{"role":"user","content":[
                {"type":"text","text":"1234"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAAAAAAAAAAAAAA"}}]}]}"#,
            3,
        );
        check_request(r#"{"prompt":"12345678"}"#, 2);
        check_request(r#"{"prompt":["1234","5678"]}"#, 2);
        check_request(r#"{"input":[1,2,3]}"#, 3);
        check_request(r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"1234"}]}]}"#, 1);
        check_request(r#"{"query":"1234","documents":["1234",{"text":"1234"}]}"#, 3);
        check_request(r#"{"tools":[{"a":"12"}]}"#, 3);
        for broken in ["", "5", "[]", r#"{"model":"m"}"#] {
            check_request(broken, 0);
        }
    }

    // parity: 160
    #[test]
    fn the_texts_of_an_answer_are_counted() {
        let tokens = |body: &str| {
            let mut estimate = Estimate::default();
            estimate.add_answer(body.as_bytes());
            estimate.tokens()
        };
        let message = r#"{"content":"1234","reasoning":"1234","tool_calls":[{"id":"x","function":{"name":"1234","arguments":"1234"}}]}"#;
        assert_eq!(
            tokens(&format!(r#"{{"id":"long id","choices":[{{"index":0,"message":{message}}}]}}"#)),
            4
        );
        assert_eq!(tokens(r#"{"choices":[{"text":"12345678"}]}"#), 2);
        assert_eq!(
            tokens(r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"1234"}]}]}"#),
            1
        );
        assert_eq!(tokens(r#"{"text":"12345678"}"#), 2);
        assert_eq!(tokens(r#"{"data":[{"embedding":[0.1]}]}"#), 0);
    }

    #[test]
    fn an_estimate_says_that_it_is_one() {
        let (mut input, mut output) = (Estimate::default(), Estimate::default());
        input.add("1234");
        output.add_bytes(8);
        let expected = Usage { input: 1, output: 2, is_estimated: true, ..Usage::default() };
        assert_eq!(estimate(input, output), expected);
    }

    proptest! {
        #[test]
        fn an_estimate_is_not_zero_and_not_over_the_bytes(text in ".{1,60}") {
            let mut estimate = Estimate::default();
            estimate.add(&text);
            prop_assert!((1..=text.len() as u64).contains(&estimate.tokens()));
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), raw in ".{0,20}") {
            of(&bytes);
            let mut estimate = Estimate::default();
            estimate.add_request(&bytes);
            estimate.add_answer(&bytes);
            estimate.add_json(&raw);
            estimate.add_json(&format!("{raw}\\"));
        }
    }
}
