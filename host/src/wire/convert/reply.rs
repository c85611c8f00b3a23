//! A whole answer as the stream that it would have been, and the way back.

use crate::chat::{Choice, Content, Event, Extra, Part, Reply, Signature, TokenLogprob};
use crate::wire::Surface;

/// How many bytes a part, a probability or a citation counts for besides its texts.
const PIECE_BYTES: usize = 64;

/// Writes a whole answer as the stream that it would have been. What a stream has no steps for is left out: pictures, what
/// rides along, marks for the cache.
pub fn events_of(reply: &Reply) -> Vec<Event> {
    let mut events = vec![Event::Start {
        id: reply.id.clone(),
        model: reply.model.clone(),
        created_unix_s: reply.created_unix_s,
        usage: reply.usage,
    }];
    for choice in &reply.choices {
        events_of_choice(choice, &mut events);
    }
    events.extend(reply.usage.map(Event::Usage));
    events.push(Event::End);
    events
}

fn events_of_choice(choice: &Choice, events: &mut Vec<Event>) {
    let index = choice.index;
    let mut calls = 0;
    let mut before: Option<&Content> = None;
    let logprobs = Some(&choice.logprobs).filter(|tokens| !tokens.is_empty());
    let mut logprobs = logprobs.map(|tokens| Event::Logprobs { choice: index, tokens: tokens.clone() });
    // Probabilities are of the text: they stand right behind the last of it, before what follows the text.
    let weighed = choice.parts.iter().rposition(|part| matches!(part.content, Content::Text { .. }));
    for (place, part) in choice.parts.iter().enumerate() {
        let content = &part.content;
        if before.is_some_and(|before| is_joined(before, content)) {
            events.push(Event::PartEnd { choice: index });
        }
        events_of_part(index, content, &mut calls, events);
        events.extend(logprobs.take_if(|_| weighed == Some(place)));
        before = Some(content);
    }
    events.extend(logprobs);
    let stop_sequence = choice.stop_sequence.clone();
    events.extend(choice.stop.map(|reason| Event::Finish { choice: index, reason, stop_sequence }));
}

/// Whether the steps of two parts would be taken for those of one.
fn is_joined(before: &Content, after: &Content) -> bool {
    matches!(
        (before, after),
        (Content::Text { .. }, Content::Text { .. })
            | (Content::Refusal(_), Content::Refusal(_))
            | (Content::Thinking { signature: None, .. }, Content::Thinking { .. })
    )
}

fn events_of_part(choice: u32, content: &Content, calls: &mut u32, events: &mut Vec<Event>) {
    match content {
        Content::Text { text, citations } => {
            events.push(Event::Text { choice, text: text.clone() });
            let citations = citations.iter().cloned();
            events.extend(citations.map(|citation| Event::Citation { choice, citation }));
        }
        Content::Thinking { text, signature } => {
            if !text.is_empty() || signature.is_none() {
                events.push(Event::Thinking { choice, text: text.clone() });
            }
            let signature = signature.clone();
            events.extend(signature.map(|signature| Event::Signature { choice, signature }));
        }
        Content::RedactedThinking(data) => {
            events.push(Event::RedactedThinking { choice, data: data.clone() });
        }
        Content::Refusal(text) => events.push(Event::Refusal { choice, text: text.clone() }),
        Content::ToolCall { id, name, arguments, signature } => {
            let index = *calls;
            *calls += 1;
            let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
            events.push(Event::ToolCall { choice, index, id, name, signature });
            events.push(Event::Arguments { choice, index, json: arguments.clone() });
        }
        Content::Image { .. }
        | Content::Audio { .. }
        | Content::File { .. }
        | Content::ToolResult { .. }
        | Content::Other(_) => {}
    }
}

/// Puts a stream's steps together to the whole answer that it is, within a bound in bytes.
#[derive(Debug)]
pub struct ReplyBuilder {
    reply: Reply,
    /// Of each choice, in the order of the reply's.
    states: Vec<State>,
    bytes_left: usize,
    is_cut: bool,
}

/// What is open in a choice.
#[derive(Debug, Default)]
struct State {
    /// Whether the last part can still grow.
    is_open: bool,
    /// The index of each call, and the place of its part.
    calls: Vec<(u32, usize)>,
}

impl ReplyBuilder {
    /// Begins an answer of a surface; `bytes_max` bounds its texts, with something for each part.
    pub fn new(surface: Surface, bytes_max: usize) -> Self {
        let reply = Reply {
            surface,
            id: String::new(),
            model: String::new(),
            created_unix_s: None,
            choices: Vec::new(),
            usage: None,
            extra: Extra::default(),
        };
        Self { reply, states: Vec::new(), bytes_left: bytes_max, is_cut: false }
    }

    /// Adds a step; false once the bound is reached, from where on texts and parts are left out.
    pub fn push(&mut self, event: &Event) -> bool {
        match event {
            Event::Start { id, model, created_unix_s, usage } => {
                if self.take(id.len().saturating_add(model.len())) {
                    self.reply.id.clone_from(id);
                    self.reply.model.clone_from(model);
                }
                self.reply.created_unix_s = *created_unix_s;
                self.reply.usage = usage.or(self.reply.usage);
            }
            Event::Usage(usage) => self.reply.usage = Some(*usage),
            Event::Finish { choice, reason, stop_sequence } => {
                let bytes = stop_sequence.as_ref().map_or(0, String::len);
                let stop_sequence = stop_sequence.clone().filter(|_| self.take(bytes));
                if let Some(place) = self.choice(*choice) {
                    let choice = &mut self.reply.choices[place];
                    choice.stop = Some(*reason);
                    choice.stop_sequence = stop_sequence;
                }
            }
            Event::Ping | Event::Other(_) | Event::Failed(_) | Event::End => {}
            Event::Text { choice, .. }
            | Event::Thinking { choice, .. }
            | Event::Signature { choice, .. }
            | Event::RedactedThinking { choice, .. }
            | Event::Refusal { choice, .. }
            | Event::ToolCall { choice, .. }
            | Event::Arguments { choice, .. }
            | Event::PartEnd { choice }
            | Event::Citation { choice, .. }
            | Event::Logprobs { choice, .. } => {
                if let Some(place) = self.choice(*choice)
                    && self.take(bytes_of(event))
                {
                    self.add(place, event);
                }
            }
        }
        !self.is_cut
    }

    /// The answer so far.
    pub fn finish(mut self) -> Reply {
        let parts = self.reply.choices.iter_mut().flat_map(|choice| &mut choice.parts);
        for part in parts {
            if let Content::ToolCall { arguments, .. } = &mut part.content
                && arguments.is_empty()
            {
                arguments.push_str("{}");
            }
        }
        self.reply.choices.sort_by_key(|choice| choice.index);
        self.reply
    }

    /// Takes bytes of what is left; once there are too few there are none.
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.bytes_left.checked_sub(bytes).filter(|_| !self.is_cut);
        self.is_cut = left.is_none();
        self.bytes_left = left.unwrap_or(0);
        !self.is_cut
    }

    /// Finds a choice, which may be a new one; none if there is no room for it.
    fn choice(&mut self, index: u32) -> Option<usize> {
        let known = self.reply.choices.iter().position(|choice| choice.index == index);
        if known.is_none() && self.take(PIECE_BYTES) {
            self.reply.choices.push(Choice { index, ..Choice::default() });
            self.states.push(State::default());
            return Some(self.states.len() - 1);
        }
        known
    }

    fn add(&mut self, place: usize, event: &Event) {
        let choice = &mut self.reply.choices[place];
        let state = &mut self.states[place];
        match event {
            Event::Text { text, .. } => state.text(choice).push_str(text),
            Event::Thinking { text, .. } => state.thinking(choice).0.push_str(text),
            Event::Signature { signature, .. } => {
                *state.thinking(choice).1 = Some(signature.clone());
                state.is_open = false;
            }
            Event::RedactedThinking { data, .. } => {
                state.part(choice, Content::RedactedThinking(data.clone()));
                state.is_open = false;
            }
            Event::Refusal { text, .. } => state.refusal(choice).push_str(text),
            Event::ToolCall { index, id, name, signature, .. } => {
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                state.calls.push((*index, choice.parts.len()));
                state.part(choice, Content::ToolCall { id, name, arguments: String::new(), signature });
            }
            Event::Arguments { index, json, .. } => {
                let call = state.calls.iter().rfind(|(known, _)| known == index);
                let part = call.map(|(_, place)| &mut choice.parts[*place].content);
                if let Some(Content::ToolCall { arguments, .. }) = part {
                    arguments.push_str(json);
                }
            }
            Event::Citation { citation, .. } => {
                let part = choice.parts.iter_mut().rev().find_map(|part| match &mut part.content {
                    Content::Text { citations, .. } => Some(citations),
                    _ => None,
                });
                if let Some(citations) = part {
                    citations.push(citation.clone());
                }
            }
            Event::Logprobs { tokens, .. } => choice.logprobs.extend_from_slice(tokens),
            Event::PartEnd { .. } => state.is_open = false,
            Event::Start { .. }
            | Event::Finish { .. }
            | Event::Usage(_)
            | Event::Ping
            | Event::Other(_)
            | Event::Failed(_)
            | Event::End => {}
        }
    }
}

impl State {
    fn part<'c>(&mut self, choice: &'c mut Choice, content: Content) -> &'c mut Content {
        choice.parts.push(Part::new(content));
        self.is_open = true;
        &mut choice.parts.last_mut().expect("it was just pushed").content
    }

    /// The part that grows, if it is one of these; or else a new one.
    fn growing<'c>(
        &mut self,
        choice: &'c mut Choice,
        is_same: impl Fn(&Content) -> bool,
        new: Content,
    ) -> &'c mut Content {
        let grows = self.is_open && choice.parts.last().is_some_and(|part| is_same(&part.content));
        if !grows {
            return self.part(choice, new);
        }
        &mut choice.parts.last_mut().expect("it was just looked at").content
    }

    fn text<'c>(&mut self, choice: &'c mut Choice) -> &'c mut String {
        let new = Content::Text { text: String::new(), citations: Vec::new() };
        let is_text = |content: &Content| matches!(content, Content::Text { .. });
        match self.growing(choice, is_text, new) {
            Content::Text { text, .. } => text,
            _ => unreachable!("it is one"),
        }
    }

    fn thinking<'c>(&mut self, choice: &'c mut Choice) -> (&'c mut String, &'c mut Option<Signature>) {
        let new = Content::Thinking { text: String::new(), signature: None };
        let is_thinking = |content: &Content| matches!(content, Content::Thinking { .. });
        match self.growing(choice, is_thinking, new) {
            Content::Thinking { text, signature } => (text, signature),
            _ => unreachable!("it is one"),
        }
    }

    fn refusal<'c>(&mut self, choice: &'c mut Choice) -> &'c mut String {
        let is_refusal = |content: &Content| matches!(content, Content::Refusal(_));
        match self.growing(choice, is_refusal, Content::Refusal(String::new())) {
            Content::Refusal(text) => text,
            _ => unreachable!("it is one"),
        }
    }
}

/// How many bytes a step counts for.
fn bytes_of(event: &Event) -> usize {
    let signed = |signature: &Signature| PIECE_BYTES + signature.value.len();
    match event {
        Event::Text { text, .. } | Event::Thinking { text, .. } | Event::Refusal { text, .. } => text.len(),
        Event::Arguments { json, .. } => json.len(),
        Event::Signature { signature, .. } => signed(signature),
        Event::RedactedThinking { data, .. } => signed(data),
        Event::ToolCall { id, name, signature, .. } => {
            PIECE_BYTES + id.len() + name.len() + signature.as_ref().map_or(0, signed)
        }
        Event::Citation { citation, .. } => {
            let texts = [&citation.url, &citation.title, &citation.quoted];
            let texts: usize = texts.into_iter().flatten().map(String::len).sum();
            PIECE_BYTES + texts + citation.original.as_ref().map_or(0, |(_, raw)| raw.get().len())
        }
        Event::Logprobs { tokens, .. } => {
            let texts = |token: &TokenLogprob| {
                token.token.len() + token.top.iter().map(|(text, _)| PIECE_BYTES + text.len()).sum::<usize>()
            };
            tokens.iter().map(|token| PIECE_BYTES + texts(token)).sum()
        }
        _ => 0,
    }
}
