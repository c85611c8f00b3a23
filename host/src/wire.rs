//! What is said on the wire: the dialects, their endpoints, and how requests and answers are read and edited.
//!
//! Pure: bytes in, bytes out. It knows no socket and no clock, and nothing outside of it names a vendor's field.

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;

use crate::chat::ApiError;
use crate::config::ErrorCompat;
use crate::error::Error;

pub mod anthropic;
pub mod convert;
pub mod document;
pub mod gemini;
pub mod json;
pub mod messages;
pub mod models;
pub mod multipart;
pub mod openai;
pub mod relay;
pub mod rename;
pub mod request;
pub mod sse;
mod stop;
pub mod text;
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

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Gemini];

    /// Its name in the configuration and to plugins.
    pub fn label(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// The dialect of a label.
    pub fn labelled(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.label() == label)
    }

    /// The dialect that a client speaks: by the path where only one has it, else by the headers that only one's clients send.
    ///
    /// Source: the vendors' clients; `x-api-key` before `x-goog-api-key`, as an earlier gateway has it.
    pub fn of(path: &str, headers: &HeaderMap) -> Self {
        match Endpoint::of(path) {
            Some((Endpoint::Models | Endpoint::Model, _)) | None => {}
            Some((endpoint, _)) => return endpoint.dialect(),
        }
        if ["/v1beta/", "/v1alpha/"].into_iter().any(|prefix| path.starts_with(prefix)) {
            Self::Gemini
        } else if headers.contains_key("x-api-key") || headers.contains_key("anthropic-version") {
            Self::Anthropic
        } else if headers.contains_key("x-goog-api-key") || headers.contains_key("x-goog-api-client") {
            Self::Gemini
        } else {
            Self::OpenAi
        }
    }

    /// Whether a header, by its name in lower case, is for upstreams of this dialect only.
    pub fn owns_header(self, name: &str) -> bool {
        let prefixes: &[&str] = match self {
            Self::OpenAi => &["openai-"],
            Self::Anthropic => &["anthropic-"],
            Self::Gemini => &["x-goog-"],
        };
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Where its API is below a base URL that has no path.
    ///
    /// Source: the base URLs of the vendors' own clients; those of OpenAI's dialect are written with their path.
    pub fn base_path(self) -> &'static str {
        match self {
            Self::OpenAi => "",
            Self::Anthropic => "/v1",
            Self::Gemini => "/v1beta",
        }
    }
}

/// A grammar of requests for an answer of a model's, of the answers and of their streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Surface {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's Responses.
    Responses,
    /// Anthropic's Messages.
    Messages,
    /// Google's generateContent.
    Gemini,
}

impl Surface {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Chat, Self::Responses, Self::Messages, Self::Gemini];

    /// Its name in texts.
    pub fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Gemini => "gemini",
        }
    }

    /// The surface of a label.
    pub fn labelled(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|surface| surface.label() == label)
    }
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
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    CountMessageTokens,
    /// `/v1beta/models/{model}:generateContent` and `:streamGenerateContent`
    GenerateContent,
    /// `/v1beta/models/{model}:countTokens`
    CountContentTokens,
    /// `/v1beta/models/{model}:embedContent`
    EmbedContent,
    /// `/v1beta/models/{model}:batchEmbedContents`
    BatchEmbedContents,
    /// `/v1/models`, `/v1beta/models`
    Models,
    /// `/v1/models/{id}`, `/v1beta/models/{id}`
    Model,
}

impl Endpoint {
    /// Every endpoint, in the order of the documentation.
    pub const ALL: [Self; 22] = [
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
        Self::Messages,
        Self::CountMessageTokens,
        Self::GenerateContent,
        Self::CountContentTokens,
        Self::EmbedContent,
        Self::BatchEmbedContents,
        Self::Models,
        Self::Model,
    ];

    /// Finds the endpoint of a request's path, which may lack `/v1` and may end with a slash.
    ///
    /// The second value is what follows the endpoint's own path: the id of `Model`, which may contain slashes and is
    /// percent-encoded as the client sent it; `MODEL:METHOD` of Google's endpoints; otherwise nothing.
    pub fn of(path: &str) -> Option<(Self, &str)> {
        let google = ["/v1beta", "/v1alpha"].into_iter().find_map(|prefix| path.strip_prefix(prefix));
        let path =
            google.or_else(|| path.strip_prefix("/v1")).filter(|rest| rest.starts_with('/')).unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if let Some(id) = path.strip_prefix("/models/") {
            if let Some(endpoint) = id.rsplit_once(':').and_then(|(_, method)| Self::of_gemini_method(method))
            {
                return Some((endpoint, id));
            }
            return (!id.is_empty()).then_some((Self::Model, id));
        }
        if google.is_some() && path != "/models" {
            return None;
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
            "/messages" => Self::Messages,
            "/messages/count_tokens" => Self::CountMessageTokens,
            "/models" => Self::Models,
            _ => return None,
        };
        Some((endpoint, ""))
    }

    fn of_gemini_method(method: &str) -> Option<Self> {
        Some(match method {
            "generateContent" | "streamGenerateContent" => Self::GenerateContent,
            "countTokens" => Self::CountContentTokens,
            "embedContent" => Self::EmbedContent,
            "batchEmbedContents" => Self::BatchEmbedContents,
            _ => return None,
        })
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
        let known = [
            ("messages", Self::ChatCompletions),
            ("contents", Self::GenerateContent),
            ("prompt", Self::Completions),
            ("input", Self::Embeddings),
        ];
        let found = known.into_iter().find(|(key, _)| request.get(key).is_some());
        found.map(|(_, endpoint)| endpoint).ok_or_else(|| {
            "request has none of `messages`, `contents`, `prompt` and `input`; give the body of a chat, completion or \
             embedding"
                .to_owned()
        })
    }

    /// Its path below an upstream's base URL, which has the `/v1` if there is one; `Model` is followed by the id, and
    /// Google's endpoints by the model and their [method](Self::gemini_method).
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
            Self::Messages => "/messages",
            Self::CountMessageTokens => "/messages/count_tokens",
            Self::GenerateContent
            | Self::CountContentTokens
            | Self::EmbedContent
            | Self::BatchEmbedContents => "/models/",
            Self::Models => "/models",
            Self::Model => "/models/",
        }
    }

    /// Whether its answers have text of a model's.
    pub fn has_text(self) -> bool {
        self == Self::Completions || self.surface().is_some()
    }

    /// The grammar of its requests and answers, if it is one that can be converted to another.
    pub fn surface(self) -> Option<Surface> {
        match self {
            Self::ChatCompletions => Some(Surface::Chat),
            Self::Responses => Some(Surface::Responses),
            Self::Messages => Some(Surface::Messages),
            Self::GenerateContent => Some(Surface::Gemini),
            _ => None,
        }
    }

    /// Whether it counts the tokens of a request that is not answered.
    pub fn is_count(self) -> bool {
        matches!(self, Self::CountMessageTokens | Self::CountContentTokens)
    }

    /// What stands behind the model's name in the path, for Google's endpoints.
    pub fn gemini_method(self, is_stream: bool) -> Option<&'static str> {
        match (self, is_stream) {
            (Self::GenerateContent, false) => Some("generateContent"),
            (Self::GenerateContent, true) => Some("streamGenerateContent"),
            (Self::CountContentTokens, _) => Some("countTokens"),
            (Self::EmbedContent, _) => Some("embedContent"),
            (Self::BatchEmbedContents, _) => Some("batchEmbedContents"),
            _ => None,
        }
    }

    /// The endpoint at which an upstream of a dialect is asked what a client asks here; itself where both speak the same.
    /// None if the dialect has nothing like it. `has_responses` says whether an upstream of OpenAI's dialect has that API.
    pub fn at(self, dialect: Dialect, has_responses: bool) -> Option<Self> {
        use Dialect::{Anthropic, Gemini, OpenAi};
        if self == Self::Responses && dialect == OpenAi && !has_responses {
            return Some(Self::ChatCompletions);
        }
        if self.dialect() == dialect || matches!(self, Self::Models | Self::Model) {
            return Some(self);
        }
        match (self, dialect) {
            (_, OpenAi) if self.surface().is_some() => Some(Self::ChatCompletions),
            (_, Anthropic) if self.surface().is_some() => Some(Self::Messages),
            (_, Gemini) if self.surface().is_some() => Some(Self::GenerateContent),
            (Self::CountContentTokens, Anthropic) => Some(Self::CountMessageTokens),
            (Self::CountMessageTokens, Gemini) => Some(Self::CountContentTokens),
            (Self::EmbedContent | Self::BatchEmbedContents, OpenAi) => Some(Self::Embeddings),
            (Self::Embeddings, Gemini) => Some(Self::BatchEmbedContents),
            _ => None,
        }
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
            Self::Messages => "anthropic.messages",
            Self::CountMessageTokens => "anthropic.count_tokens",
            Self::GenerateContent => "gemini.generate_content",
            Self::CountContentTokens => "gemini.count_tokens",
            Self::EmbedContent => "gemini.embed_content",
            Self::BatchEmbedContents => "gemini.batch_embed_contents",
            Self::Models => "models",
            Self::Model => "model",
        }
    }

    /// Whose conventions its requests, answers and errors follow.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Messages | Self::CountMessageTokens => Dialect::Anthropic,
            Self::GenerateContent
            | Self::CountContentTokens
            | Self::EmbedContent
            | Self::BatchEmbedContents => Dialect::Gemini,
            _ => Dialect::OpenAi,
        }
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

/// Who reads an error of the gateway's own.
#[derive(Clone, Copy, Debug)]
pub struct Audience {
    /// The client's dialect.
    pub dialect: Dialect,
    /// What it asked; none for what is no endpoint.
    pub endpoint: Option<Endpoint>,
    /// The shape of OpenAI's errors.
    pub compat: ErrorCompat,
}

impl Audience {
    /// Writes the body of an error.
    pub fn body(self, error: &Error) -> Bytes {
        match self.dialect {
            Dialect::OpenAi => openai::encode_error(error, self.compat),
            Dialect::Anthropic | Dialect::Gemini => {
                let mut error = ApiError::of(error);
                // They have no place of its own for the field.
                if let Some(param) = error.param.take().filter(|param| !error.message.contains(&**param)) {
                    error.message = format!("{param}: {}", error.message);
                }
                convert::encode_error(self.dialect, &error)
            }
        }
    }

    /// Writes an error as the last event of a stream, after so many of the upstream's.
    pub fn event(self, error: &Error, events: u64) -> Bytes {
        match self.dialect {
            Dialect::OpenAi if self.endpoint == Some(Endpoint::Responses) => {
                openai::responses::error_event(&ApiError::of(error), events)
            }
            Dialect::OpenAi => openai::error_event(error, self.compat),
            Dialect::Anthropic => sse::encode(Some("error"), &self.body(error)),
            Dialect::Gemini => sse::encode(None, &self.body(error)),
        }
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
        let with_names =
            |endpoint: Endpoint| endpoint == Endpoint::Model || endpoint.gemini_method(false).is_some();
        for endpoint in Endpoint::ALL.into_iter().filter(|endpoint| !with_names(*endpoint)) {
            let path = endpoint.upstream_path();
            check(path, Some((endpoint, "")));
            check(&format!("/v1{path}"), Some((endpoint, "")));
            check(&format!("/v1{path}/"), Some((endpoint, "")));
        }
    }

    #[test]
    fn googles_paths_end_with_the_model_and_what_is_asked_of_it() {
        for version in ["/v1beta", "/v1", "/v1alpha", ""] {
            for (method, endpoint) in [
                ("generateContent", Endpoint::GenerateContent),
                ("streamGenerateContent", Endpoint::GenerateContent),
                ("countTokens", Endpoint::CountContentTokens),
                ("embedContent", Endpoint::EmbedContent),
                ("batchEmbedContents", Endpoint::BatchEmbedContents),
            ] {
                let rest = format!("gemini-2.5-pro:{method}");
                check(&format!("{version}/models/{rest}"), Some((endpoint, &rest)));
            }
            check(&format!("{version}/models/llama3:8b"), Some((Endpoint::Model, "llama3:8b")));
        }
        check("/v1beta/models", Some((Endpoint::Models, "")));
        check("/v1beta/chat/completions", None);
    }

    #[test]
    fn an_upstream_is_asked_at_the_endpoint_of_its_dialect() {
        use Dialect::{Anthropic, Gemini, OpenAi};
        for (endpoint, dialect, has_responses, there) in [
            (Endpoint::Messages, Anthropic, true, Some(Endpoint::Messages)),
            (Endpoint::Messages, OpenAi, true, Some(Endpoint::ChatCompletions)),
            (Endpoint::Responses, OpenAi, true, Some(Endpoint::Responses)),
            (Endpoint::Responses, OpenAi, false, Some(Endpoint::ChatCompletions)),
            (Endpoint::Responses, Gemini, true, Some(Endpoint::GenerateContent)),
            (Endpoint::CountMessageTokens, OpenAi, true, None),
            (Endpoint::Embeddings, Gemini, true, Some(Endpoint::BatchEmbedContents)),
            (Endpoint::Embeddings, Anthropic, true, None),
            (Endpoint::Completions, Anthropic, true, None),
        ] {
            assert_eq!(endpoint.at(dialect, has_responses), there, "{endpoint:?} at {dialect:?}");
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
        assert_eq!(Endpoint::guess(br#"{"model":"m","contents":[]}"#), Ok(Endpoint::GenerateContent));
        assert_eq!(Endpoint::guess(br#"{"model":"m","prompt":"p"}"#), Ok(Endpoint::Completions));
        assert_eq!(Endpoint::guess(br#"{"model":"m","input":"i"}"#), Ok(Endpoint::Embeddings));
        assert!(Endpoint::guess(br#"{"model":"m"}"#).is_err());
        assert!(Endpoint::guess(b"[1]").is_err());
        assert!(Endpoint::guess(b"{").is_err());
    }
}
