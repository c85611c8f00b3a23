//! Labels exchanges by rule: from the request as soon as it is read, from tokens and times once it is over.

mod check;
mod settings;
mod value;

use settings::{Settings, Source, Tag};
use witgate_sdk::{
    AuditRecord, Call, Finish, Flow, Labels, OnComplete, OnRequest, Plugin, Rejection, Usage, export,
};

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
    fn on_complete(&self, batch: Vec<AuditRecord>) -> Result<Vec<(String, Labels)>, String> {
        let tagged = batch.into_iter().map(|record| (self.tags(&record), record.id));
        Ok(tagged.filter(|(tags, _)| !tags.is_empty()).map(|(tags, id)| (id, tags)).collect())
    }
}

impl AuditTags {
    /// The labels that only the end of an exchange gives.
    fn tags(&self, record: &AuditRecord) -> Labels {
        let late = self.settings.tags.iter().filter(|tag| !tag.from.is_of_request());
        let value = |tag: &Tag| Some((tag.name.clone(), tag.value(tag.from.in_record(record))?));
        let mut tags: Labels = late.filter_map(value).collect();
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use witgate_sdk::testkit::{Kit, record};

    use super::*;

    fn kit(tags: &Value) -> Kit<AuditTags> {
        Kit::new(json!({ "tags": tags }))
    }

    #[test]
    fn the_request_is_labelled_at_once() {
        #[track_caller]
        fn check(from: Value, expected: Option<&str>) {
            let kit = kit(&json!([{ "name": "label", "from": from }]))
                .request(json!({ "model": "m", "user": "a\nb", "n": 2, "meta": { "a": [1] }, "stop": null }))
                .header("X-Team", "search")
                .header("x-empty", "")
                .tenant("acme")
                .operation("embeddings");
            kit.on_request().unwrap();
            assert_eq!(kit.tags().get("label").map(String::as_str), expected, "{from}");
        }
        check(json!({ "header": "x-team" }), Some("search"));
        check(json!({ "header": "x-none" }), None);
        check(json!({ "header": "x-empty" }), None);
        check(json!({ "pointer": "/user" }), Some("a\nb"));
        check(json!({ "pointer": "/n" }), Some("2"));
        check(json!({ "pointer": "/meta" }), Some(r#"{"a":[1]}"#));
        check(json!({ "pointer": "/stop" }), None);
        check(json!({ "pointer": "/none" }), None);
        check(json!({ "const": "x" }), Some("x"));
        check(json!("tenant"), Some("acme"));
        check(json!("model"), Some("m"));
        check(json!("operation"), Some("embeddings"));
        check(json!("stream"), Some("false"));
        check(json!("status"), None);
    }

    fn finished() -> AuditRecord {
        let usage =
            Usage { prompt_tokens: 90, completion_tokens: 20, reasoning_tokens: 5, cached_prompt_tokens: 7 };
        AuditRecord { usage: Some(usage), ..record("a") }
    }

    #[track_caller]
    fn check_complete(config: Value, record: AuditRecord, expected: &[(&str, &str)]) {
        let found = Kit::<AuditTags>::new(config).on_complete(vec![record]).unwrap();
        let found: BTreeMap<&str, &str> = found
            .iter()
            .flat_map(|(_, tags)| tags)
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected.iter().copied().collect());
    }

    #[test]
    fn the_end_is_labelled_afterwards() {
        let check = |from: &str, expected: &[(&str, &str)]| {
            check_complete(json!({ "tags": [{ "name": "label", "from": from }] }), finished(), expected);
        };
        check("upstream", &[("label", "upstream")]);
        check("status", &[("label", "200")]);
        check("finish", &[("label", "stop")]);
        check("prompt_tokens", &[("label", "90")]);
        check("completion_tokens", &[("label", "20")]);
        check("reasoning_tokens", &[("label", "5")]);
        check("cached_prompt_tokens", &[("label", "7")]);
        check("total_tokens", &[("label", "110")]);
        check("total_ms", &[("label", "1000")]);
        check("first_token_ms", &[("label", "100")]);
        check("model", &[]);
    }

    #[test]
    fn costs_have_classes() {
        let bands = json!([{ "below": 100, "value": "small" }, { "value": "large" }]);
        let config = json!({ "tags": [{ "name": "cost", "from": "total_tokens", "bands": bands }] });
        check_complete(config.clone(), finished(), &[("cost", "large")]);
        check_complete(config, record("a"), &[]);
    }

    #[test]
    fn slow_exchanges_are_named() {
        let config = json!({ "slow_ms": 999, "slow_first_token_ms": 100 });
        check_complete(config.clone(), finished(), &[("slow", "true")]);
        let both = AuditRecord { ttft_us: Some(100_001), ..finished() };
        check_complete(config, both, &[("slow", "true"), ("slow_first_token", "true")]);
        check_complete(json!({ "slow_ms": 1000 }), finished(), &[]);
    }

    #[test]
    fn only_exchanges_with_labels_are_returned() {
        let kit = kit(&json!([{ "name": "end", "from": "finish" }]));
        let unfinished = AuditRecord { finish: None, ..record("b") };
        let found = kit.on_complete(vec![record("a"), unfinished, record("c")]).unwrap();
        assert_eq!(found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn the_schema_knows_every_source() {
        let schema = Kit::<AuditTags>::schema().to_string();
        for source in ["header", "pointer", "const", "tenant", "cached_prompt_tokens", "first_token_ms"] {
            assert!(schema.contains(&format!("\"{source}\"")), "{source}");
        }
    }
}
