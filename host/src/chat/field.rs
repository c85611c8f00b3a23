//! What a request can say, and what is done where a surface cannot say it.

use crate::wire::Surface;

/// Something a request can say that not every surface can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// Instructions after the first message of a conversation.
    SystemInside,
    /// The role of a developer's instructions.
    Developer,
    /// The name of a speaker.
    MessageName,
    /// A picture by its URL.
    ImageUrl,
    /// How closely a picture is looked at.
    ImageDetail,
    /// Sound.
    Audio,
    /// A document.
    File,
    /// A document by its URL.
    FileUrl,
    /// A document by the id of an upload.
    FileId,
    /// Content of a kind that only the client's vendor has.
    ContentKind,
    /// Earlier thinking, without a signature of the target's.
    Thinking,
    /// Pictures and documents in a tool's result.
    ToolResultMedia,
    /// That a tool's result is an error.
    ToolResultError,
    /// A mark for the cache.
    CacheControl,
    /// A tool that the client's vendor runs.
    VendorTool,
    /// That arguments follow the schema exactly.
    ToolStrict,
    /// Which tools may be called, of those there are.
    ToolChoiceAmong,
    /// That a tool must be called.
    ToolRequired,
    /// Whether several tools may be called at once.
    ParallelToolCalls,
    /// The most tokens of the answer.
    MaxTokens,
    /// Randomness.
    Temperature,
    /// A share of probability.
    TopP,
    /// A number of tokens to draw from.
    TopK,
    /// Words that end the answer.
    Stop,
    /// Repeatability.
    Seed,
    /// Several answers.
    N,
    /// Penalty for presence.
    PresencePenalty,
    /// Penalty for frequency.
    FrequencyPenalty,
    /// Probabilities of tokens.
    Logprobs,
    /// Likelihoods of tokens.
    LogitBias,
    /// An amount of thinking.
    Reasoning,
    /// An answer of pictures or sound.
    Modalities,
    /// A JSON object as the form of the answer.
    JsonObject,
    /// A schema for the answer.
    JsonSchema,
    /// A number of words that end the answer beyond what the target takes.
    StopCount,
    /// Whom the client asks for.
    User,
    /// Labels.
    Metadata,
    /// A class of service.
    ServiceTier,
    /// A conversation that is kept by the vendor.
    StoredConversation,
    /// Members of a kind that the hub has no word for.
    Unknown,
}

/// What is done about something that a surface cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is left out; the answer is as good without it.
    Drop,
    /// The nearest thing is said.
    Approximate,
    /// The request is refused with 400: without it the answer would be another one.
    Refuse,
}

impl Action {
    /// Its name in the documentation.
    pub fn label(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Approximate => "approximate",
            Self::Refuse => "refuse",
        }
    }
}

/// A row of the table of a surface: what is done about something that it cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What cannot be said.
    pub field: Field,
    /// What is done.
    pub action: Action,
    /// How, in a few words, for the documentation.
    pub how: &'static str,
}

impl Field {
    /// How requests of a surface name it; none where the surface has no such thing.
    pub fn name(self, surface: Surface) -> Option<&'static str> {
        let [chat, responses, messages, gemini] = self.names();
        let name = match surface {
            Surface::Chat => chat,
            Surface::Responses => responses,
            Surface::Messages => messages,
            Surface::Gemini => gemini,
        };
        Some(name).filter(|name| !name.is_empty())
    }

    /// Its names on the surfaces: chat, Responses, Messages, Gemini.
    fn names(self) -> [&'static str; 4] {
        match self {
            Self::SystemInside => ["messages[].role", "input[].role", "", ""],
            Self::Developer => ["messages[].role", "input[].role", "", ""],
            Self::MessageName => ["messages[].name", "", "", ""],
            Self::ImageUrl => [
                "messages[].content[].image_url",
                "input[].content[].image_url",
                "messages[].content[].source.url",
                "contents[].parts[].fileData",
            ],
            Self::ImageDetail => [
                "messages[].content[].image_url.detail",
                "input[].content[].detail",
                "",
                "contents[].parts[].mediaResolution",
            ],
            Self::Audio => [
                "messages[].content[].input_audio",
                "input[].content[].input_audio",
                "",
                "contents[].parts[].inlineData",
            ],
            Self::File => [
                "messages[].content[].file",
                "input[].content[].file_data",
                "messages[].content[].source",
                "contents[].parts[].inlineData",
            ],
            Self::FileUrl => [
                "",
                "input[].content[].file_url",
                "messages[].content[].source.url",
                "contents[].parts[].fileData",
            ],
            Self::FileId => [
                "messages[].content[].file.file_id",
                "input[].content[].file_id",
                "messages[].content[].source.file_id",
                "",
            ],
            Self::ContentKind => [
                "messages[].content[].type",
                "input[].content[].type",
                "messages[].content[].type",
                "contents[].parts[]",
            ],
            Self::Thinking => [
                "messages[].thinking_blocks",
                "input[].encrypted_content",
                "messages[].content[].thinking",
                "contents[].parts[].thought",
            ],
            Self::ToolResultMedia => [
                "messages[].content[]",
                "input[].output[]",
                "messages[].content[].content[]",
                "contents[].parts[].functionResponse.parts",
            ],
            Self::ToolResultError => ["", "", "messages[].content[].is_error", ""],
            Self::CacheControl => {
                ["messages[].content[].cache_control", "", "cache_control", "cachedContent"]
            }
            Self::VendorTool => ["tools[].type", "tools[].type", "tools[].type", "tools[]"],
            Self::ToolStrict => ["tools[].function.strict", "tools[].strict", "tools[].strict", ""],
            Self::ToolChoiceAmong => [
                "tool_choice.allowed_tools",
                "tool_choice.tools",
                "",
                "toolConfig.functionCallingConfig.allowedFunctionNames",
            ],
            Self::ToolRequired => {
                ["tool_choice", "tool_choice", "tool_choice", "toolConfig.functionCallingConfig.mode"]
            }
            Self::ParallelToolCalls => {
                ["parallel_tool_calls", "parallel_tool_calls", "tool_choice.disable_parallel_tool_use", ""]
            }
            Self::MaxTokens => [
                "max_completion_tokens",
                "max_output_tokens",
                "max_tokens",
                "generationConfig.maxOutputTokens",
            ],
            Self::Temperature => {
                ["temperature", "temperature", "temperature", "generationConfig.temperature"]
            }
            Self::TopP => ["top_p", "top_p", "top_p", "generationConfig.topP"],
            Self::TopK => ["top_k", "", "top_k", "generationConfig.topK"],
            Self::Stop | Self::StopCount => ["stop", "", "stop_sequences", "generationConfig.stopSequences"],
            Self::Seed => ["seed", "", "", "generationConfig.seed"],
            Self::N => ["n", "", "", "generationConfig.candidateCount"],
            Self::PresencePenalty => ["presence_penalty", "", "", "generationConfig.presencePenalty"],
            Self::FrequencyPenalty => ["frequency_penalty", "", "", "generationConfig.frequencyPenalty"],
            Self::Logprobs => ["logprobs", "top_logprobs", "", "generationConfig.responseLogprobs"],
            Self::LogitBias => ["logit_bias", "", "", ""],
            Self::Reasoning => {
                ["reasoning_effort", "reasoning", "thinking", "generationConfig.thinkingConfig"]
            }
            Self::Modalities => ["modalities", "", "", "generationConfig.responseModalities"],
            Self::JsonObject => ["response_format", "text.format", "", "generationConfig.responseMimeType"],
            Self::JsonSchema => [
                "response_format.json_schema",
                "text.format.schema",
                "output_config.format",
                "generationConfig.responseSchema",
            ],
            Self::User => ["user", "user", "metadata.user_id", ""],
            Self::Metadata => ["metadata", "metadata", "metadata", "labels"],
            Self::ServiceTier => ["service_tier", "service_tier", "service_tier", "serviceTier"],
            Self::StoredConversation => ["store", "previous_response_id", "container", "cachedContent"],
            Self::Unknown => ["*", "*", "*", "*"],
        }
    }
}
