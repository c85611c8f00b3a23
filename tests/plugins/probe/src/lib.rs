//! Shows what a plugin sees, and does what a request tells it.
//!
//! The header `x-probe` of a request holds commands, parted by `;`. The first word of each is the hook it is for:
//! `on-request get log; on-response retry`. What the hooks see is appended to kv under `log`, if the configuration says
//! so.

mod commands;
mod text;

use std::cell::Cell;
use std::fmt::Display;

use commands::Commands;
use serde::Deserialize;
use serde_json::json;
use witgate_sdk::{
    AuditRecord, Authenticate, Call, Candidate, Config, ErrorFlow, Failure, Finish, Flow, Head, Hint, Labels,
    OnComplete, OnError, OnRequest, OnResponse, OnRoute, OnTick, OnUpstreamRequest, Plugin, Principal,
    Rejection, ResponseFlow, SyntheticResponse, UpstreamFlow, export, kv,
};

/// What it does unasked.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// What it leaves where it was.
    label: String,
    /// What it does with text; without it, text is of no interest.
    text: Option<text::Settings>,
    /// Whether it takes part in the events of streams, and adds one of its own to their end.
    events: bool,
    /// Whether it notes what it sees in kv.
    notes: bool,
    /// How often it refuses a batch of records before it takes it.
    batches_refused: u32,
}

pub(crate) struct Probe {
    settings: Settings,
    /// How many requests this instance has seen.
    uses: Cell<u64>,
    batches_refused: Cell<u32>,
}

export!(
    Probe: Authenticate,
    OnRequest,
    OnRoute,
    OnUpstreamRequest,
    OnResponse,
    StreamText,
    StreamEvents,
    OnError,
    OnComplete,
    OnTick
);

impl Plugin for Probe {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self { settings, uses: Cell::new(0), batches_refused: Cell::new(0) })
    }
}

impl Probe {
    fn note(&self, line: impl Display) {
        if self.settings.notes {
            append(&format!("{line}"));
        }
    }

    /// Appends its label to a header, so that the order can be read there.
    fn trace(&self, call: &Call, name: &str) -> Result<(), Rejection> {
        let before = call.header(name).map(|before| before + ",").unwrap_or_default();
        call.set_header(name, &format!("{before}{}", self.settings.label))?;
        Ok(())
    }
}

/// Appends a line to what is in kv under `log`, whoever else does.
pub(crate) fn append(line: &str) {
    loop {
        let before = kv::get("log").ok().flatten();
        let mut after = before.clone().unwrap_or_default();
        after.extend_from_slice(line.as_bytes());
        after.push(b'\n');
        match kv::compare_and_set("log", before.as_deref(), after) {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
    }
}

/// An answer in the shape of a chat.
fn chat(text: &str) -> SyntheticResponse {
    let document = json!({
        "id": "chatcmpl-probe", "object": "chat.completion", "created": 1, "model": "probe",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    });
    SyntheticResponse::json(document.to_string())
}

impl Authenticate for Probe {
    fn authenticate(&self, head: &Head) -> Result<Option<Principal>, Rejection> {
        let commands = Commands::new(head.header("x-probe").unwrap_or_default());
        match commands.of("authenticate") {
            Some("refuse") => Err(Rejection::new(401, "unknown_caller", "nobody")),
            Some(name) => Ok(Some(Principal::new(name).tenant(name).key(name).tag("caller", name))),
            None => Ok(None),
        }
    }
}

impl OnRequest for Probe {
    fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
        self.uses.set(self.uses.get() + 1);
        let header = call.header("x-probe").unwrap_or_default();
        call.set_attr("commands", header.as_bytes());
        call.tag("probe", &self.settings.label);
        self.note(format_args!("on-request {} {} {}", call.operation(), call.model(), call.is_stream()));
        self.trace(call, "x-trace-request")?;
        let commands = Commands::new(&header);
        match commands.of("on-request") {
            Some(command) if commands.is_for(&self.settings.label) => {
                commands::request(command, call, self.uses.get())
            }
            _ => Ok(Flow::Next),
        }
    }
}

impl OnRoute for Probe {
    fn on_route(&self, call: &Call, candidates: &[Candidate]) -> Result<Hint, Rejection> {
        let ids: Vec<&str> = candidates.iter().map(|candidate| candidate.id.as_str()).collect();
        self.note(format_args!("on-route {}", ids.join(",")));
        let commands = Commands::left(call);
        let names = |text: &str| text.split(',').map(str::to_owned).collect();
        Ok(match commands.of("on-route").and_then(|command| command.split_once(' ')) {
            Some(("prefer", rest)) => Hint::Prefer(names(rest)),
            Some(("only", rest)) => Hint::Only(names(rest)),
            Some(("exclude", rest)) => Hint::Exclude(names(rest)),
            Some(_) => return Err(Rejection::new(403, "no_route", "not this way")),
            None => Hint::NoOpinion,
        })
    }
}

impl OnUpstreamRequest for Probe {
    fn on_upstream_request(&self, call: &Call) -> Result<UpstreamFlow, Rejection> {
        let upstream = call.upstream().unwrap_or_default();
        self.note(format_args!("on-upstream-request {upstream} {}", call.attempt()));
        self.trace(call, "x-trace-upstream")?;
        match Commands::left(call).of("on-upstream-request") {
            Some("reject") => Err(Rejection::new(403, "not_there", "not to this upstream")),
            Some(skipped) if skipped == upstream => Ok(UpstreamFlow::SkipUpstream),
            _ => Ok(UpstreamFlow::Next),
        }
    }
}

impl OnResponse for Probe {
    fn on_response(&self, call: &Call, status: u16) -> Result<ResponseFlow, Rejection> {
        self.note(format_args!("on-response {status}"));
        self.trace(call, "x-trace-response")?;
        match Commands::left(call).of("on-response") {
            Some("retry") if call.attempt() == 1 => Ok(ResponseFlow::Retry("the probe wants it".to_owned())),
            Some("reject") => {
                Err(Rejection::new(451, "refused_answer", "not this answer").header("x-why", "probe"))
            }
            Some("respond") => Ok(ResponseFlow::Respond(chat("instead of the answer"))),
            _ => Ok(ResponseFlow::Next),
        }
    }
}

impl OnError for Probe {
    fn on_error(&self, call: &Call, failure: &Failure) -> Result<ErrorFlow, Rejection> {
        self.note(format_args!("on-error {} {} {}", failure.status, failure.code, failure.attempt));
        match Commands::left(call).of("on-error") {
            Some("retry") => Ok(ErrorFlow::Retry),
            Some("respond") => Ok(ErrorFlow::Respond(chat("instead of the error"))),
            Some("reject") => Err(Rejection::new(418, "teapot", "instead of the error")),
            Some(upstream) => Ok(ErrorFlow::Fallback(upstream.to_owned())),
            None => Ok(ErrorFlow::Next),
        }
    }
}

impl OnComplete for Probe {
    fn on_complete(&self, batch: Vec<AuditRecord>) -> Result<Vec<(String, Labels)>, String> {
        if self.batches_refused.get() < self.settings.batches_refused {
            self.batches_refused.set(self.batches_refused.get() + 1);
            self.note(format_args!("on-complete refuses {}", batch.len()));
            return Err("not yet".to_owned());
        }
        self.note(format_args!("on-complete takes {}", batch.len()));
        for record in &batch {
            let tags: Vec<String> = record.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let tokens = record.usage.map_or(0, |usage| usage.completion_tokens);
            let size = |body: &Option<Vec<u8>>| body.as_ref().map_or(0, Vec::len);
            self.note(format_args!(
                "record {} {} {} [{}] {tokens} {} {}",
                record.model,
                record.status,
                record.finish.map_or("none", finish_name),
                tags.join(" "),
                size(&record.request_body),
                size(&record.response_body),
            ));
        }
        Ok(batch.into_iter().map(|record| (record.id, vec![("seen".to_owned(), "yes".to_owned())])).collect())
    }
}

impl OnTick for Probe {
    fn on_tick(&self, now_unix_ms: u64) {
        // What cannot be noted is missed by the test that looks for it.
        let _ = kv::set("tick", now_unix_ms.to_string(), None);
    }
}

/// How an answer ended, as notes say it.
pub(crate) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool-calls",
        Finish::ContentFilter => "content-filter",
        Finish::Cancelled => "cancelled",
        Finish::UpstreamError => "upstream-error",
    }
}
