//! What the paths of Google's endpoints say of a request.

use crate::percent;
use crate::wire::{Endpoint, MODEL_BYTES_MAX};

/// What the paths of Google's endpoints say that the bodies of the others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPath {
    /// The model, decoded.
    pub model: String,
    /// Whether the answer is to be streamed as events.
    pub is_stream: bool,
    /// Whether a streamed answer is asked for without events: it is a JSON array of what the events would hold.
    pub is_array: bool,
}

impl InPath {
    /// Reads what follows `/models/` in a path, `MODEL:METHOD`, and the query; both percent-encoded.
    ///
    /// None if the method is none of Google's, or the model is empty or longer than [`MODEL_BYTES_MAX`].
    ///
    /// Source: Google, Gemini API, "streamGenerateContent" with `alt=sse`; "System parameters", `$alt`; seen 2026-11.
    pub fn of(rest: &str, query: Option<&str>) -> Option<Self> {
        let (model, method) = rest.rsplit_once(':')?;
        Endpoint::of_gemini_method(method)?;
        let model = percent::decoded(model).into_owned();
        if model.is_empty() || model.len() > MODEL_BYTES_MAX {
            return None;
        }
        let is_streamed = method == "streamGenerateContent";
        let has_events = is_streamed && asks_events(query.unwrap_or_default());
        Some(Self { model, is_stream: has_events, is_array: is_streamed && !has_events })
    }

    /// Takes the model from a `model` of the body, which may have Google's `models/` before it, for a request that came
    /// without a path.
    pub(super) fn of_member(model: &str) -> Self {
        let model = model.strip_prefix(PREFIX).unwrap_or(model).to_owned();
        Self { model, is_stream: false, is_array: false }
    }
}

/// What Google's names of models begin with wherever they stand in a body.
pub(super) const PREFIX: &str = "models/";

/// Whether a query says `alt=sse`; of a repeated parameter the last value counts.
fn asks_events(query: &str) -> bool {
    let parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
    let mut alternatives = parameters.filter(|(name, _)| matches!(&*percent::decoded(name), "alt" | "$alt"));
    alternatives.next_back().is_some_and(|(_, value)| percent::decoded(value) == "sse")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rest: &str, query: Option<&str>, expected: Option<(&str, bool, bool)>) {
        let expected =
            expected.map(|(model, is_stream, is_array)| InPath { model: model.into(), is_stream, is_array });
        assert_eq!(InPath::of(rest, query), expected, "{rest} {query:?}");
    }

    #[test]
    fn a_path_names_the_model_and_whether_events_are_wanted() {
        check("gemini-2.5-pro:generateContent", None, Some(("gemini-2.5-pro", false, false)));
        check("m:generateContent", Some("alt=sse"), Some(("m", false, false)));
        check("m:countTokens", Some("alt=sse"), Some(("m", false, false)));
        check("m:embedContent", None, Some(("m", false, false)));
        check("m:batchEmbedContents", None, Some(("m", false, false)));
        check("m:streamGenerateContent", Some("alt=sse"), Some(("m", true, false)));
        check("m:streamGenerateContent", Some("key=k&alt=sse"), Some(("m", true, false)));
        check("m:streamGenerateContent", Some("%24alt=%73se&x"), Some(("m", true, false)));
        check("m:streamGenerateContent", Some("alt=sse&alt=json"), Some(("m", false, true)));
        check("m:streamGenerateContent", Some("alt=json&alt=sse"), Some(("m", true, false)));
        check("m:streamGenerateContent", Some("malt=sse"), Some(("m", false, true)));
        check("m:streamGenerateContent", None, Some(("m", false, true)));
    }

    #[test]
    fn a_models_name_is_decoded_and_may_have_slashes_and_colons() {
        check("org%2Fname:7b:generateContent", None, Some(("org/name:7b", false, false)));
        check("org/name:generateContent", None, Some(("org/name", false, false)));
        check(":generateContent", None, None);
        check("m:other", None, None);
        check("m", None, None);
        let long = "m".repeat(MODEL_BYTES_MAX);
        check(&format!("{long}:generateContent"), None, Some((&long, false, false)));
        check(&format!("{long}m:generateContent"), None, None);
    }
}
