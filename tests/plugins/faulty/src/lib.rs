//! Breaks in every way a plugin can, where its configuration says.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as Unread;
use witgate_sdk::{
    AuditRecord, Authenticate, Call, Candidate, Channel, Config, ErrorFlow, EventAction, EventStream,
    Failure, Finish, Flow, Head, Hint, Labels, OnComplete, OnError, OnRequest, OnResponse, OnRoute, OnTick,
    OnUpstreamRequest, Opened, Plugin, Principal, Rejection, ResponseFlow, Span, SseEvent, StreamEvents,
    StreamText, SyntheticResponse, TextAction, TextBatch, TextStream, UpstreamFlow, Verdict, export,
};

/// What goes wrong, and when.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Faults by point: `init`, a hook, or `push`, `finish` and `events` for what comes of opened streams. Whatever
    /// `answer` is, requests are answered with the status 99.
    faults: BTreeMap<String, Fault>,
    /// Only every n-th call of a point in the life of an instance breaks; 0 and 1 mean every call.
    every: u64,
    /// Only exchanges break whose request has the header `x-fault`, which may name another fault.
    only_marked: bool,
}

/// One way to break.
#[derive(Clone, Copy, Config, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Fault {
    /// Panics.
    Panic,
    /// Calls itself until the stack is at its end.
    Trap,
    /// Never returns.
    Loop,
    /// Sleeps for a minute.
    Sleep,
    /// Takes memory until there is none.
    Memory,
    /// Returns a megabyte and more.
    Large,
    /// Returns spans that are longer than their text.
    Spans,
    /// Returns spans that part in the middle of a character.
    Cut,
    /// Refuses with the status 99.
    Status99,
    /// Refuses with the status 200.
    Status200,
    /// Refuses with a line break in a header.
    Header,
    /// Refuses, as a plugin may.
    Reject,
    /// Refuses its configuration.
    Refuse,
}

struct Faulty(Rc<State>);

struct State {
    settings: Settings,
    calls: RefCell<BTreeMap<&'static str, u64>>,
    is_marked: Cell<bool>,
    /// What the request names.
    named: Cell<Option<Fault>>,
}

export!(
    Faulty: Authenticate,
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

impl Plugin for Faulty {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        let is_marked = Cell::new(!settings.only_marked);
        let state = State { settings, calls: RefCell::default(), is_marked, named: Cell::new(None) };
        match state.strike("init") {
            Some(_) => Err("`faults` wants it so".to_owned()),
            None => Ok(Self(Rc::new(state))),
        }
    }
}

impl State {
    /// Breaks if it is time to; gives the faults that are values for the hook to return.
    fn strike(&self, point: &'static str) -> Option<Fault> {
        let fault = *self.settings.faults.get(point)?;
        let fault = self.named.get().unwrap_or(fault);
        let mut calls = self.calls.borrow_mut();
        let calls = calls.entry(point).or_default();
        *calls += 1;
        if !self.is_marked.get() || !calls.is_multiple_of(self.settings.every.max(1)) {
            return None;
        }
        match fault {
            Fault::Panic => panic!("faulty panics at {point}"),
            Fault::Trap => {
                sink(0);
            }
            Fault::Loop => while black_box(true) {},
            Fault::Sleep => std::thread::sleep(Duration::from_secs(60)),
            Fault::Memory => {
                let mut hoard = Vec::new();
                while black_box(true) {
                    hoard.push(vec![1_u8; 1 << 20]);
                }
                black_box(hoard);
            }
            _ => return Some(fault),
        }
        None
    }

    /// The refusal that a fault is, or that carries it.
    fn refuse(&self, point: &'static str) -> Result<(), Rejection> {
        let Some(fault) = self.strike(point) else { return Ok(()) };
        let refusal = |status| Rejection::new(status, "refused", "faulty refuses");
        Err(match fault {
            Fault::Status99 => refusal(99),
            Fault::Status200 => refusal(200),
            Fault::Header => refusal(403).header("x-reason", "two\r\nlines: here"),
            Fault::Large => Rejection::new(403, "refused", "x".repeat(2 << 20)),
            _ => refusal(403),
        })
    }

    fn has(&self, points: &[&str]) -> bool {
        points.iter().any(|point| self.settings.faults.contains_key(*point))
    }

    fn mark(&self, header: Option<&str>) {
        self.is_marked.set(header.is_some() || !self.settings.only_marked);
        self.named.set(header.and_then(|name| {
            let name: serde::de::value::StrDeserializer<'_, Unread> = name.into_deserializer();
            Fault::deserialize(name).ok()
        }));
    }
}

/// Needs a frame of the stack for each call, which the optimiser must not find out.
#[expect(unconditional_recursion, reason = "it is there to break")]
fn sink(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    sink(depth + 1) + black_box(frame)[7]
}

impl Authenticate for Faulty {
    fn authenticate(&self, head: &Head) -> Result<Option<Principal>, Rejection> {
        self.0.mark(head.header("x-fault"));
        self.0.refuse("authenticate").map(|()| None)
    }
}

impl OnRequest for Faulty {
    fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
        self.0.mark(call.header("x-fault").as_deref());
        // Undone when the call breaks.
        call.set_header("x-touched", "by faulty")?;
        call.set("/touched", "true")?;
        if self.0.has(&["answer"]) {
            return Ok(Flow::Respond(SyntheticResponse::new(99)));
        }
        self.0.refuse("on-request").map(|()| Flow::Next)
    }
}

impl OnRoute for Faulty {
    fn on_route(&self, _: &Call, _: &[Candidate]) -> Result<Hint, Rejection> {
        self.0.refuse("on-route").map(|()| Hint::NoOpinion)
    }
}

impl OnUpstreamRequest for Faulty {
    fn on_upstream_request(&self, _: &Call) -> Result<UpstreamFlow, Rejection> {
        self.0.refuse("on-upstream-request").map(|()| UpstreamFlow::Next)
    }
}

impl OnResponse for Faulty {
    fn on_response(&self, _: &Call, _: u16) -> Result<ResponseFlow, Rejection> {
        self.0.refuse("on-response").map(|()| ResponseFlow::Next)
    }
}

impl OnError for Faulty {
    fn on_error(&self, _: &Call, _: &Failure) -> Result<ErrorFlow, Rejection> {
        self.0.refuse("on-error").map(|()| ErrorFlow::Next)
    }
}

impl OnComplete for Faulty {
    fn on_complete(&self, _: Vec<AuditRecord>) -> Result<Vec<(String, Labels)>, String> {
        self.0.refuse("on-complete").map_err(|rejection| rejection.message)?;
        Ok(Vec::new())
    }
}

impl OnTick for Faulty {
    fn on_tick(&self, _: u64) {
        self.0.strike("on-tick");
    }
}

impl StreamText for Faulty {
    type Stream = Stream;

    fn open(&self, _: &Call) -> Option<Opened<Stream>> {
        self.0.strike("stream-text");
        self.0.has(&["push", "finish"]).then(|| Opened::new(Stream(self.0.clone())))
    }
}

impl StreamEvents for Faulty {
    type Stream = Stream;

    fn open(&self, _: &Call) -> Option<Stream> {
        self.0.strike("stream-events");
        self.0.has(&["events"]).then(|| Stream(self.0.clone()))
    }
}

struct Stream(Rc<State>);

impl Stream {
    fn verdict(&self, point: &'static str) -> Result<Verdict, Rejection> {
        let Some(fault) = self.0.strike(point) else { return Ok(TextAction::Unchanged.into()) };
        let span = |len| Span { choice: 0, sub_index: 0, channel: Channel::Content, len };
        let (text, spans) = match fault {
            Fault::Large => ("x".repeat(1 << 20), vec![span(1 << 20)]),
            Fault::Spans => ("short".to_owned(), vec![span(500)]),
            Fault::Cut => ("\u{e9}".to_owned(), vec![span(1), span(1)]),
            Fault::Status99 => return Err(Rejection::new(99, "refused", "faulty refuses")),
            _ => return Err(Rejection::new(451, "refused", "faulty refuses")),
        };
        Ok(TextAction::Replace(TextBatch { text, spans }).into())
    }
}

impl TextStream for Stream {
    fn push(&mut self, _: TextBatch) -> Result<Verdict, Rejection> {
        self.verdict("push")
    }

    fn finish(&mut self, _: Finish) -> Result<Verdict, Rejection> {
        self.verdict("finish")
    }
}

impl EventStream for Stream {
    fn push(&mut self, _: Vec<SseEvent>) -> Result<EventAction, Rejection> {
        Ok(match self.0.strike("events") {
            None => EventAction::Unchanged,
            Some(Fault::Large) => EventAction::Replace(vec![SseEvent::new(vec![b'x'; 1 << 20])]),
            Some(Fault::Header) => EventAction::Replace(vec![SseEvent::new("x").named("two\nlines")]),
            Some(_) => return Err(Rejection::new(451, "refused", "faulty refuses")),
        })
    }

    fn finish(&mut self, _: Finish) -> Result<EventAction, Rejection> {
        Ok(EventAction::Unchanged)
    }
}
