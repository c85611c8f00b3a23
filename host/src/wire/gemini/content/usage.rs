//! `usageMetadata`, both ways.

use crate::chat::Usage;
use crate::error::Result;
use crate::wire::json::{Cursor, Writer};

/// Reads what an answer cost: the prompt has what was cached in it, but neither what tools have added nor, on the other
/// side, the answer its thinking.
///
/// Source: Gemini API reference, "UsageMetadata", seen 2026-11.
pub(super) fn read(value: &mut Cursor<'_, '_>) -> Result<Usage> {
    let (mut prompt, mut tools, mut candidates, mut total) = (0_u64, 0, None, None);
    let mut usage = Usage::default();
    value.members(|name, value| {
        match name {
            "promptTokenCount" => prompt = value.count()?,
            "toolUsePromptTokenCount" => tools = value.count()?,
            "candidatesTokenCount" => candidates = Some(value.count()?),
            "thoughtsTokenCount" => usage.reasoning = value.count()?,
            "cachedContentTokenCount" => usage.cached = value.count()?,
            "totalTokenCount" => total = Some(value.count()?),
            _ => {}
        }
        Ok(())
    })?;
    usage.input = prompt.saturating_add(tools);
    usage.output = match (candidates, total) {
        (None, Some(total)) => total.saturating_sub(usage.input),
        (candidates, _) => candidates.unwrap_or(0).saturating_add(usage.reasoning),
    };
    Ok(usage)
}

/// Writes `usageMetadata`.
pub(super) fn write(usage: Usage) -> Vec<u8> {
    let Usage { input, output, cached, reasoning, .. } = usage;
    let mut metadata = Writer::default();
    metadata.plain("promptTokenCount", input);
    metadata.plain("candidatesTokenCount", output.saturating_sub(reasoning));
    metadata.plain("totalTokenCount", usage.total());
    if cached > 0 {
        metadata.plain("cachedContentTokenCount", cached);
    }
    if reasoning > 0 {
        metadata.plain("thoughtsTokenCount", reasoning);
    }
    metadata.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::cursor;

    #[track_caller]
    fn check(json: &str, input: u64, output: u64, cached: u64, reasoning: u64) {
        let expected = Usage { input, output, cached, reasoning, ..Usage::default() };
        assert_eq!(cursor::read(json.as_bytes(), |value| read(value)).unwrap(), expected, "{json}");
        let written = write(expected);
        assert_eq!(cursor::read(&written, |value| read(value)).unwrap(), expected);
    }

    // parity: 106
    #[test]
    fn input_counts_tools_and_output_thinking() {
        check(r#"{"promptTokenCount":5,"candidatesTokenCount":7,"totalTokenCount":12}"#, 5, 7, 0, 0);
        check(
            r#"{"promptTokenCount":5,"toolUsePromptTokenCount":2,"candidatesTokenCount":3,"thoughtsTokenCount":4,
               "cachedContentTokenCount":1,"totalTokenCount":14}"#,
            7,
            7,
            1,
            4,
        );
        check(r#"{"promptTokenCount":5,"thoughtsTokenCount":4,"totalTokenCount":9}"#, 5, 4, 0, 4);
        check("{}", 0, 0, 0, 0);
    }
}
