//! What the gateway looks at in an answer of Google's, whole or as an event of its stream: the two have the same shape.
//!
//! Where it is not asked for events, Google streams the list of what would have been in them.
//!
//! Source: Google, Gemini API reference, "Generating content", "Counting tokens" and "Embeddings", seen 2026-11. Its
//! servers write names in camel case and say that they may write them with underscores.

use super::{Choice, Scan, View, error, is_filled, string};
use crate::chat::StopReason;
use crate::wire::json::{Kind, Scanner, SyntaxError, Text};
use crate::wire::openai::choices::CHOICES_MAX;
use crate::wire::usage;

/// Reads one JSON document.
pub(super) fn view(bytes: &[u8]) -> Result<View<'_>, SyntaxError> {
    let mut view = View::default();
    let mut scanner = Scanner::new(bytes);
    if scanner.peek()? == Kind::Array {
        scanner.array(|scanner| answer(scanner, bytes, &mut view))?;
    } else {
        answer(&mut scanner, bytes, &mut view)?;
    }
    scanner.end()?;
    view.usage = view.counts.usage();
    Ok(view)
}

fn answer<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8], view: &mut View<'a>) -> Scan<()> {
    scanner.members(|scanner, key| {
        if key.is("candidates") {
            candidates(scanner, bytes, view)?;
        } else if usage::is_usage(&key) {
            view.counts.update(usage::counts(scanner)?);
        } else if is_named(&key, "promptFeedback", "prompt_feedback") {
            feedback(scanner, view)?;
        } else if key.is("error") {
            view.error = error(scanner, bytes)?;
        } else if is_named(&key, "totalTokens", "total_tokens") {
            view.has_items |= scanner.count()?.is_some();
        } else if key.is("embedding") || key.is("embeddings") {
            view.has_items |= is_filled(&bytes[scanner.skip()?]);
        } else {
            scanner.skip()?;
        }
        Ok(())
    })
}

fn is_named(key: &Text<'_>, camel_case: &str, snake_case: &str) -> bool {
    key.is(camel_case) || key.is(snake_case)
}

/// Reads why a prompt was not answered.
fn feedback(scanner: &mut Scanner<'_>, view: &mut View<'_>) -> Scan<()> {
    scanner.members(|scanner, key| {
        if !is_named(&key, "blockReason", "block_reason") {
            return scanner.skip().map(drop);
        }
        let is_blocked =
            string(scanner)?.is_some_and(|reason| !matches!(&*reason, "" | "BLOCKED_REASON_UNSPECIFIED"));
        if is_blocked {
            view.stop = Some(StopReason::ContentFilter);
        }
        Ok(())
    })
}

fn candidates<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8], view: &mut View<'a>) -> Scan<()> {
    if scanner.peek()? != Kind::Array {
        return scanner.skip().map(drop);
    }
    let mut place = 0;
    scanner.array(|scanner| {
        let mut choice = Choice { index: place, ..Choice::default() };
        place += 1;
        scanner.members(|scanner, key| {
            if key.is("content") {
                content(scanner, bytes, view)?;
            } else if is_named(&key, "finishReason", "finish_reason") {
                choice.finish_reason = string(scanner)?.and_then(|reason| StopReason::of_gemini(&reason));
            } else if key.is("index") {
                choice.index = scanner.count()?.unwrap_or(choice.index);
            } else {
                scanner.skip()?;
            }
            Ok(())
        })?;
        if view.choices.len() < CHOICES_MAX {
            view.choices.push(choice);
        }
        Ok(())
    })
}

/// Reads the parts of a candidate.
fn content<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8], view: &mut View<'a>) -> Scan<()> {
    scanner.members(|scanner, key| {
        if !key.is("parts") || scanner.peek()? != Kind::Array {
            return scanner.skip().map(drop);
        }
        scanner.array(|scanner| {
            scanner.members(|scanner, key| {
                view.has_call |= is_named(&key, "functionCall", "function_call");
                let value = scanner.skip()?;
                // A mark without its text says nothing.
                view.has_items |= !key.is("thought") && is_filled(&bytes[value]);
                Ok(())
            })
        })
    })
}
