//! Labels exchanges by rule: from the request as soon as it is read, from tokens and times once it is over.

mod check;
mod settings;
mod value;

use settings::{Settings, Source, Tag};
use witgate_sdk::{AuditRecord, Call, Finish, Flow, OnComplete, OnRequest, Plugin, Rejection, Usage, export};

struct AuditTags {
    settings: Settings,
}

export!(AuditTags: OnRequest, OnComplete);

impl Plugin for AuditTags {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        check::settings(&settings)?;
        Ok(Self { settings })
    }
}

impl OnRequest for AuditTags {
    fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
        for tag in self.settings.tags.iter().filter(|tag| tag.from.is_of_request()) {
            if let Some(value) = tag.value(tag.from.in_request(call)) {
                call.tag(&tag.name, &value);
            }
        }
        Ok(Flow::Next)
    }
}

impl OnComplete for AuditTags {
    fn on_complete(&self, batch: Vec<AuditRecord>) -> Result<Vec<(String, Vec<(String, String)>)>, String> {
        let tagged = batch.into_iter().map(|record| (self.tags(&record), record.id));
        Ok(tagged.filter(|(tags, _)| !tags.is_empty()).map(|(tags, id)| (id, tags)).collect())
    }
}

impl AuditTags {
    /// The labels that only the end of an exchange gives.
    fn tags(&self, record: &AuditRecord) -> Vec<(String, String)> {
        let late = self.settings.tags.iter().filter(|tag| !tag.from.is_of_request());
        let value = |tag: &Tag| Some((tag.name.clone(), tag.value(tag.from.in_record(record))?));
        let mut tags: Vec<(String, String)> = late.filter_map(value).collect();
        let times = [
            ("slow", Some(record.total_us), self.settings.slow_ms),
            ("slow_first_token", record.ttft_us, self.settings.slow_first_token_ms),
        ];
        for (name, took_us, bound_ms) in times {
            if took_us.zip(bound_ms).is_some_and(|(took, bound)| took > bound.saturating_mul(1000)) {
                tags.push((name.to_owned(), "true".to_owned()));
            }
        }
        tags
    }
}

impl Source {
    /// Says whether the request has it; otherwise the end of the exchange has.
    fn is_of_request(&self) -> bool {
        match self {
            Self::Header(_) | Self::Pointer(_) | Self::Const(_) => true,
            Self::Tenant | Self::Model | Self::Operation | Self::Stream => true,
            Self::Upstream | Self::Status | Self::Finish | Self::TotalMs | Self::FirstTokenMs => false,
            Self::PromptTokens | Self::CompletionTokens | Self::ReasoningTokens => false,
            Self::CachedPromptTokens | Self::TotalTokens => false,
        }
    }

    fn in_request(&self, call: &Call) -> Option<String> {
        match self {
            Self::Header(name) => call.header(name),
            Self::Pointer(pointer) => call.get(pointer).and_then(value::text),
            Self::Const(text) => Some(text.clone()),
            Self::Tenant => call.tenant(),
            Self::Model => Some(call.model()),
            Self::Operation => Some(call.operation()),
            Self::Stream => Some(call.is_stream().to_string()),
            _ => None,
        }
    }

    fn in_record(&self, record: &AuditRecord) -> Option<String> {
        let usage = record.usage.as_ref();
        let tokens = |count: fn(&Usage) -> u64| usage.map(|usage| count(usage).to_string());
        match self {
            Self::Upstream => record.upstream.clone(),
            Self::Status => Some(record.status.to_string()),
            Self::Finish => record.finish.map(|finish| finish_name(finish).to_owned()),
            Self::PromptTokens => tokens(|usage| usage.prompt_tokens),
            Self::CompletionTokens => tokens(|usage| usage.completion_tokens),
            Self::ReasoningTokens => tokens(|usage| usage.reasoning_tokens),
            Self::CachedPromptTokens => tokens(|usage| usage.cached_prompt_tokens),
            Self::TotalTokens => tokens(|usage| usage.prompt_tokens.saturating_add(usage.completion_tokens)),
            Self::TotalMs => Some((record.total_us / 1000).to_string()),
            Self::FirstTokenMs => record.ttft_us.map(|us| (us / 1000).to_string()),
            _ => None,
        }
    }
}

fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
        Finish::Cancelled => "cancelled",
        Finish::UpstreamError => "upstream_error",
    }
}
