//! Masks or refuses personal data and secrets: in the messages of a request, and in the text of an answer, of a stream and
//! of a whole answer alike.
//!
//! An answer's text is held back only from where a match may begin until it is known whether it does.

mod json;
mod masker;
mod pattern;
mod regex;
mod settings;
mod window;

use std::rc::Rc;

use masker::{Masker, Piece, Rule, Rules};
use settings::{Action, Settings};
use witgate_sdk::{
    Call, Channel, Flow, Lanes, OnRequest, Opened, Out, Plugin, Rejection, StreamText, TextFilter, export,
    log,
};

struct Redact {
    policy: Rc<Policy>,
    has_requests: bool,
    has_answers: bool,
    channels: Vec<Channel>,
}

/// What is looked for, and what to do about it.
struct Policy {
    rules: Rc<Rules>,
    /// The replacement, as written.
    replace: String,
    action: Action,
}

/// Where requests that are no conversation have their texts: embeddings, completions of several prompts, rerank, score,
/// classify, moderations, images, speech.
const TEXTS: [&str; 8] =
    ["/input", "/prompt", "/query", "/queries", "/documents", "/text_1", "/text_2", "/texts"];

export!(Redact: OnRequest, StreamText);

impl Plugin for Redact {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        let rules = Rc::new(settings.rules()?);
        let (has_requests, has_answers) = (settings.has_requests(), settings.has_answers());
        let channels = settings.channels();
        let policy = Rc::new(Policy { rules, replace: settings.replace, action: settings.action });
        Ok(Self { policy, has_requests, has_answers, channels })
    }
}

impl OnRequest for Redact {
    fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
        if !self.has_requests {
            return Ok(Flow::Next);
        }
        let counts = self.policy.mask_request(call)?;
        for (rule, count) in &counts.0 {
            call.tag(&format!("redact.{}", self.policy.rules.name(*rule)), &count.to_string());
        }
        match (self.policy.action, counts.0.first()) {
            (Action::Reject, Some((rule, _))) => Err(self.policy.rejection("request", *rule)),
            _ => Ok(Flow::Next),
        }
    }
}

impl StreamText for Redact {
    type Stream = Lanes<Filter>;

    fn open(&self, _: &Call) -> Option<Opened<Self::Stream>> {
        if !self.has_answers {
            return None;
        }
        let policy = Rc::clone(&self.policy);
        let lanes = Lanes::new(move |_| Filter {
            masker: Masker::new(Rc::clone(&policy.rules)),
            policy: Rc::clone(&policy),
            counts: Counts::default(),
        });
        Some(Opened::new(lanes).channels(self.channels.clone()))
    }
}

impl Policy {
    /// Masks the conversation, and the texts of operations that are more, or something else, than one.
    fn mask_request(&self, call: &Call) -> Result<Counts, Rejection> {
        let mut counts = Counts::default();
        let messages = call.messages();
        for message in &messages {
            if let Some(masked) = self.mask(&message.text, &mut counts) {
                call.set_message(message.index, &masked)?;
            }
        }
        if call.operation() != "chat.completions" {
            for (pointer, value) in TEXTS.iter().zip(call.get_many(&TEXTS.map(str::to_owned))) {
                let masked = value.and_then(|json| json::replace(&json, |text| self.mask(text, &mut counts)));
                if let Some(masked) = masked {
                    call.set(pointer, &masked)?;
                }
            }
        }
        Ok(counts)
    }

    /// Counts the matches, and returns the text without them; none if it has none, or is to be refused for them.
    fn mask(&self, text: &str, counts: &mut Counts) -> Option<String> {
        let mut masker = Masker::new(Rc::clone(&self.rules));
        let mut masked = String::new();
        let mut has_match = false;
        let mut to = |piece: Piece<'_>| match piece {
            Piece::Text(text) => masked.push_str(text),
            Piece::Match(rule) => {
                has_match = true;
                counts.add(rule);
                masked.push_str(&self.replacement(rule));
            }
        };
        masker.push(text, &mut to);
        masker.finish(&mut to);
        (has_match && self.action == Action::Mask).then_some(masked)
    }

    fn replacement(&self, rule: Rule) -> String {
        self.replace.replace("{name}", self.rules.name(rule))
    }

    fn rejection(&self, place: &str, rule: Rule) -> Rejection {
        let name = self.rules.name(rule);
        Rejection::new(
            400,
            "content_policy_violation",
            format!("the {place} contains what looks like `{name}`, which is not passed on"),
        )
    }
}

/// How often each rule matched, in the order of the first matches.
#[derive(Default)]
struct Counts(Vec<(Rule, u32)>);

impl Counts {
    fn add(&mut self, rule: Rule) {
        match self.0.iter_mut().find(|(known, _)| *known == rule) {
            Some((_, count)) => *count += 1,
            None => self.0.push((rule, 1)),
        }
    }
}

/// One text of an answer.
struct Filter {
    masker: Masker,
    policy: Rc<Policy>,
    counts: Counts,
}

impl Filter {
    fn write(piece: Piece<'_>, policy: &Policy, counts: &mut Counts, out: &mut Out) {
        match (piece, policy.action) {
            (Piece::Text(text), _) => out.push_str(text),
            (Piece::Match(rule), Action::Reject) => out.reject(policy.rejection("answer", rule)),
            (Piece::Match(rule), Action::Mask) => {
                counts.add(rule);
                out.push_str(&policy.replacement(rule));
            }
        }
    }
}

impl TextFilter for Filter {
    fn push(&mut self, text: &str, out: &mut Out) {
        let Self { masker, policy, counts } = self;
        masker.push(text, &mut |piece: Piece<'_>| Self::write(piece, policy, counts, out));
    }

    fn finish(&mut self, out: &mut Out) {
        let Self { masker, policy, counts } = self;
        masker.finish(&mut |piece: Piece<'_>| Self::write(piece, policy, counts, out));
        // An answer has no call to label any more, so the count is in the log.
        for (rule, count) in &self.counts.0 {
            let name = self.policy.rules.name(*rule);
            log::debug("masked in an answer", &[("pattern", name), ("count", &count.to_string())]);
        }
    }
}

#[cfg(test)]
mod tests;
