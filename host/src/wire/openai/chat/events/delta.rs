//! What a `delta` of a stream, or the `message` of a whole answer, says.

use std::borrow::Cow;

use crate::chat::{Citation, Event, Raw, Signature, TokenLogprob};
use crate::wire::Surface;
use crate::wire::json::{Kind, Scanner};
use crate::wire::openai::chat::events::elements;
use crate::wire::openai::view::{Scan, string};

/// A `delta` or `message`.
#[derive(Debug, Default)]
pub(super) struct Delta<'a> {
    /// Whether it is the whole message.
    pub(super) is_whole: bool,
    /// The thinking as text.
    pub(super) thinking: Option<Cow<'a, str>>,
    /// The thinking in blocks.
    pub(super) blocks: Vec<Block<'a>>,
    /// What the content says.
    pub(super) said: Vec<Said>,
    pub(super) citations: Vec<Citation>,
    pub(super) refusal: Option<Cow<'a, str>>,
    pub(super) calls: Vec<Call<'a>>,
}

/// A stretch of the content; Mistral's has thinking in it.
#[derive(Debug)]
pub(super) enum Said {
    Thinking(String),
    Text(String),
}

/// A block of thinking, or a piece of one.
#[derive(Debug, Default)]
pub(super) struct Block<'a> {
    text: Cow<'a, str>,
    signature: Option<Cow<'a, str>>,
    /// What only the vendor can read.
    data: Option<Cow<'a, str>>,
}

/// A piece of a call of a tool.
#[derive(Debug, Default)]
pub(super) struct Call<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) arguments: Option<Cow<'a, str>>,
    pub(super) signature: Option<Cow<'a, str>>,
}

impl<'a> Delta<'a> {
    pub(super) fn read(scanner: &mut Scanner<'a>) -> Scan<Self> {
        let mut delta = Self::default();
        let mut reasoning = None;
        let mut transcript = None;
        scanner.members(|scanner, name| {
            match name.raw() {
                "content" => delta.said = content(scanner)?,
                "reasoning_content" => delta.thinking = string(scanner)?,
                "reasoning" => reasoning = string(scanner)?,
                "thinking_blocks" => delta.blocks = elements(scanner, Block::read)?,
                "refusal" => delta.refusal = string(scanner)?,
                "annotations" => {
                    delta.citations = elements(scanner, citation)?.into_iter().flatten().collect()
                }
                "tool_calls" => delta.calls.append(&mut elements(scanner, Call::read)?),
                "function_call" if scanner.peek()? == Kind::Object => {
                    delta.calls.push(Call::function(scanner)?)
                }
                "audio" => transcript = member(scanner, "transcript")?,
                _ => return scanner.skip().map(drop),
            }
            Ok(())
        })?;
        // vLLM and OpenRouter send the same under both names for a time.
        delta.thinking = delta.thinking.filter(|text| !text.is_empty()).or(reasoning);
        if delta.said.is_empty() {
            delta
                .said
                .extend(transcript.filter(|text| !text.is_empty()).map(|text| Said::Text(text.into_owned())));
        }
        Ok(delta)
    }
}

/// Reads the content: a text, or a list of parts.
fn content(scanner: &mut Scanner<'_>) -> Scan<Vec<Said>> {
    match scanner.peek()? {
        Kind::String => {
            let text = scanner.string()?;
            Ok(if text.raw().is_empty() { Vec::new() } else { vec![Said::Text(text.decode().into_owned())] })
        }
        Kind::Array => Ok(elements(scanner, part)?.into_iter().flatten().collect()),
        _ => scanner.skip().map(|_| Vec::new()),
    }
}

/// Reads a part of the content that is text or, as Mistral has it, thinking with texts in it.
fn part(scanner: &mut Scanner<'_>) -> Scan<Option<Said>> {
    let (mut text, mut thinking) = (None, None);
    scanner.members(|scanner, name| {
        match name.raw() {
            "text" => text = string(scanner)?,
            "thinking" if scanner.peek()? == Kind::Array => {
                let texts = elements(scanner, |scanner| member(scanner, "text"))?;
                thinking = Some(texts.into_iter().flatten().collect::<String>());
            }
            "thinking" => thinking = string(scanner)?.map(Cow::into_owned),
            _ => return scanner.skip().map(drop),
        }
        Ok(())
    })?;
    let said = thinking.map(Said::Thinking).or_else(|| text.map(|text| Said::Text(text.into_owned())));
    Ok(said)
}

/// Reads one member of an object, if it is a string.
fn member<'a>(scanner: &mut Scanner<'a>, wanted: &str) -> Scan<Option<Cow<'a, str>>> {
    let mut found = None;
    scanner.members(|scanner, name| {
        if name.is(wanted) {
            found = string(scanner)?;
            return Ok(());
        }
        scanner.skip().map(drop)
    })?;
    Ok(found)
}

impl<'a> Block<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Scan<Self> {
        let mut block = Self::default();
        scanner.members(|scanner, name| {
            match name.raw() {
                "thinking" => block.text = string(scanner)?.unwrap_or_default(),
                "signature" => block.signature = string(scanner)?.filter(|text| !text.is_empty()),
                "data" => block.data = string(scanner)?.filter(|text| !text.is_empty()),
                _ => return scanner.skip().map(drop),
            }
            Ok(())
        })?;
        Ok(block)
    }

    /// Whether it has thinking that can be read.
    pub(super) fn has_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// Tells it; `is_known` says that its text has been told, `is_whole` that nothing of it is still to come.
    pub(super) fn tell(&self, choice: u32, is_known: bool, is_whole: bool, out: &mut Vec<Event>) {
        let signature = |text: &str| Signature::read_from(Surface::Chat, text);
        if self.has_text() && !is_known {
            out.push(Event::Thinking { choice, text: self.text.clone().into_owned() });
            out.extend((is_whole && self.signature.is_none()).then_some(Event::PartEnd { choice }));
        }
        if let Some(text) = &self.signature {
            out.push(Event::Signature { choice, signature: signature(text) });
        }
        if let Some(data) = &self.data {
            out.push(Event::RedactedThinking { choice, data: signature(data) });
        }
    }
}

impl<'a> Call<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Scan<Self> {
        let mut call = Self::default();
        scanner.members(|scanner, name| {
            match name.raw() {
                "index" => call.index = scanner.count()?,
                "id" => call.id = string(scanner)?,
                "function" => call.read_function(scanner)?,
                "extra_content" => scanner.members(|scanner, name| {
                    if name.is("google") {
                        call.signature = member(scanner, "thought_signature")?;
                        return Ok(());
                    }
                    scanner.skip().map(drop)
                })?,
                _ => return scanner.skip().map(drop),
            }
            Ok(())
        })?;
        Ok(call)
    }

    /// Its id, if the upstream gives it one.
    pub(super) fn said_id(&self) -> Option<&str> {
        self.id.as_deref().filter(|id| !id.is_empty())
    }

    /// Reads the only call of the time before there were several.
    fn function(scanner: &mut Scanner<'a>) -> Scan<Self> {
        let mut call = Self { index: Some(0), ..Self::default() };
        call.read_function(scanner)?;
        Ok(call)
    }

    fn read_function(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        scanner.members(|scanner, name| {
            match name.raw() {
                "name" => self.name = string(scanner)?,
                // Some give the object instead of its text.
                "arguments" if scanner.peek()? == Kind::Object => {
                    let range = scanner.skip()?;
                    self.arguments = Some(Cow::Borrowed(scanner.slice(range)));
                }
                "arguments" => self.arguments = string(scanner)?,
                _ => return scanner.skip().map(drop),
            }
            Ok(())
        })
    }
}

/// Reads an annotation that is a citation of a page.
fn citation(scanner: &mut Scanner<'_>) -> Scan<Option<Citation>> {
    if scanner.peek()? != Kind::Object {
        return scanner.skip().map(|_| None);
    }
    let mut citation = None;
    let start = scanner.position();
    scanner.members(|scanner, name| {
        if name.is("url_citation") {
            citation = Some(page(scanner)?);
            return Ok(());
        }
        scanner.skip().map(drop)
    })?;
    let original = Raw::new(scanner.slice(start..scanner.position()));
    if let (Some(citation), Some(original)) = (&mut citation, original) {
        citation.original = Some((Surface::Chat, original));
    }
    Ok(citation)
}

fn page(scanner: &mut Scanner<'_>) -> Scan<Citation> {
    let mut citation = Citation::default();
    let (mut start, mut end) = (None, None);
    scanner.members(|scanner, name| {
        match name.raw() {
            "url" => citation.url = string(scanner)?.map(Cow::into_owned),
            "title" => citation.title = string(scanner)?.map(Cow::into_owned),
            // OpenRouter's.
            "content" => citation.quoted = string(scanner)?.map(Cow::into_owned),
            "start_index" => start = scanner.count()?,
            "end_index" => end = scanner.count()?,
            _ => return scanner.skip().map(drop),
        }
        Ok(())
    })?;
    citation.range = start.zip(end).filter(|(start, end)| start < end);
    Ok(citation)
}

/// Reads the probabilities of tokens, of the content and of a refusal.
pub(super) fn logprobs(scanner: &mut Scanner<'_>) -> Scan<Vec<TokenLogprob>> {
    let mut tokens = Vec::new();
    scanner.members(|scanner, name| {
        match name.raw() {
            "content" | "refusal" => tokens.append(&mut elements(scanner, token)?),
            _ => return scanner.skip().map(drop),
        }
        Ok(())
    })?;
    Ok(tokens)
}

fn token(scanner: &mut Scanner<'_>) -> Scan<TokenLogprob> {
    let mut token = TokenLogprob::default();
    scanner.members(|scanner, name| {
        match name.raw() {
            "token" => token.token = string(scanner)?.unwrap_or_default().into_owned(),
            "logprob" => token.logprob = number(scanner)?,
            "top_logprobs" => {
                let top = elements(scanner, self::token)?;
                token.top = top.into_iter().map(|token| (token.token, token.logprob)).collect();
            }
            _ => return scanner.skip().map(drop),
        }
        Ok(())
    })?;
    Ok(token)
}

/// Reads a number; what is none is 0.
fn number(scanner: &mut Scanner<'_>) -> Scan<f64> {
    let range = scanner.skip()?;
    let number = scanner.slice(range).parse::<f64>().ok().filter(|number| number.is_finite());
    Ok(number.unwrap_or_default())
}
