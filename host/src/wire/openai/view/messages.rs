//! What the gateway looks at in a message of Anthropic's, whole or as an event of its stream.
//!
//! Source: Anthropic API reference, "Messages", "Streaming messages" and "Count tokens", seen 2026-11.

use super::{Scan, View, error, is_filled, string};
use crate::chat::StopReason;
use crate::wire::json::{Kind, Scanner, SyntaxError};
use crate::wire::usage;

/// Reads one JSON document.
pub(super) fn view(bytes: &[u8]) -> Result<View<'_>, SyntaxError> {
    let mut view = View::default();
    let mut scanner = Scanner::new(bytes);
    message(&mut scanner, bytes, &mut view)?;
    scanner.end()?;
    view.usage = view.counts.usage();
    Ok(view)
}

/// Reads a message, or an event; the event that begins a stream has the message inside of it.
fn message<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8], view: &mut View<'a>) -> Scan<()> {
    scanner.members(|scanner, key| {
        if key.is("type") {
            let kind = string(scanner)?;
            view.kind = view.kind.take().or(kind);
        } else if key.is("delta") || key.is("content_block") {
            let is_block = key.is("content_block");
            view.has_items |= said(scanner, bytes, view, is_block)?;
        } else if key.is("content") {
            view.has_items |= is_filled(&bytes[scanner.skip()?]);
        } else if key.is("stop_reason") {
            note_stop(scanner, view)?;
        } else if key.is("usage") {
            view.counts.update(usage::counts(scanner)?);
        } else if key.is("error") {
            view.error = error(scanner, bytes)?;
        } else if key.is("message") {
            return inner_message(scanner, bytes, view);
        } else if key.is("input_tokens") {
            // What a count of tokens answers.
            view.has_items |= scanner.count()?.is_some();
        } else {
            scanner.skip()?;
        }
        Ok(())
    })
}

/// Reads the message in the event that begins a stream; its type is not the event's.
fn inner_message<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8], view: &mut View<'a>) -> Scan<()> {
    scanner.members(|scanner, key| {
        if key.is("content") {
            view.has_items |= is_filled(&bytes[scanner.skip()?]);
        } else if key.is("stop_reason") {
            note_stop(scanner, view)?;
        } else if key.is("usage") {
            view.counts.update(usage::counts(scanner)?);
        } else {
            scanner.skip()?;
        }
        Ok(())
    })
}

fn note_stop(scanner: &mut Scanner<'_>, view: &mut View<'_>) -> Scan<()> {
    let reason = string(scanner)?;
    view.stop = reason.map(|reason| StopReason::of_anthropic(&reason)).or(view.stop);
    Ok(())
}

/// Reads a block that begins or a piece of one. Returns whether it says anything: blocks of text and of thinking
/// begin empty, all others are there as soon as they have begun.
fn said<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8], view: &mut View<'a>, is_block: bool) -> Scan<bool> {
    let mut says_anything = false;
    scanner.members(|scanner, key| {
        if key.is("type") {
            let kind = string(scanner)?;
            says_anything |= is_block && !matches!(kind.as_deref(), Some("text" | "thinking") | None);
        } else if key.is("stop_reason") {
            note_stop(scanner, view)?;
        } else if SAID.iter().any(|name| key.is(name)) {
            let is_text = scanner.peek()? == Kind::String;
            says_anything |= is_filled(&bytes[scanner.skip()?]) && is_text;
        } else if key.is("citation") {
            says_anything |= is_filled(&bytes[scanner.skip()?]);
        } else {
            scanner.skip()?;
        }
        Ok(())
    })?;
    Ok(says_anything)
}

/// The texts of blocks and of pieces.
const SAID: [&str; 4] = ["text", "thinking", "partial_json", "signature"];
