//! What this surface has no words for.

use crate::chat::{Action, Field, Row};

/// What requests of this surface cannot say, and what is done about it.
pub const TABLE: &[Row] = &[
    row(Field::SystemInside, Action::Approximate, "instructions move to `system`, in their order"),
    row(Field::Developer, Action::Approximate, "written as `system`"),
    row(Field::MessageName, Action::Drop, "speakers have no names"),
    row(Field::ImageDetail, Action::Drop, "pictures are looked at in one way"),
    row(Field::Audio, Action::Refuse, "it takes no sound"),
    row(Field::File, Action::Refuse, "it takes documents as PDF or as text"),
    row(Field::FileUrl, Action::Refuse, "it fetches nothing but `http` and `https` addresses"),
    row(Field::FileId, Action::Refuse, "uploads at another vendor cannot be read; send the file itself"),
    row(Field::ContentKind, Action::Refuse, "only the client's vendor can read it; send its text"),
    row(Field::Thinking, Action::Drop, "thinking that it has not signed is left out"),
    row(Field::VendorTool, Action::Refuse, "tools that another vendor runs are not there"),
    row(Field::ToolChoiceAmong, Action::Approximate, "only these tools are sent"),
    row(
        Field::ToolRequired,
        Action::Approximate,
        "models that refuse it, as Opus and Sonnet from 5.5 on, are asked for a call in words",
    ),
    row(
        Field::Temperature,
        Action::Approximate,
        "the scale ends at 1; left out while thinking, and for models from 4.7 on, which have none",
    ),
    row(
        Field::TopP,
        Action::Drop,
        "left out while thinking, beside a temperature for models from 4 on, and for models from 4.7 on",
    ),
    row(Field::TopK, Action::Drop, "left out while thinking, and for models from 4.7 on"),
    row(Field::Stop, Action::Drop, "words of nothing but white space are left out"),
    row(Field::Seed, Action::Drop, "answers cannot be repeated"),
    row(Field::N, Action::Refuse, "it gives one answer at a time"),
    row(Field::PresencePenalty, Action::Drop, "there is none"),
    row(Field::FrequencyPenalty, Action::Drop, "there is none"),
    row(Field::Logprobs, Action::Refuse, "it does not tell probabilities"),
    row(Field::LogitBias, Action::Refuse, "likelihoods cannot be changed"),
    row(
        Field::Reasoning,
        Action::Approximate,
        "words and numbers of tokens stand for each other; none where a tool must be called, in a turn with tools that \
         began without, where `max_tokens` leaves no 1024 tokens for it, or for models before 3.7",
    ),
    row(
        Field::JsonSchema,
        Action::Approximate,
        "objects are closed; rules that are not taken become descriptions; older models are asked in words",
    ),
    row(Field::JsonObject, Action::Approximate, "an instruction asks for a JSON object"),
    row(Field::Modalities, Action::Refuse, "answers are texts"),
    row(Field::Metadata, Action::Drop, "there are no labels"),
    row(Field::ServiceTier, Action::Drop, "the classes are others"),
    row(
        Field::StoredConversation,
        Action::Refuse,
        "what another vendor keeps cannot be read; send the conversation",
    ),
    row(Field::Unknown, Action::Drop, "left out"),
];

const fn row(field: Field, action: Action, how: &'static str) -> Row {
    Row { field, action, how }
}
