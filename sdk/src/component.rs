//! A plugin as a component: the contract's exports in terms of the hooks' traits.

use std::cell::{OnceCell, RefCell};
use std::marker::PhantomData;
use std::thread::LocalKey;

use crate::wit::exports::witgate::plugin as hooks;
use crate::wit::witgate::plugin::types;
use crate::{
    AuditRecord, Authenticate, Call, Candidate, Config, ErrorFlow, EventAction, EventStream, Failure, Finish,
    Flow, Head, Hint, Labels, OnComplete, OnError, OnRequest, OnResponse, OnRoute, OnTick, OnUpstreamRequest,
    Plugin, Principal, Rejection, ResponseFlow, SseEvent, StreamEvents, StreamText, TextAction, TextBatch,
    TextStream, UpstreamFlow, Verdict,
};

/// A plugin whose crate has a place for the one value of an instance.
pub trait Placed: Plugin {
    /// Returns the place.
    fn place() -> &'static LocalKey<OnceCell<Self>>;
}

/// What exports the hooks of `P`.
pub struct Component<P>(PhantomData<P>);

/// Hands the plugin that `init` made to a hook.
fn with<P: Placed, R>(hook: impl FnOnce(&P) -> R) -> R {
    P::place().with(|place| hook(place.get().expect("`lifecycle.init` is called before any hook")))
}

impl<P: Placed> hooks::lifecycle::Guest for Component<P> {
    fn init(config: String) -> Result<(), String> {
        let plugin = P::new(P::Config::from_json(&config)?)?;
        P::place().with(|place| place.set(plugin)).map_err(|_| "`lifecycle.init` was called twice".to_owned())
    }
}

impl<P: Placed + Authenticate> hooks::authenticate::Guest for Component<P> {
    fn handle(head: Head) -> Result<Option<Principal>, types::Rejection> {
        with(|plugin: &P| plugin.authenticate(&head)).map_err(Into::into)
    }
}

impl<P: Placed + OnRequest> hooks::on_request::Guest for Component<P> {
    fn handle(call: &Call) -> hooks::on_request::Outcome {
        use hooks::on_request::Outcome;
        match with(|plugin: &P| plugin.on_request(call)) {
            Ok(Flow::Next) => Outcome::Next,
            Ok(Flow::Respond(response)) => Outcome::Respond(response),
            Err(rejection) => Outcome::Reject(rejection.into()),
        }
    }
}

impl<P: Placed + OnRoute> hooks::on_route::Guest for Component<P> {
    fn pick(call: &Call, candidates: Vec<Candidate>) -> hooks::on_route::Hint {
        use hooks::on_route::Hint as Outcome;
        match with(|plugin: &P| plugin.on_route(call, &candidates)) {
            Ok(Hint::NoOpinion) => Outcome::NoOpinion,
            Ok(Hint::Prefer(ids)) => Outcome::Prefer(ids),
            Ok(Hint::Only(ids)) => Outcome::Only(ids),
            Ok(Hint::Exclude(ids)) => Outcome::Exclude(ids),
            Err(rejection) => Outcome::Reject(rejection.into()),
        }
    }
}

impl<P: Placed + OnUpstreamRequest> hooks::on_upstream_request::Guest for Component<P> {
    fn handle(call: &Call) -> hooks::on_upstream_request::Outcome {
        use hooks::on_upstream_request::Outcome;
        match with(|plugin: &P| plugin.on_upstream_request(call)) {
            Ok(UpstreamFlow::Next) => Outcome::Next,
            Ok(UpstreamFlow::SkipUpstream) => Outcome::SkipUpstream,
            Err(rejection) => Outcome::Reject(rejection.into()),
        }
    }
}

impl<P: Placed + OnResponse> hooks::on_response::Guest for Component<P> {
    fn handle(call: &Call, status: u16) -> hooks::on_response::Outcome {
        use hooks::on_response::Outcome;
        match with(|plugin: &P| plugin.on_response(call, status)) {
            Ok(ResponseFlow::Next) => Outcome::Next,
            Ok(ResponseFlow::Respond(response)) => Outcome::Respond(response),
            Ok(ResponseFlow::Retry(reason)) => Outcome::Retry(reason),
            Err(rejection) => Outcome::Reject(rejection.into()),
        }
    }
}

impl<P: Placed + OnError> hooks::on_error::Guest for Component<P> {
    fn handle(call: &Call, failure: Failure) -> hooks::on_error::Outcome {
        use hooks::on_error::Outcome;
        match with(|plugin: &P| plugin.on_error(call, &failure)) {
            Ok(ErrorFlow::Next) => Outcome::Next,
            Ok(ErrorFlow::Retry) => Outcome::Retry,
            Ok(ErrorFlow::Fallback(to)) => Outcome::Fallback(to),
            Ok(ErrorFlow::Respond(response)) => Outcome::Respond(response),
            Err(rejection) => Outcome::Reject(rejection.into()),
        }
    }
}

impl<P: Placed + OnComplete> hooks::on_complete::Guest for Component<P> {
    fn handle(batch: Vec<AuditRecord>) -> Result<Vec<(String, Labels)>, String> {
        with(|plugin: &P| plugin.on_complete(batch))
    }
}

impl<P: Placed + OnTick> hooks::on_tick::Guest for Component<P> {
    fn tick(now_unix_ms: u64) {
        with(|plugin: &P| plugin.on_tick(now_unix_ms));
    }
}

impl<P: Placed + StreamText> hooks::stream_text::Guest for Component<P> {
    type Transformer = Text<P::Stream>;

    fn open(call: &Call) -> Option<hooks::stream_text::Opened> {
        let opened = with(|plugin: &P| plugin.open(call))?;
        Some(hooks::stream_text::Opened {
            handle: hooks::stream_text::Transformer::new(Text(RefCell::new(opened.stream))),
            wake: opened.wake,
            channels: opened.channels,
        })
    }
}

/// One answer's text.
pub struct Text<S>(RefCell<S>);

impl<S: TextStream> hooks::stream_text::GuestTransformer for Text<S> {
    fn push(&self, batch: TextBatch) -> hooks::stream_text::Verdict {
        self.0.borrow_mut().push(batch).into()
    }

    fn finish(&self, reason: Finish) -> hooks::stream_text::Verdict {
        self.0.borrow_mut().finish(reason).into()
    }
}

impl From<Result<Verdict, Rejection>> for hooks::stream_text::Verdict {
    fn from(verdict: Result<Verdict, Rejection>) -> Self {
        use hooks::stream_text::Action;
        match verdict {
            Ok(Verdict { action, wake }) => {
                let action = match action {
                    TextAction::Unchanged => Action::Unchanged,
                    TextAction::Replace(batch) => Action::Replace(batch),
                    TextAction::Detach => Action::Detach,
                    TextAction::DetachWith(batch) => Action::DetachWith(batch),
                };
                Self { action, wake }
            }
            Err(rejection) => Self { action: Action::Abort(rejection.into()), wake: None },
        }
    }
}

impl<P: Placed + StreamEvents> hooks::stream_events::Guest for Component<P> {
    type Transformer = Events<P::Stream>;

    fn open(call: &Call) -> Option<hooks::stream_events::Transformer> {
        let stream = with(|plugin: &P| plugin.open(call))?;
        Some(hooks::stream_events::Transformer::new(Events(RefCell::new(stream))))
    }
}

/// One stream's events.
pub struct Events<S>(RefCell<S>);

impl<S: EventStream> hooks::stream_events::GuestTransformer for Events<S> {
    fn push(&self, events: Vec<SseEvent>) -> hooks::stream_events::Action {
        self.0.borrow_mut().push(events).into()
    }

    fn finish(&self, reason: Finish) -> hooks::stream_events::Action {
        self.0.borrow_mut().finish(reason).into()
    }
}

impl From<Result<EventAction, Rejection>> for hooks::stream_events::Action {
    fn from(action: Result<EventAction, Rejection>) -> Self {
        match action {
            Ok(EventAction::Unchanged) => Self::Unchanged,
            Ok(EventAction::Replace(events)) => Self::Replace(events),
            Ok(EventAction::Detach) => Self::Detach,
            Ok(EventAction::DetachWith(events)) => Self::DetachWith(events),
            Err(rejection) => Self::Abort(rejection.into()),
        }
    }
}
