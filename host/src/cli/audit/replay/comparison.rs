//! Two messages as lines, and in which of them they differ.

use std::time::Duration;

use similar::TextDiff;

use crate::cli::audit::outline::{Measure, Tree};
use crate::headers::Kind;
use crate::wire::Endpoint;
use crate::wire::openai::assemble::Assembly;
use crate::wire::openai::disassemble::UNIQUE_MEMBERS;

/// How long a good difference is looked for; after that any will do.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(5);
/// The most bytes that the events of a stream are put together to.
const ASSEMBLED_BYTES_MAX: usize = 64 << 20;

/// A message that is to be compared.
pub(super) struct Comparison<'a> {
    /// What it is the answer of; none if it is none.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) body: &'a [u8],
    pub(super) kind: Kind,
    /// Whether its usage counts: what is stored of a stream has one although the client may have been told none.
    pub(super) with_usage: bool,
}

impl Comparison<'_> {
    /// The message in lines: a stream as the whole answer that it amounts to, JSON as an outline without what is
    /// different each time.
    pub(super) fn text(&self) -> String {
        let text = match (self.kind, self.endpoint) {
            (Kind::EventStream, Some(endpoint)) => {
                let mut assembly = Assembly::new(endpoint, ASSEMBLED_BYTES_MAX);
                assembly.push(self.body);
                assembly.finish(None).body
            }
            _ => String::from_utf8_lossy(self.body).into_owned(),
        };
        match Tree::parse(&text) {
            Some(tree) => {
                let usage = (!self.with_usage).then_some("usage");
                let passed_over: Vec<&str> = UNIQUE_MEMBERS.into_iter().chain(usage).collect();
                tree.sorted_without(&passed_over).outline(0, Measure::Whole)
            }
            None if text.is_empty() || text.ends_with('\n') => text,
            None => text + "\n",
        }
    }
}

/// The lines in which two texts differ, with those around them; none if they are the same.
pub(super) fn differences(before_name: &str, before: &str, after_name: &str, after: &str) -> Option<String> {
    if before == after {
        return None;
    }
    let diff = TextDiff::configure().timeout(SEARCH_TIME_MAX).diff_lines(before, after);
    Some(diff.unified_diff().header(before_name, after_name).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &str, after: &str, expected: Option<&str>) {
        let text = |body: &str| {
            let (endpoint, body) = (Some(Endpoint::ChatCompletions), body.as_bytes());
            Comparison { endpoint, body, kind: Kind::Json, with_usage: true }.text()
        };
        assert_eq!(differences("a", &text(before), "b", &text(after)).as_deref(), expected);
    }

    #[test]
    fn what_differs_is_shown_and_nothing_else() {
        check(r#"{"id":1,"b":1,"a":2}"#, r#"{"a":2,"b":1,"id":2}"#, None);
        check(
            r#"{"text":"one\ntwo\nthree"}"#,
            r#"{"text":"one\n2\nthree"}"#,
            Some("--- a\n+++ b\n@@ -1,4 +1,4 @@\n text: |\n   one\n-  two\n+  2\n   three\n"),
        );
        check("plain", "text", Some("--- a\n+++ b\n@@ -1 +1 @@\n-plain\n+text\n"));
    }

    #[test]
    fn a_stream_is_compared_with_a_whole_answer() {
        let body = b"data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"he\"}}]}\n\ndata: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"llo\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        let (endpoint, kind) = (Some(Endpoint::ChatCompletions), Kind::EventStream);
        let stream = Comparison { endpoint, body, kind, with_usage: false };
        assert!(stream.text().contains("content: hello"), "{}", stream.text());
    }
}
