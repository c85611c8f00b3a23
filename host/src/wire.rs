//! What is said on the wire: the dialects, their endpoints, and how requests and answers are read and edited.

pub mod json;
pub mod openai;
pub mod sse;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/chat/completions`
    ChatCompletions,
    /// `/completions`
    Completions,
    /// `/embeddings`
    Embeddings,
    /// `/responses`
    Responses,
    /// `/audio/transcriptions`
    AudioTranscriptions,
    /// `/audio/translations`
    AudioTranslations,
    /// `/audio/speech`
    AudioSpeech,
    /// `/images/generations`
    ImagesGenerations,
    /// `/images/edits`
    ImagesEdits,
    /// `/images/variations`
    ImagesVariations,
    /// `/moderations`
    Moderations,
    /// `/rerank`
    Rerank,
    /// `/score`
    Score,
    /// `/classify`
    Classify,
    /// `/models`
    Models,
    /// `/models/{id}`
    Model,
}
