//! The operator's edits of a request, as splices of its bytes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use super::path::PREFIX;
use super::{GENERATE_CONTENT_REQUEST, GENERATION_CONFIG, Member, Request, clean, foreign};
use crate::config::Clean;
use crate::wire::json::{Kind, Scanner, Text, quote};
use crate::wire::{Dialect, Endpoint};

/// What the configuration asks to change in a request on its way to one upstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits<'a> {
    /// The name that the upstream knows the model by.
    pub model: Option<&'a str>,
    /// Stop words to put before the request's own.
    pub stop: &'a [String],
    /// Upper bound of `max_tokens` and `max_completion_tokens`.
    pub max_tokens: Option<u64>,
    /// Members for requests that lack them: the name, and the value as JSON text.
    pub extra_body: &'a [(String, String)],
    /// Whether streams are made to end with usage.
    pub include_usage: bool,
    /// How chat messages are tidied.
    pub clean: Clean,
}

/// A part of the body and what takes its place.
#[derive(Debug)]
pub(super) struct Splice {
    pub(super) range: Range<usize>,
    pub(super) text: Vec<u8>,
}

/// Members that the request lacks: the name, and the value as JSON text.
type Added<'a> = Vec<(&'a str, Vec<u8>)>;

/// What requests call the things that the configuration bounds; of several names the first is given to what is added.
struct Vocabulary {
    /// Stop words.
    stop: &'static [&'static str],
    /// The most tokens of an answer: bounds that count side by side, each in its spellings.
    caps: &'static [&'static [&'static str]],
}

/// The vocabulary of an endpoint whose answers are bounded.
fn vocabulary(endpoint: Endpoint) -> Option<Vocabulary> {
    Some(match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => {
            Vocabulary { stop: &["stop"], caps: &[&["max_tokens"], &["max_completion_tokens"]] }
        }
        Endpoint::Messages => Vocabulary { stop: &["stop_sequences"], caps: &[&["max_tokens"]] },
        Endpoint::GenerateContent => Vocabulary {
            stop: &["stopSequences", "stop_sequences"],
            caps: &[&["maxOutputTokens", "max_output_tokens"]],
        },
        _ => return None,
    })
}

/// The least budget of thinking, in tokens.
///
/// Source: Anthropic, API reference, Messages, `thinking.budget_tokens`, seen 2026-11.
const BUDGET_MIN: u64 = 1024;

impl Request {
    /// Returns the body as one upstream gets it, in segments: the client's bytes with the edits between them.
    ///
    /// Without edits that is the body itself, but for what another vendor has signed. The model of Google's endpoints is in their path, and here only where the
    /// body repeats it. What only counts tokens gets no further members: it has no answer to bound, and Anthropic's refuses what it
    /// does not know.
    pub fn encode(&self, edits: &Edits<'_>) -> Vec<Bytes> {
        let mut splices = Vec::new();
        let mut added = Vec::new();
        self.edit_model(edits, &mut splices);
        self.edit_bounds(edits, &mut splices, &mut added);
        if matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::Completions) {
            self.edit_usage(edits, &mut splices, &mut added);
        }
        if self.endpoint == Endpoint::ChatCompletions
            && edits.clean != Clean::default()
            && let Some(messages) = self.last("messages")
        {
            splices.extend(clean::splices(&self.body, messages.value.clone(), edits.clean));
        }
        self.cut_foreign(&mut splices);
        self.add_extra(edits, &mut added);
        if let Some(last) = self.members.last().filter(|_| !added.is_empty()) {
            splices.push(Splice { range: last.value.end..last.value.end, text: written(&added) });
        }
        assemble(&self.body, splices)
    }

    /// Takes out what another vendor has signed: the upstream would refuse the conversation for it.
    fn cut_foreign(&self, splices: &mut Vec<Splice>) {
        if !foreign::is_suspected(self.endpoint, &self.body) {
            return;
        }
        let dialect = self.endpoint.dialect();
        let name = if dialect == Dialect::Gemini { "contents" } else { "messages" };
        let mut cut = |member: &Member| {
            splices.append(&mut foreign::splices(dialect, &self.body, member.value.clone()));
        };
        self.all(name).for_each(&mut cut);
        for object in self.inner_requests() {
            let members = self.members_of(&object);
            members.iter().filter(|member| member.name.is(&self.body, name)).for_each(&mut cut);
        }
    }

    fn edit_model(&self, edits: &Edits<'_>, splices: &mut Vec<Splice>) {
        let Some(model) = edits.model.filter(|model| *model != self.model) else {
            return;
        };
        let mut splice = |member: &Member| {
            let text = match self.endpoint.dialect() {
                Dialect::OpenAi | Dialect::Anthropic => Some(quoted(model)),
                Dialect::Gemini => self.with_prefix(member, model),
            };
            splices.extend(text.map(|text| Splice { range: member.value.clone(), text }));
        };
        self.all("model").for_each(&mut splice);
        for object in self.inner_requests() {
            let members = self.members_of(&object);
            members.iter().filter(|member| member.name.is(&self.body, "model")).for_each(&mut splice);
        }
    }

    /// Writes a model's name as Google's bodies have it in place of the one that is there; none if that is no text.
    fn with_prefix(&self, member: &Member, model: &str) -> Option<Vec<u8>> {
        let name = Scanner::new(&self.body[member.value.clone()]).string().ok()?.decode();
        let prefix = if name.starts_with(PREFIX) { PREFIX } else { "" };
        Some(quoted(&format!("{prefix}{model}")))
    }

    /// Where requests stand within Google's that hold whole ones.
    fn inner_requests(&self) -> Vec<Range<usize>> {
        match self.endpoint {
            Endpoint::CountContentTokens => {
                self.objects(GENERATE_CONTENT_REQUEST).map(|member| member.value.clone()).collect()
            }
            Endpoint::BatchEmbedContents => {
                self.all("requests").flat_map(|list| self.elements(list)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Where the elements of a member stand; none if it is no array.
    fn elements(&self, member: &Member) -> Vec<Range<usize>> {
        let mut elements = Vec::new();
        if member.kind == Kind::Array {
            let at = member.value.start;
            let scanned = Scanner::new(&self.body[member.value.clone()]).array(|scanner| {
                let range = scanner.skip()?;
                elements.push(at + range.start..at + range.end);
                Ok(())
            });
            debug_assert!(scanned.is_ok(), "it has been read before");
        }
        elements
    }

    /// Edits what bounds the answer, where the endpoint's requests have it.
    fn edit_bounds(&self, edits: &Edits<'_>, splices: &mut Vec<Splice>, added: &mut Added<'_>) {
        let Some(names) = vocabulary(self.endpoint) else {
            return;
        };
        if edits.stop.is_empty() && edits.max_tokens.is_none() {
            return;
        }
        let members = self.bounding_members();
        let mut lacking = Vec::new();
        self.edit_stop(edits, &names, &members, splices, &mut lacking);
        self.edit_caps(edits, &names, &members, splices, &mut lacking);
        if self.endpoint == Endpoint::GenerateContent {
            self.add_to_config(&lacking, splices, added);
        } else {
            added.extend(lacking);
        }
    }

    fn edit_stop(
        &self,
        edits: &Edits<'_>,
        names: &Vocabulary,
        members: &[Member],
        splices: &mut Vec<Splice>,
        lacking: &mut Added<'static>,
    ) {
        if edits.stop.is_empty() {
            return;
        }
        let found: Vec<&Member> = names.stop.iter().filter_map(|name| self.last_of(members, name)).collect();
        let own = found.iter().flat_map(|member| words(&self.body[member.value.clone()]));
        let configured = edits.stop.iter().map(|word| (Cow::Borrowed(&**word), Cow::Owned(quoted(word))));
        // The client decides how many there are, so each is looked up and not compared with all before it.
        let mut known = HashSet::new();
        let is_new = |(word, literal)| known.insert(word).then_some(literal);
        let literals: Vec<Cow<'_, [u8]>> = configured.chain(own).filter_map(is_new).collect();
        let text = [b"[", &literals.join(&b',')[..], b"]"].concat();
        if found.is_empty() {
            lacking.push((names.stop[0], text));
            return;
        }
        splices.extend(found.iter().map(|member| Splice { range: member.value.clone(), text: text.clone() }));
    }

    fn edit_caps(
        &self,
        edits: &Edits<'_>,
        names: &Vocabulary,
        members: &[Member],
        splices: &mut Vec<Splice>,
        lacking: &mut Added<'static>,
    ) {
        let Some(cap) = edits.max_tokens else {
            return;
        };
        self.edit_budget(cap, splices);
        let text = cap.to_string().into_bytes();
        let mut is_bounded = false;
        for name in names.caps.iter().copied().flatten() {
            let is_bound = |member: &Member| matches!(member.kind, Kind::Number | Kind::String);
            is_bounded |= self.last_of(members, name).is_some_and(is_bound);
            let named = members.iter().filter(|member| member.name.is(&self.body, name));
            for member in named.filter(|member| self.exceeds(member, cap)) {
                splices.push(Splice { range: member.value.clone(), text: text.clone() });
            }
        }
        if is_bounded {
            return;
        }
        let spellings = names.caps[0];
        match spellings.iter().find_map(|name| self.last_of(members, name)) {
            Some(null) => splices.push(Splice { range: null.value.clone(), text }),
            None => lacking.push((spellings[0], text)),
        }
    }

    /// Lowers the budget of Anthropic's thinking with the cap, which it must stay below.
    fn edit_budget(&self, cap: u64, splices: &mut Vec<Splice>) {
        // Where the cap leaves no room for the least budget there is, the upstream says so.
        if self.endpoint != Endpoint::Messages || cap <= BUDGET_MIN {
            return;
        }
        for thinking in self.objects(&["thinking"]) {
            for member in self.members_of(&thinking.value) {
                let is_budget = member.kind == Kind::Number && member.name.is(&self.body, "budget_tokens");
                if is_budget && self.exceeds(&member, cap - 1) {
                    let text = (cap - 1).to_string().into_bytes();
                    splices.push(Splice { range: member.value, text });
                }
            }
        }
    }

    /// Puts members that Google's requests lack into the object for them, which is added where there is none.
    fn add_to_config(&self, lacking: &Added<'_>, splices: &mut Vec<Splice>, added: &mut Added<'_>) {
        if lacking.is_empty() {
            return;
        }
        let text = written(lacking);
        // After the comma that is before each.
        let whole = || [b"{", &text[1..], b"}"].concat();
        if let Some(config) = self.objects(GENERATION_CONFIG).next_back() {
            let last = self.members_of(&config.value).last().map(|last| last.value.end);
            let (at, text) = last.map_or((config.value.start + 1, &text[1..]), |end| (end, &text[..]));
            splices.push(Splice { range: at..at, text: text.to_vec() });
        } else if let Some(null) = GENERATION_CONFIG.iter().find_map(|name| self.last(name)) {
            splices.push(Splice { range: null.value.clone(), text: whole() });
        } else {
            added.push((GENERATION_CONFIG[0], whole()));
        }
    }

    fn add_extra<'a>(&self, edits: &Edits<'a>, added: &mut Added<'a>) {
        if matches!(self.endpoint, Endpoint::CountMessageTokens | Endpoint::CountContentTokens) {
            return;
        }
        for (name, value) in edits.extra_body {
            if !self.has(name) && added.iter().all(|(known, _)| !self.is_same(known, name)) {
                added.push((name, value.as_bytes().into()));
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        match self.endpoint.dialect() {
            Dialect::OpenAi | Dialect::Anthropic => self.last(name).is_some(),
            Dialect::Gemini => {
                self.members.iter().any(|member| self.is_same(&member.name.decode(&self.body), name))
            }
        }
    }

    /// Whether two names are of one member; JSON of protocol buffers has each in two spellings, `a_b` and `aB`.
    fn is_same(&self, one: &str, other: &str) -> bool {
        let letters = |name: &str| {
            let name: Vec<u8> = name.bytes().filter(|byte| *byte != b'_').collect();
            name.to_ascii_lowercase()
        };
        one == other || self.endpoint.dialect() == Dialect::Gemini && letters(one) == letters(other)
    }

    fn exceeds(&self, member: &Member, cap: u64) -> bool {
        let Ok(text) = std::str::from_utf8(&self.body[member.value.clone()]) else {
            return false;
        };
        let text = text.trim_matches('"');
        // What is too long for a `u64`, or has a fraction or an exponent, is compared as it would be rounded.
        text.parse::<u64>()
            .map_or_else(|_| text.parse().is_ok_and(|number: f64| number > cap as f64), |n| n > cap)
    }

    fn edit_usage(&self, edits: &Edits<'_>, splices: &mut Vec<Splice>, added: &mut Added<'_>) {
        if !edits.include_usage || !self.is_stream || self.asks_usage {
            return;
        }
        match self.last("stream_options") {
            None => added.push(("stream_options", br#"{"include_usage":true}"#.to_vec())),
            Some(member) if member.kind == Kind::Null => {
                splices.push(Splice {
                    range: member.value.clone(),
                    text: br#"{"include_usage":true}"#.to_vec(),
                });
            }
            Some(member) if member.kind == Kind::Object => self.ask_usage_in(member.value.clone(), splices),
            // The upstream will say what it thinks of it.
            Some(_) => {}
        }
    }

    /// Sets `include_usage` in a `stream_options` object.
    fn ask_usage_in(&self, options: Range<usize>, splices: &mut Vec<Splice>) {
        let mut values = Vec::new();
        let mut last_end = None;
        let mut scanner = Scanner::new(&self.body[options.clone()]);
        let scanned = scanner.object(|scanner, name| {
            let value = scanner.skip()?;
            last_end = Some(options.start + value.end);
            if name.is("include_usage") {
                values.push(options.start + value.start..options.start + value.end);
            }
            Ok(())
        });
        debug_assert!(scanned.is_ok(), "it has been read before");
        if values.is_empty() {
            let (at, comma) = last_end.map_or((options.start + 1, ""), |end| (end, ","));
            let text = format!(r#"{comma}"include_usage":true"#).into_bytes();
            splices.push(Splice { range: at..at, text });
        }
        splices.extend(values.into_iter().map(|range| Splice { range, text: b"true".to_vec() }));
    }
}

/// The words of a string or of an array of strings: what each means, and how it is written.
fn words<'a>(value: &'a [u8]) -> Vec<(Cow<'a, str>, Cow<'a, [u8]>)> {
    let mut words = Vec::new();
    let mut keep = |word: Text<'a>| {
        let literal = &value[word.range().start - 1..word.range().end + 1];
        words.push((word.decode(), Cow::Borrowed(literal)));
    };
    let mut scanner = Scanner::new(value);
    let scanned = match scanner.peek() {
        Ok(Kind::String) => scanner.string().map(keep),
        Ok(Kind::Array) => scanner.array(|scanner| scanner.string().map(&mut keep)),
        _ => Ok(()),
    };
    debug_assert!(scanned.is_ok(), "it has been read before");
    words
}

fn quoted(text: &str) -> Vec<u8> {
    let mut literal = Vec::with_capacity(text.len() + 2);
    quote(text, &mut literal);
    literal
}

/// Writes members to follow others, each with the comma before it.
fn written(added: &Added<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in added {
        text.push(b',');
        quote(name, &mut text);
        text.push(b':');
        text.extend_from_slice(value);
    }
    text
}

/// Cuts the body at the splices and puts their texts between.
fn assemble(body: &Bytes, mut splices: Vec<Splice>) -> Vec<Bytes> {
    splices.sort_by_key(|splice| splice.range.start);
    let mut segments = Vec::with_capacity(2 * splices.len() + 1);
    let mut at = 0;
    for splice in splices {
        if at < splice.range.start {
            segments.push(body.slice(at..splice.range.start));
        }
        if !splice.text.is_empty() {
            segments.push(splice.text.into());
        }
        at = splice.range.end;
    }
    segments.push(body.slice(at..));
    segments
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::json::tests::document;
    use crate::wire::request::tests::read;
    use crate::wire::request::{InPath, decode};

    fn encoded(request: &Request, edits: &Edits<'_>) -> String {
        String::from_utf8(request.encode(edits).concat()).unwrap()
    }

    // parity: 81
    #[test]
    fn an_unedited_body_is_the_clients_own() {
        let body = Bytes::from_static(
            br#" {"temperature":0.70,"x":1e-7,"seed":9007199254740993,"model":"m","model":"m","messages":[{"role":"user","content":"\u00e9"}] } "#,
        );
        let request = decode(Endpoint::ChatCompletions, body.clone(), None).unwrap();
        let segments = request.encode(&Edits { model: Some("m"), include_usage: true, ..Edits::default() });
        assert_eq!(segments.len(), 1);
        assert_eq!(segments[0].as_ptr(), body.as_ptr());
        assert_eq!(segments[0], body);
    }

    /// Edits a completion request that is right but for `members`.
    #[track_caller]
    fn check_edit(edits: &Edits<'_>, members: &str, expected: &str) {
        let request = read(Endpoint::Completions, &format!(r#"{{"model":"m","prompt":""{members} }}"#));
        assert_eq!(encoded(&request, edits), format!(r#"{{"model":"m","prompt":""{expected} }}"#));
    }

    // parity: 110
    #[test]
    fn every_model_member_gets_the_upstreams_name() {
        let request = read(
            Endpoint::Embeddings,
            r#"{"model":5.0e0,"input":[ 0.70 ],"model": "m"}"#.replace("5.0e0", "\"x\"").as_str(),
        );
        let edits =
            Edits { model: Some("up\"stream"), stop: &["s".into()], max_tokens: Some(5), ..Edits::default() };
        assert_eq!(
            encoded(&request, &edits),
            r#"{"model":"up\"stream","input":[ 0.70 ],"model": "up\"stream"}"#
        );
    }

    // parity: 82
    #[test]
    fn stop_words_of_the_configuration_come_first() {
        let words = ["a".to_owned(), "<|end|>".to_owned(), "a".to_owned()];
        let edits = Edits { stop: &words, ..Edits::default() };
        check_edit(&edits, "", r#","stop":["a","<|end|>"]"#);
        check_edit(&edits, r#","stop":null"#, r#","stop":["a","<|end|>"]"#);
        check_edit(&edits, r#","stop":"\u00e9","n":1"#, r#","stop":["a","<|end|>","\u00e9"],"n":1"#);
        check_edit(&edits, r#","stop":[ "b", "\u0061", "b"]"#, r#","stop":["a","<|end|>","b"]"#);
    }

    #[test]
    fn a_very_long_list_of_stop_words_is_merged_in_one_pass() {
        // To compare each word with all before it would keep this test from ending in any reasonable time.
        let own: String = (0..100_000).map(|word| format!("\"w{word}\",")).collect();
        let words = ["w7".to_owned()];
        let edits = Edits { stop: &words, ..Edits::default() };
        let expected =
            format!(r#","stop":["w7",{}"w99999"]"#, own.replace("\"w7\",", "").replace("\"w99999\",", ""));
        check_edit(&edits, &format!(r#","stop":[{own}"w7"]"#), &expected);
    }

    // parity: 83
    #[test]
    fn a_cap_lowers_and_is_the_default() {
        let edits = Edits { max_tokens: Some(100), ..Edits::default() };
        check_edit(&edits, "", r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":null"#, r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":99.5"#, r#","max_tokens":99.5"#);
        check_edit(&edits, r#","max_tokens":101"#, r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":1e3"#, r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":18446744073709551616"#, r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":7,"max_tokens":500"#, r#","max_tokens":7,"max_tokens":100"#);
        check_edit(&edits, r#","max_completion_tokens":1000"#, r#","max_completion_tokens":100"#);
        check_edit(
            &edits,
            r#","max_completion_tokens":5,"max_tokens":1000"#,
            r#","max_completion_tokens":5,"max_tokens":100"#,
        );
    }

    #[test]
    fn a_stream_is_made_to_end_with_usage() {
        let edits = Edits { include_usage: true, ..Edits::default() };
        let check = |options: &str, expected: &str| {
            check_edit(
                &edits,
                &format!(r#","stream":true{options}"#),
                &format!(r#","stream":true{expected}"#),
            );
        };
        let asked = r#","stream_options":{"include_usage":true}"#;
        check("", asked);
        check(r#","stream_options":null"#, asked);
        check(r#","stream_options":{}"#, asked);
        check(r#","stream_options":{"include_usage":false}"#, asked);
        check(r#","stream_options":{"include_usage":null}"#, asked);
        check(r#","stream_options":{ "x":1 }"#, r#","stream_options":{ "x":1,"include_usage":true }"#);
        check(r#","stream_options":5"#, r#","stream_options":5"#);
        check(asked, asked);
        check_edit(&edits, r#","stream":false"#, r#","stream":false"#);
    }

    #[test]
    fn extra_members_are_added_where_they_are_missing() {
        let extra = [("top_k".to_owned(), "0.70".to_owned()), ("max_tokens".to_owned(), "9".to_owned())];
        let edits = Edits { extra_body: &extra, ..Edits::default() };
        check_edit(&edits, "", r#","top_k":0.70,"max_tokens":9"#);
        check_edit(&edits, r#","top_k":null"#, r#","top_k":null,"max_tokens":9"#);
        check_edit(&edits, r#","top\u005fk":1"#, r#","top\u005fk":1,"max_tokens":9"#);
        check_edit(&Edits { max_tokens: Some(5), ..edits }, "", r#","max_tokens":5,"top_k":0.70"#);
    }

    /// Edits a request that is right but for `members`.
    #[track_caller]
    fn check_edit_of(endpoint: Endpoint, edits: &Edits<'_>, members: &str, expected: &str) {
        let body = |members: &str| match endpoint {
            Endpoint::Messages | Endpoint::CountMessageTokens => {
                format!(r#"{{"model":"m","messages":[ {{"role":"user"}} ]{members} }}"#)
            }
            _ => format!(r#"{{"contents":[ {{}} ]{members} }}"#),
        };
        let in_path = InPath { model: "m".into(), is_stream: true, is_array: false };
        let request = decode(endpoint, body(members).into(), Some(in_path)).unwrap();
        assert_eq!(encoded(&request, &Edits { include_usage: true, ..Edits::default() }), body(members));
        assert_eq!(encoded(&request, edits), body(expected));
    }

    // parity: 82, 83
    #[test]
    fn a_request_of_anthropics_is_edited_in_its_words() {
        let (words, extra) = (["a".to_owned()], [("service_tier".to_owned(), "\"auto\"".to_owned())]);
        let edits = Edits {
            stop: &words,
            max_tokens: Some(9),
            extra_body: &extra,
            include_usage: true,
            clean: Clean { trim: true, drop_empty: true, merge_user: true, strip_think: true },
            ..Edits::default()
        };
        let check = |members: &str, expected: &str| {
            check_edit_of(Endpoint::Messages, &edits, &format!(r#","stream":true{members}"#), expected);
        };
        check("", r#","stream":true,"stop_sequences":["a"],"max_tokens":9,"service_tier":"auto""#);
        check(
            r#","max_tokens":10,"stop_sequences":["b","a"],"service_tier":"x""#,
            r#","stream":true,"max_tokens":9,"stop_sequences":["a","b"],"service_tier":"x""#,
        );
        check(
            r#","max_tokens":8,"stop_sequences":null"#,
            r#","stream":true,"max_tokens":8,"stop_sequences":["a"],"service_tier":"auto""#,
        );
        let edits = Edits { max_tokens: Some(2000), ..Edits::default() };
        let check = |max: u64, budget: u64, max_then: u64, budget_then: u64| {
            let members = |max: u64, budget: u64| {
                format!(r#","thinking":{{"type":"enabled","budget_tokens":{budget}}},"max_tokens":{max}"#)
            };
            let expected = members(max_then, budget_then);
            check_edit_of(Endpoint::Messages, &edits, &members(max, budget), &expected);
        };
        check(4000, 3000, 2000, 1999);
        check(4000, 2000, 2000, 1999);
        check(4000, 1999, 2000, 1999);
        check(1900, 1800, 1900, 1800);
        let model = Edits { model: Some("up"), ..Edits::default() };
        let request = read(Endpoint::Messages, r#"{"messages":[{"role":"user"}],"model": "m"}"#);
        assert_eq!(encoded(&request, &model), r#"{"messages":[{"role":"user"}],"model": "up"}"#);
    }

    // parity: 82, 83
    #[test]
    fn a_request_of_googles_is_edited_in_its_words() {
        let (words, extra) = (["a".to_owned()], [("safety_settings".to_owned(), "[]".to_owned())]);
        let edits = Edits { stop: &words, max_tokens: Some(9), ..Edits::default() };
        let check = |members: &str, expected: &str| {
            check_edit_of(Endpoint::GenerateContent, &edits, members, expected);
        };
        let whole = r#","generationConfig":{"stopSequences":["a"],"maxOutputTokens":9}"#;
        check("", whole);
        check(r#","generationConfig":null"#, whole);
        check(
            r#","generationConfig":{ }"#,
            r#","generationConfig":{"stopSequences":["a"],"maxOutputTokens":9 }"#,
        );
        check(
            r#","generation_config":{ "topK":1 }"#,
            r#","generation_config":{ "topK":1,"stopSequences":["a"],"maxOutputTokens":9 }"#,
        );
        check(
            r#","generation_config":{"max_output_tokens":10,"stop_sequences":["b"]}"#,
            r#","generation_config":{"max_output_tokens":9,"stop_sequences":["a","b"]}"#,
        );
        check(
            r#","generationConfig":{"maxOutputTokens":"10","stopSequences":[]}"#,
            r#","generationConfig":{"maxOutputTokens":9,"stopSequences":["a"]}"#,
        );
        check(
            r#","generationConfig":{"maxOutputTokens":20},"generationConfig":{"maxOutputTokens":null}"#,
            r#","generationConfig":{"maxOutputTokens":9},"generationConfig":{"maxOutputTokens":9,"stopSequences":["a"]}"#,
        );
        let edits = Edits { extra_body: &extra, ..Edits::default() };
        check_edit_of(Endpoint::GenerateContent, &edits, "", r#","safety_settings":[]"#);
        let own = r#","safetySettings":[1]"#;
        check_edit_of(Endpoint::GenerateContent, &edits, own, own);
    }

    #[test]
    fn what_only_counts_tokens_gets_no_bounds() {
        let (words, extra) = (["a".to_owned()], [("x".to_owned(), "1".to_owned())]);
        let edits = Edits { stop: &words, max_tokens: Some(9), extra_body: &extra, ..Edits::default() };
        check_edit_of(Endpoint::CountMessageTokens, &edits, "", "");
        check_edit_of(Endpoint::CountContentTokens, &edits, "", "");
    }

    #[test]
    fn a_model_that_googles_bodies_repeat_gets_the_upstreams_name() {
        let edits = Edits { model: Some("up"), ..Edits::default() };
        let check = |endpoint: Endpoint, body: &'static str, expected: &str| {
            let in_path = InPath { model: "m".into(), is_stream: false, is_array: false };
            let request = decode(endpoint, body.into(), Some(in_path)).unwrap();
            assert_eq!(encoded(&request, &Edits { model: Some("m"), ..edits }), body);
            assert_eq!(encoded(&request, &edits), expected);
        };
        check(Endpoint::GenerateContent, r#"{"contents":[{}]}"#, r#"{"contents":[{}]}"#);
        check(
            Endpoint::EmbedContent,
            r#"{"model":"models\/m","content":{}}"#,
            r#"{"model":"models/up","content":{}}"#,
        );
        check(
            Endpoint::BatchEmbedContents,
            r#"{"requests":[ {"model":"models/m","content":{}}, {"content":{},"model": "m"}, {"model":5}, 6 ]}"#,
            r#"{"requests":[ {"model":"models/up","content":{}}, {"content":{},"model": "up"}, {"model":5}, 6 ]}"#,
        );
        check(
            Endpoint::CountContentTokens,
            r#"{"generateContentRequest":{"model":"models/m"}}"#,
            r#"{"generateContentRequest":{"model":"models/up"}}"#,
        );
    }

    /// The members that a request must have, each after a comma.
    fn required(endpoint: Endpoint) -> &'static str {
        match endpoint {
            Endpoint::ChatCompletions | Endpoint::Messages | Endpoint::CountMessageTokens => {
                r#","messages":[{"role":"user"}]"#
            }
            Endpoint::GenerateContent | Endpoint::CountContentTokens => r#","contents":[{}]"#,
            Endpoint::EmbedContent => r#","content":{}"#,
            Endpoint::BatchEmbedContents => r#","requests":[{"model":"models/m"}]"#,
            Endpoint::Rerank => r#","query":"q","documents":[]"#,
            Endpoint::Score => r#","text_1":"a","text_2":"b""#,
            _ => r#","prompt":"p","input":"i""#,
        }
    }

    proptest! {
        // parity: 81
        #[test]
        fn edits_touch_nothing_else(
            before in prop::collection::vec(document(), 0..3),
            after in prop::collection::vec(document(), 0..3),
        ) {
            let members = |values: &[String], name: &str| -> String {
                values.iter().enumerate().map(|(index, value)| format!("\"{name}{}\" : {value} ,", index % 2)).collect()
            };
            let body = |model: &str, added: &str| format!(
                r#"{{ {} "model":"{model}", {} "prompt":"\u00e9"{added} }} "#,
                members(&before, "x"), members(&after, "y"),
            );
            let request = read(Endpoint::Completions, &body("m", ""));
            prop_assert_eq!(encoded(&request, &Edits::default()), body("m", ""));
            let extra = [("z".to_owned(), "0.70".to_owned())];
            let edits = Edits { model: Some("up"), max_tokens: Some(7), extra_body: &extra, ..Edits::default() };
            prop_assert_eq!(encoded(&request, &edits), body("up", r#","max_tokens":7,"z":0.70"#));
        }

        #[test]
        fn nothing_panics(
            endpoint in prop::sample::select(Endpoint::ALL.to_vec()),
            members in prop::collection::vec((prop::sample::select(vec![
                "model", "messages", "stream", "stream_options", "stop", "max_tokens", "prompt", "input", "query",
                "documents", "text_1", "text_2", "tools", "system", "stop_sequences", "contents", "generationConfig",
                "generation_config", "systemInstruction", "system_instruction", "content", "requests",
                "generateContentRequest",
            ]), prop_oneof![document(), prop::sample::select(vec![
                "\"m\"", "true", "null", "5", "[\"a\"]", "{\"include_usage\":0}",
                "[{\"role\":\"user\",\"content\":\" x\"},{\"content\":[{\"text\":\"\"}],\"role\":\"user\"}]",
                "[{\"role\":\"assistant\",\"content\":\"<think>a</think>\"},{\"role\":\"user\"},{\"role\":\"a\",\"content\":5}]",
                "{\"parts\":[{\"text\":\"a\"},{\"functionResponse\":{}}]}", "[{\"model\":\"models/m\"}]", "{\"model\":\"m\"}",
                "{\"maxOutputTokens\":9,\"stop_sequences\":[\"a\"]}", "{\"max_output_tokens\":null}",
                "[{\"type\":\"text\",\"text\":\"s\"}]",
            ]).prop_map(str::to_owned)]), 0..8),
            (trim, drop_empty, merge_user, strip_think) in any::<(bool, bool, bool, bool)>(),
        ) {
            // What a request must have comes first, so that many of these are requests.
            let mut body = format!(r#"{{"model":"m"{}"#, required(endpoint));
            for (name, value) in members {
                body.push_str(&format!(r#","{name}":{value}"#));
            }
            body.push('}');
            if let Ok(request) = decode(endpoint, body.clone().into(), None) {
                request.prompt(true);
                request.output_max();
                prop_assert_eq!(encoded(&request, &Edits::default()), body);
                let edits = Edits {
                    model: Some("up"),
                    stop: &["s".to_owned()],
                    max_tokens: Some(3),
                    extra_body: &[("n".to_owned(), "1".to_owned())],
                    include_usage: true,
                    clean: Clean { trim, drop_empty, merge_user, strip_think },
                };
                let edited = request.encode(&edits).concat();
                let edited = decode(endpoint, edited.into(), None).expect("an edited request is still one");
                prop_assert_eq!(edited.model(), "up");
                if vocabulary(endpoint).is_some() {
                    prop_assert!(edited.output_max().is_some_and(|max| max <= 3));
                }
            }
        }
    }
}
