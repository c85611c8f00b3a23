//! Why an answer ended, in the words of each dialect.

use crate::chat::StopReason;

impl StopReason {
    /// Reads a `finish_reason` of the chat and completions API.
    pub(in crate::wire) fn of_openai(name: &str) -> Self {
        match name {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" | "function_call" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            _ => Self::Other,
        }
    }

    /// Reads the `status` of a response; none while it has not ended.
    pub(in crate::wire) fn of_status(name: &str) -> Option<Self> {
        match name {
            "completed" => Some(Self::Stop),
            "incomplete" => Some(Self::Length),
            "failed" | "cancelled" => Some(Self::Other),
            _ => None,
        }
    }

    /// Reads a `stop_reason` of Anthropic's.
    ///
    /// Source: Anthropic API reference, "Stop reasons and fallback", seen 2026-11.
    pub(in crate::wire) fn of_anthropic(name: &str) -> Self {
        match name {
            "end_turn" | "stop_sequence" => Self::Stop,
            "max_tokens" | "model_context_window_exceeded" => Self::Length,
            "tool_use" => Self::ToolCalls,
            "refusal" => Self::ContentFilter,
            // `pause_turn` among them: the client is to go on, no other dialect has that.
            _ => Self::Other,
        }
    }

    /// Reads a `finishReason` of Google's; none for the name that says nothing. An answer that calls functions ends
    /// with `STOP`, too: see [`with_calls`](Self::with_calls).
    ///
    /// Source: Google, Gemini API reference, "FinishReason", seen 2026-11.
    pub(in crate::wire) fn of_gemini(name: &str) -> Option<Self> {
        Some(match name {
            "" | "FINISH_REASON_UNSPECIFIED" => return None,
            "STOP" => Self::Stop,
            "MAX_TOKENS" | "CONTINUATION" => Self::Length,
            "SAFETY"
            | "RECITATION"
            | "LANGUAGE"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
            | "ESCALATION"
            | "PUP_LIMITED_DISABLED"
            | "MODEL_ARMOR" => Self::ContentFilter,
            // Calls that cannot be read, and what is none of the model's doing.
            _ => Self::Other,
        })
    }

    /// The reason of an answer of Google's that calls functions, or not.
    pub(in crate::wire) fn with_calls(self, has_calls: bool) -> Self {
        if has_calls && self == Self::Stop { Self::ToolCalls } else { self }
    }

    /// OpenAI's name for it.
    pub fn openai_name(self) -> &'static str {
        match self {
            Self::Stop | Self::Other => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<StopReason>) {
        assert_eq!(StopReason::of_gemini(name), expected, "{name}");
    }

    // parity: 106
    #[test]
    fn every_reason_of_googles_is_known() {
        check("STOP", Some(StopReason::Stop));
        check("MAX_TOKENS", Some(StopReason::Length));
        for name in
            ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "LANGUAGE"]
        {
            check(name, Some(StopReason::ContentFilter));
        }
        check("MALFORMED_FUNCTION_CALL", Some(StopReason::Other));
        check("OTHER", Some(StopReason::Other));
        check("NEWER_THAN_THIS", Some(StopReason::Other));
        check("FINISH_REASON_UNSPECIFIED", None);
        check("", None);
    }

    #[test]
    fn googles_answers_with_calls_end_with_them() {
        assert_eq!(StopReason::Stop.with_calls(true), StopReason::ToolCalls);
        assert_eq!(StopReason::Stop.with_calls(false), StopReason::Stop);
        assert_eq!(StopReason::Length.with_calls(true), StopReason::Length);
    }
}
