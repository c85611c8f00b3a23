//! What is said on the wire: the dialects, their endpoints, and how requests and answers are read and edited.
//!
//! Pure: bytes in, bytes out. It knows no socket and no clock, and nothing outside of it names a vendor's field.

use http::Method;
use serde_json::Value;

pub mod document;
pub mod json;
pub mod multipart;
pub mod openai;
pub mod sse;
pub mod usage;
pub mod wake;

/// How long a model's name may be, in bytes. Names go into routes, logs and spans; no upstream has one that is near it.
pub const MODEL_BYTES_MAX: usize = 1024;

/// Whose conventions a client or an upstream follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's, and of the many servers that copy it.
    #[default]
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's Generative Language.
    Gemini,
}

/// What a path of the main listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/responses`
    Responses,
    /// `/v1/audio/transcriptions`
    AudioTranscriptions,
    /// `/v1/audio/translations`
    AudioTranslations,
    /// `/v1/audio/speech`
    AudioSpeech,
    /// `/v1/images/generations`
    ImagesGenerations,
    /// `/v1/images/edits`
    ImagesEdits,
    /// `/v1/images/variations`
    ImagesVariations,
    /// `/v1/moderations`
    Moderations,
    /// `/v1/rerank`
    Rerank,
    /// `/v1/score`
    Score,
    /// `/v1/classify`
    Classify,
    /// `/v1/models`
    Models,
    /// `/v1/models/{id}`
    Model,
}

impl Endpoint {
    /// Every endpoint, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::AudioTranscriptions,
        Self::AudioTranslations,
        Self::AudioSpeech,
        Self::ImagesGenerations,
        Self::ImagesEdits,
        Self::ImagesVariations,
        Self::Moderations,
        Self::Rerank,
        Self::Score,
        Self::Classify,
        Self::Models,
        Self::Model,
    ];

    /// Finds the endpoint of a request's path, which may lack `/v1` and may end with a slash.
    ///
    /// The second value is what follows the endpoint's own path: the id of `Model`, which may contain slashes and is
    /// percent-encoded as the client sent it; otherwise nothing.
    pub fn of(path: &str) -> Option<(Self, &str)> {
        let path = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if let Some(id) = path.strip_prefix("/models/") {
            return (!id.is_empty()).then_some((Self::Model, id));
        }
        let endpoint = match path {
            "/chat/completions" => Self::ChatCompletions,
            "/completions" => Self::Completions,
            "/embeddings" => Self::Embeddings,
            "/responses" => Self::Responses,
            "/audio/transcriptions" => Self::AudioTranscriptions,
            "/audio/translations" => Self::AudioTranslations,
            "/audio/speech" => Self::AudioSpeech,
            "/images/generations" => Self::ImagesGenerations,
            "/images/edits" => Self::ImagesEdits,
            "/images/variations" => Self::ImagesVariations,
            "/moderations" => Self::Moderations,
            "/rerank" => Self::Rerank,
            "/score" => Self::Score,
            "/classify" => Self::Classify,
            "/models" => Self::Models,
            _ => return None,
        };
        Some((endpoint, ""))
    }

    /// The methods it answers; another one is refused with these in `Allow`.
    pub fn methods(self) -> &'static [Method] {
        match self {
            Self::Models | Self::Model => &[Method::GET, Method::HEAD],
            _ => &[Method::POST],
        }
    }

    /// Guesses from the keys of a request's body where it would be posted to.
    ///
    /// # Errors
    ///
    /// The body is not JSON, or has none of the keys that tell.
    pub fn guess(body: &[u8]) -> Result<Self, String> {
        let request: Value =
            serde_json::from_slice(body).map_err(|error| format!("request is not JSON: {error}"))?;
        // Each is a key that only this endpoint requires.
        let known =
            [("messages", Self::ChatCompletions), ("prompt", Self::Completions), ("input", Self::Embeddings)];
        let found = known.into_iter().find(|(key, _)| request.get(key).is_some());
        found.map(|(_, endpoint)| endpoint).ok_or_else(|| {
            "request has none of `messages`, `prompt` and `input`; give the body of a chat, completion or embedding"
                .to_owned()
        })
    }

    /// Its path below an upstream's base URL, which has the `/v1` if there is one; `Model` is followed by the id.
    pub fn upstream_path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
            Self::AudioTranscriptions => "/audio/transcriptions",
            Self::AudioTranslations => "/audio/translations",
            Self::AudioSpeech => "/audio/speech",
            Self::ImagesGenerations => "/images/generations",
            Self::ImagesEdits => "/images/edits",
            Self::ImagesVariations => "/images/variations",
            Self::Moderations => "/moderations",
            Self::Rerank => "/rerank",
            Self::Score => "/score",
            Self::Classify => "/classify",
            Self::Models => "/models",
            Self::Model => "/models/",
        }
    }

    /// Whether its answers have text of a model's.
    pub fn has_text(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Responses)
    }

    /// The endpoint of a label.
    pub fn labelled(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.label() == label)
    }

    /// Its name in the audit, in metrics and in a plugin's `match.endpoints`.
    pub fn label(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completions",
            Self::Completions => "text_completion",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::AudioTranscriptions => "audio.transcriptions",
            Self::AudioTranslations => "audio.translations",
            Self::AudioSpeech => "audio.speech",
            Self::ImagesGenerations => "images.generations",
            Self::ImagesEdits => "images.edits",
            Self::ImagesVariations => "images.variations",
            Self::Moderations => "moderations",
            Self::Rerank => "rerank",
            Self::Score => "score",
            Self::Classify => "classify",
            Self::Models => "models",
            Self::Model => "model",
        }
    }

    /// Whose conventions its requests, answers and errors follow.
    pub fn dialect(self) -> Dialect {
        Dialect::OpenAi
    }

    /// Whether the gateway reads its answers, because they are JSON or events that say what they cost; the others
    /// (sound, pictures) are passed on unread.
    pub fn is_inspected(self) -> bool {
        !self.is_multipart() && !matches!(self, Self::AudioSpeech | Self::ImagesGenerations)
    }

    /// Whether its requests are forms with files, not JSON.
    pub fn is_multipart(self) -> bool {
        matches!(
            self,
            Self::AudioTranscriptions | Self::AudioTranslations | Self::ImagesEdits | Self::ImagesVariations
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<(Endpoint, &str)>) {
        assert_eq!(Endpoint::of(path), expected, "{path}");
    }

    // parity: 3, 7, 8, 9
    #[test]
    fn every_path_is_found_with_and_without_v1() {
        for endpoint in Endpoint::ALL.into_iter().filter(|endpoint| *endpoint != Endpoint::Model) {
            let path = endpoint.upstream_path();
            check(path, Some((endpoint, "")));
            check(&format!("/v1{path}"), Some((endpoint, "")));
            check(&format!("/v1{path}/"), Some((endpoint, "")));
        }
    }

    #[test]
    fn a_model_id_may_contain_slashes() {
        check("/v1/models/gpt-4o", Some((Endpoint::Model, "gpt-4o")));
        check("/models/org/name:7b/", Some((Endpoint::Model, "org/name:7b")));
        check("/v1/models/org%2Fname", Some((Endpoint::Model, "org%2Fname")));
    }

    #[test]
    fn other_paths_are_not_known() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v2/models",
            "/v1models",
            "/v1/v1/models",
            "/chat",
            "/v1/chat/completions/x",
        ] {
            check(path, None);
        }
        check("/v1/models//", None);
    }

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::HashSet<_> =
            Endpoint::ALL.iter().map(|endpoint| endpoint.label()).collect();
        assert_eq!(labels.len(), Endpoint::ALL.len());
    }

    #[test]
    fn the_endpoint_is_guessed_from_the_keys() {
        assert_eq!(Endpoint::guess(br#"{"model":"m","messages":[]}"#), Ok(Endpoint::ChatCompletions));
        assert_eq!(Endpoint::guess(br#"{"model":"m","prompt":"p"}"#), Ok(Endpoint::Completions));
        assert_eq!(Endpoint::guess(br#"{"model":"m","input":"i"}"#), Ok(Endpoint::Embeddings));
        assert!(Endpoint::guess(br#"{"model":"m"}"#).is_err());
        assert!(Endpoint::guess(b"[1]").is_err());
        assert!(Endpoint::guess(b"{").is_err());
    }
}
