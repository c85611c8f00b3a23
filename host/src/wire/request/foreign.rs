//! What only another vendor can check, taken out of a request that is forwarded as it came.
//!
//! A client whose conversation has moved between upstreams holds signatures of one vendor's for it, and sends them to every
//! upstream. Conversion leaves them out; here it is done for requests that need none. Nearly none has any, and those are
//! not read for it.

use std::ops::Range;

use bytes::Bytes;

use crate::chat::Signature;
use crate::wire::gemini::content::is_foreign_signature;
use crate::wire::json::{Kind, Scanner, SyntaxError};
use crate::wire::{Dialect, Endpoint, Surface};

use super::edit::Splice;

/// Citations that the gateway has written for what another vendor found; Anthropic's own are never without an index.
const WEB_CITATION: &str = "web_search_result_location";

/// How signatures of another vendor's begin, as they stand in Anthropic's requests.
const MARKS: [&[u8]; 3] = [b"\"chat#", b"\"responses#", b"\"gemini#"];

/// The same in Google's, in base64, as far as it does not depend on what follows.
const MARKS_BASE64: [&[u8]; 3] = [b"\"Y2hhdC", b"\"cmVzcG9uc2VzI", b"\"bWVzc2FnZXMj"];

/// Members that are empty only where the gateway has written them.
const PROOFS: [&[u8]; 2] = [b"\"signature\"", b"\"encrypted_index\""];

/// What Google takes in the place of a signature for a call that another model has made.
///
/// Source: Gemini API documentation, "Thought signatures", seen 2026-11.
const NO_SIGNATURE: &[u8] = br#""skip_thought_signature_validator""#;

type Scan<T> = Result<T, SyntaxError>;

/// Whether there may be anything to take out of a request.
pub(super) fn is_suspected(endpoint: Endpoint, body: &Bytes) -> bool {
    let has = |mark: &[u8]| memchr::memmem::find(body, mark).is_some();
    match endpoint {
        Endpoint::Messages | Endpoint::CountMessageTokens => {
            MARKS.into_iter().any(has) || PROOFS.into_iter().any(|name| has_empty(body, name))
        }
        Endpoint::GenerateContent | Endpoint::CountContentTokens => MARKS_BASE64.into_iter().any(has),
        _ => false,
    }
}

/// Whether a member of this name is an empty text anywhere.
fn has_empty(body: &[u8], name: &[u8]) -> bool {
    memchr::memmem::find_iter(body, name).any(|at| {
        let value = body[at + name.len()..].trim_ascii_start().strip_prefix(b":");
        value.is_some_and(|value| value.trim_ascii_start().starts_with(br#""""#))
    })
}

/// The splices that take it out of the messages or contents at `list`.
pub(super) fn splices(dialect: Dialect, body: &[u8], list: Range<usize>) -> Vec<Splice> {
    let mut cut = Cut { body, dialect, splices: Vec::new() };
    let mut scanner = Scanner::new(&body[list.clone()]);
    let scanned = match scanner.peek() {
        Ok(Kind::Array) => cut.list(list, |cut, turn| cut.turn(turn)).map(drop),
        // Google's servers take one content for a list of one.
        Ok(Kind::Object) => cut.turn(list).map(drop),
        _ => Ok(()),
    };
    debug_assert!(scanned.is_ok(), "it has been read before");
    cut.splices
}

struct Cut<'a> {
    body: &'a [u8],
    dialect: Dialect,
    splices: Vec<Splice>,
}

/// A member of an object: where it begins with its name, and its value.
struct Member<'a> {
    name: std::borrow::Cow<'a, str>,
    start: usize,
    value: Range<usize>,
}

impl<'a> Cut<'a> {
    /// Goes through a list, and takes out the elements for which `is_kept` is false; false if there were some, and all of
    /// them are.
    fn list(
        &mut self,
        list: Range<usize>,
        mut is_kept: impl FnMut(&mut Self, Range<usize>) -> Scan<bool>,
    ) -> Scan<bool> {
        let mut elements = Vec::new();
        Scanner::new(&self.body[list.clone()]).array(|scanner| {
            let range = scanner.skip()?;
            elements.push(list.start + range.start..list.start + range.end);
            Ok(())
        })?;
        let before = self.splices.len();
        let mut kept = Vec::with_capacity(elements.len());
        for element in elements {
            let inside = self.splices.len();
            let keeps = is_kept(self, element.clone())?;
            // What is taken out as a whole needs no edits inside.
            self.splices.truncate(if keeps { self.splices.len() } else { inside });
            kept.push((element, keeps));
        }
        if kept.iter().all(|(_, keeps)| !keeps) {
            self.splices.truncate(before);
            return Ok(kept.is_empty());
        }
        self.splices.extend(gaps(&kept).map(removal));
        Ok(true)
    }

    /// The members of an object; none of anything else.
    fn members(&self, object: Range<usize>) -> Scan<Vec<Member<'a>>> {
        let body = self.body;
        let mut members = Vec::new();
        Scanner::new(&body[object.clone()]).members(|scanner, name| {
            // The text without its quotes.
            let start = object.start + name.range().start - 1;
            let value = scanner.skip()?;
            let value = object.start + value.start..object.start + value.end;
            members.push(Member { name: name.decode(), start, value });
            Ok(())
        })?;
        Ok(members)
    }

    /// Edits a message or content; false if nothing is left of it.
    fn turn(&mut self, turn: Range<usize>) -> Scan<bool> {
        let name = if self.dialect == Dialect::Gemini { "parts" } else { "content" };
        let members = self.members(turn)?;
        let Some(list) = members.into_iter().rfind(|member| member.name == name) else { return Ok(true) };
        match (self.kind(&list.value), self.dialect) {
            (Kind::Array, Dialect::Gemini) => self.list(list.value, |cut, part| cut.part(part)),
            (Kind::Object, Dialect::Gemini) => self.part(list.value),
            (Kind::Array, _) => self.list(list.value, |cut, block| cut.block(block)),
            _ => Ok(true),
        }
    }

    fn kind(&self, value: &Range<usize>) -> Kind {
        Scanner::new(&self.body[value.clone()]).peek().unwrap_or(Kind::Null)
    }

    /// The text of a member, the last of those of the names; none if it is no text.
    fn text(&self, members: &[Member<'a>], names: &[&str]) -> Option<std::borrow::Cow<'a, str>> {
        let member = members.iter().rfind(|member| names.contains(&&*member.name))?;
        Scanner::new(&self.body[member.value.clone()]).string().ok().map(|text| text.decode())
    }

    /// Edits a block of Anthropic's; false if it is to be left out.
    fn block(&mut self, block: Range<usize>) -> Scan<bool> {
        let members = self.members(block)?;
        let text = |name| self.text(&members, &[name]);
        let is_foreign =
            |text: &str| Signature::read_from(Surface::Messages, text).surface != Surface::Messages;
        match text("type").as_deref() {
            Some("thinking") => {
                let proof = text("signature");
                Ok(!proof.is_some_and(|proof| proof.is_empty() || is_foreign(&proof)))
            }
            Some("redacted_thinking") => Ok(!text("data").is_some_and(|data| is_foreign(&data))),
            Some("text") => {
                let citations = members.iter().position(|member| member.name == "citations");
                let Some(at) = citations.filter(|at| self.kind(&members[*at].value) == Kind::Array) else {
                    return Ok(true);
                };
                if !self.list(members[at].value.clone(), |cut, citation| cut.citation(citation))? {
                    self.remove_member(&members, at);
                }
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// Whether a citation is one that Anthropic can take back.
    fn citation(&mut self, citation: Range<usize>) -> Scan<bool> {
        let members = self.members(citation)?;
        let text = |name| self.text(&members, &[name]);
        let is_web = text("type").as_deref() == Some(WEB_CITATION);
        Ok(!is_web || text("encrypted_index").is_none_or(|index| !index.is_empty()))
    }

    /// Edits a part of Google's; false if it is to be left out: nothing but a foreign signature.
    fn part(&mut self, part: Range<usize>) -> Scan<bool> {
        const NAMES: [&str; 2] = ["thoughtSignature", "thought_signature"];
        let members = self.members(part)?;
        let Some(at) = members.iter().rposition(|member| NAMES.contains(&&*member.name)) else {
            return Ok(true);
        };
        if !self.text(&members, &NAMES).is_some_and(|text| is_foreign_signature(&text)) {
            return Ok(true);
        }
        if members.iter().any(|member| matches!(&*member.name, "functionCall" | "function_call")) {
            let range = members[at].value.clone();
            self.splices.push(Splice { range, text: NO_SIGNATURE.to_vec() });
            return Ok(true);
        }
        let is_said = |member: &Member<'_>| match &*member.name {
            "text" => self.body[member.value.clone()] != *br#""""#,
            name => name != "thought" && !NAMES.contains(&name),
        };
        if !members.iter().any(is_said) {
            return Ok(false);
        }
        self.remove_member(&members, at);
        Ok(true)
    }

    fn remove_member(&mut self, members: &[Member<'_>], at: usize) {
        let kept = members.iter().enumerate();
        let kept: Vec<_> =
            kept.map(|(other, member)| (member.start..member.value.end, other != at)).collect();
        self.splices.extend(gaps(&kept).map(removal));
    }
}

fn removal(range: Range<usize>) -> Splice {
    Splice { range, text: Vec::new() }
}

/// What has to go so that only the kept ones of a list are left, with one comma between two of them.
fn gaps(elements: &[(Range<usize>, bool)]) -> impl Iterator<Item = Range<usize>> {
    let first = elements.iter().position(|(_, keeps)| *keeps);
    elements.iter().enumerate().filter(|(_, (_, keeps))| !keeps).map(move |(at, (range, _))| {
        let is_before = first.is_none_or(|first| at < first);
        // Before the first that is kept up to the next one, behind it from the end of the last one.
        let start = if is_before || at == 0 { range.start } else { elements[at - 1].0.end };
        let end = if is_before {
            elements.get(at + 1).map_or(range.end, |(next, _)| next.start)
        } else {
            range.end
        };
        start..end
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::Edits;
    use crate::wire::request::tests::read;

    #[track_caller]
    fn check(endpoint: Endpoint, member: &str, list: &str, expected: &str) {
        let body = |list: &str| format!(r#"{{"model":"m","max_tokens":9,"{member}":{list}}}"#);
        let request = read(endpoint, &body(list));
        let written = request.encode(&Edits::default()).concat();
        assert_eq!(String::from_utf8(written).unwrap(), body(expected));
    }

    #[track_caller]
    fn check_blocks(blocks: &str, expected: &str) {
        let message = |blocks: &str| {
            format!(r#"[{{"role":"user","content":"a"}}, {{"role":"assistant","content":[ {blocks} ]}}]"#)
        };
        check(Endpoint::Messages, "messages", &message(blocks), &message(expected));
        check(Endpoint::CountMessageTokens, "messages", &message(blocks), &message(expected));
    }

    // parity: 104
    #[test]
    fn thinking_of_another_vendors_is_not_forwarded_to_anthropic() {
        let text = r#"{"type":"text","text":"chat#"}"#;
        for foreign in [
            r#"{"type":"thinking","thinking":"hm","signature":"gemini#abc"}"#,
            r#"{"type":"thinking","thinking":"hm","signature":""}"#,
            r#"{"signature" : "" ,"type":"thinking","thinking":"hm"}"#,
            r#"{"type":"thinking","thinking":"","signature":"chat#x"}"#,
            r#"{"type":"redacted_thinking","data":"responses#x"}"#,
        ] {
            check_blocks(&format!("{foreign}, {text}"), text);
            check_blocks(&format!("{text} , {foreign}"), text);
            check_blocks(
                &format!("{foreign},{foreign}, {text} ,{foreign}, {text}, {foreign}"),
                &format!("{text}, {text}"),
            );
        }
        // Nothing is left to say.
        check(
            Endpoint::Messages,
            "messages",
            r#"[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""}]},{"role":"user","content":"b"}]"#,
            r#"[{"role":"user","content":"a"},{"role":"user","content":"b"}]"#,
        );
    }

    // parity: 104
    #[test]
    fn citations_of_another_vendors_are_not_forwarded_to_anthropic() {
        let foreign = r#"{"type":"web_search_result_location","encrypted_index":"","url":"u"}"#;
        let own = r#"{"type":"web_search_result_location","encrypted_index":"x","url":"u"}"#;
        let text = |citations: &str| format!(r#"{{"type":"text","citations":[{citations}],"text":"a"}}"#);
        check_blocks(&text(&format!("{foreign},{own}")), &text(own));
        check_blocks(&text(foreign), r#"{"type":"text","text":"a"}"#);
    }

    // parity: 81
    #[test]
    fn what_is_the_vendors_own_is_forwarded_byte_for_byte() {
        let own = r#" {"type" : "thinking","thinking":"hm","signature":"Ev#gemini#x"},{"type":"redacted_thinking","data":"x"},{"type":"thinking","thinking":"a","signature":null} "#;
        check_blocks(own, own);
        let tool = r#"{"type":"tool_use","id":"t","name":"f","input":{"signature":"","type":"thinking","x":"gemini#"}}"#;
        check_blocks(tool, tool);
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{own}]}}]}}"#);
        assert_eq!(read(Endpoint::Messages, &body).encode(&Edits::default()).len(), 1);
    }

    #[track_caller]
    fn check_parts(parts: &str, expected: &str) {
        let contents = |parts: &str| {
            format!(r#"[{{"role":"user","parts":[{{"text":"a"}}]}},{{"role":"model","parts":[{parts}]}}]"#)
        };
        check(Endpoint::GenerateContent, "contents", &contents(parts), &contents(expected));
        check(Endpoint::CountContentTokens, "contents", &contents(parts), &contents(expected));
    }

    // parity: 104
    #[test]
    fn signatures_of_another_vendors_are_not_forwarded_to_google() {
        use base64::Engine;
        for foreign in ["messages#abc", "messages##abc", "chat#a", "responses#é?>"] {
            let foreign = base64::engine::general_purpose::STANDARD.encode(foreign);
            let name = "thoughtSignature";
            check_parts(
                &format!(r#"{{"text":"hm","thought":true,"{name}":"{foreign}"}},{{"text":"b"}}"#),
                r#"{"text":"hm","thought":true},{"text":"b"}"#,
            );
            check_parts(
                &format!(r#"{{"thought_signature":"{foreign}","text":"","thought":true}},{{"text":"b"}}"#),
                r#"{"text":"b"}"#,
            );
            check_parts(
                &format!(r#"{{"{name}":"{foreign}","functionCall":{{"name":"f"}}}}"#),
                r#"{"thoughtSignature":"skip_thought_signature_validator","functionCall":{"name":"f"}}"#,
            );
        }
        let own = r#"{"thoughtSignature":"Y2hhdCA=","functionCall":{"name":"f","args":{"thoughtSignature":"bWVzc2FnZXMj"}}}"#;
        check_parts(own, own);
    }

    // parity: 104
    #[test]
    fn edits_of_the_operators_and_those_go_together() {
        let body = r#"{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"gemini#"},{"type":"text","text":"a"}]}],"model":"m"}"#;
        let edits = Edits { model: Some("n"), ..Edits::default() };
        let written = read(Endpoint::Messages, body).encode(&edits).concat();
        let expected =
            r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"a"}]}],"model":"n"}"#;
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
