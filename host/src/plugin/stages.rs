//! The plugins of one answer: its text, and the events of its stream.
//!
//! Bytes go through stages, the last plugin of the configuration first. Neighbouring plugins for text share a stage, so
//! that the text is taken out of the events and put back once. A plugin that is not interested, or not any more, costs
//! nothing; when none is left the stream is not looked into at all.

use std::mem;

use bytes::Bytes;
use tokio::time::Instant;
use wasmtime::component::ResourceAny;

use crate::chat::{Channel, ChannelSet, Span, StopReason, TextBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::Exchange;
use crate::plugin::Miss;
use crate::plugin::bindings::hooks::{stream_events, stream_text};
use crate::plugin::bindings::imports::types;
use crate::plugin::chain::{Chain, Link, View, call_hook, read_rejection};
use crate::plugin::fault::Fault;
use crate::plugin::hook::Hook;
use crate::plugin::instance::Instance;
use crate::wire::Endpoint;
use crate::wire::sse::{self, Decoder, EVENT_BYTES_MAX, Frame};
use crate::wire::text::{TextStream, WholeText};
use crate::wire::wake::{Look, Wake, Waker};

/// What a plugin may make of the events of one read, in bytes, beyond twice what came.
const EVENTS_ADDED_MAX: usize = 256 << 10;
/// The most events a plugin may make of those of one read.
const EVENTS_MAX: usize = 4096;

/// The plugins of one answer.
pub(crate) struct Stages {
    chain: Chain,
    endpoint: Endpoint,
    stages: Vec<Stage>,
    is_finished: bool,
}

enum Stage {
    Text { stream: Box<TextStream>, lanes: Vec<TextLane>, is_finished: bool },
    Events { decoder: Decoder, lane: Option<EventLane> },
}

/// Adds a plugin's view of the text: neighbours share a stage.
fn put_lane(stages: &mut Vec<Stage>, endpoint: Endpoint, lane: TextLane) {
    match stages.last_mut() {
        Some(Stage::Text { lanes, .. }) => lanes.push(lane),
        _ => stages.push(Stage::Text {
            // Its channels are known when all of its plugins are.
            stream: Box::new(TextStream::new(endpoint, ChannelSet::default())),
            lanes: vec![lane],
            is_finished: false,
        }),
    }
}

/// One plugin's view of the text.
struct TextLane {
    /// Where in the chain the plugin is.
    place: usize,
    guest: stream_text::Guest,
    transformer: ResourceAny,
    waker: Waker,
    channels: ChannelSet,
}

/// One plugin's view of the events.
struct EventLane {
    place: usize,
    guest: stream_events::Guest,
    transformer: ResourceAny,
}

/// What a plugin made of something.
enum Made<T> {
    Unchanged,
    Changed(T),
}

/// That, and whether it wants more.
struct Verdict<T> {
    made: Made<T>,
    is_detached: bool,
    wake: Option<Wake>,
}

impl Stages {
    /// Asks every plugin that has a hook for text, or for a stream its events, whether this answer is of interest.
    ///
    /// # Errors
    ///
    /// A plugin's fault; those that were asked before have been told of the end then.
    pub(crate) async fn open(
        chain: Chain,
        endpoint: Endpoint,
        view: &mut View,
        is_stream: bool,
    ) -> (Self, Result<()>) {
        let mut stages = Self { chain, endpoint, stages: Vec::new(), is_finished: false };
        let opened = stages.open_all(view, is_stream).await;
        if opened.is_err() {
            stages.close().await;
        }
        (stages, opened)
    }

    async fn open_all(&mut self, view: &mut View, is_stream: bool) -> Result<()> {
        let Self { chain, endpoint, stages, .. } = self;
        let mut call = view.lend();
        call.is_read_only = true;
        let mut outcome = Ok(());
        for place in (0..chain.links.len()).rev() {
            let hooks = chain.links[place].plugin.hooks();
            if hooks.has(Hook::StreamText) && endpoint.has_text() {
                let link = &mut chain.links[place];
                let outcome_here = call_hook!(link, StreamText, stream_text.call_open, call, read_opened);
                let opened = outcome_here
                    .and_then(|opened| opened.map(|opened| Ok((opened, link.text_guest()?))).transpose());
                match opened {
                    Ok(None) => {}
                    Ok(Some(((transformer, wake, channels), guest))) => {
                        link.streams_open += 1;
                        let waker = Waker::new(wake);
                        put_lane(stages, *endpoint, TextLane { place, guest, transformer, waker, channels });
                    }
                    Err(miss) => outcome = link.survive(Hook::StreamText, miss),
                }
            }
            if hooks.has(Hook::StreamEvents) && is_stream && outcome.is_ok() {
                let link = &mut chain.links[place];
                let outcome_here = call_hook!(link, StreamEvents, stream_events.call_open, call, Ok);
                let opened = outcome_here
                    .and_then(|opened| opened.map(|opened| Ok((opened, link.event_guest()?))).transpose());
                match opened {
                    Ok(None) => {}
                    Ok(Some((transformer, guest))) => {
                        link.streams_open += 1;
                        stages.push(Stage::Events {
                            decoder: Decoder::new(2 * EVENT_BYTES_MAX),
                            lane: Some(EventLane { place, guest, transformer }),
                        });
                    }
                    Err(miss) => outcome = link.survive(Hook::StreamEvents, miss),
                }
            }
            if outcome.is_err() {
                break;
            }
        }
        chain.tags.extend(mem::take(&mut call.tags));
        view.take_back(*call);
        for stage in stages {
            if let Stage::Text { stream, lanes, .. } = stage {
                let channels =
                    lanes.iter().map(|lane| lane.channels).fold(ChannelSet::default(), ChannelSet::union);
                **stream = TextStream::new(*endpoint, channels);
            }
        }
        self.let_go_of_idle();
        outcome
    }

    /// Whether the answer is of interest to nobody.
    pub(crate) fn are_none(&self) -> bool {
        self.stages.is_empty()
    }

    /// Tells every plugin that the answer is not going to be sent.
    pub(crate) async fn close(&mut self) {
        let _ = self.finish(End::Failed, Vec::new(), &mut Vec::new()).await;
    }

    /// Takes what is ready for the client, and appends what of it is to be sent.
    ///
    /// # Errors
    ///
    /// What ends the answer: a plugin's refusal or fault, or an event that is too large.
    pub(crate) async fn push(&mut self, mut pieces: Vec<Bytes>, out: &mut Vec<Bytes>) -> Result<()> {
        for number in 0..self.stages.len() {
            let mut next = Vec::new();
            self.stages[number].push(&mut self.chain, &mut pieces, &mut next).await?;
            pieces = next;
        }
        out.append(&mut pieces);
        Ok(())
    }

    /// The answer is at its end, by whatever cause: tells every plugin, once, and appends what they still had.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); every plugin has been told all the same.
    pub(crate) async fn finish(
        &mut self,
        end: End,
        mut pieces: Vec<Bytes>,
        out: &mut Vec<Bytes>,
    ) -> Result<()> {
        if mem::replace(&mut self.is_finished, true) {
            return Ok(());
        }
        let mut outcome = Ok(());
        for number in 0..self.stages.len() {
            let mut next = Vec::new();
            let stage = &mut self.stages[number];
            let finished = match outcome {
                Ok(()) => stage.push(&mut self.chain, &mut pieces, &mut next).await,
                Err(_) => Ok(()),
            };
            let finished = match finished {
                Ok(()) => {
                    stage
                        .end(&mut self.chain, if outcome.is_ok() { end } else { End::Failed }, &mut next)
                        .await
                }
                Err(error) => {
                    // Nothing more of the answer is sent, but those who wait for the end are told of it.
                    let _ = stage.end(&mut self.chain, End::Failed, &mut Vec::new()).await;
                    Err(error)
                }
            };
            if outcome.is_ok() {
                outcome = finished;
            }
            pieces = next;
        }
        out.append(&mut pieces);
        outcome
    }

    /// Whether no plugin wants anything more, so that the rest can pass as it is.
    pub(crate) fn is_idle(&self) -> bool {
        self.stages.iter().all(Stage::is_idle)
    }

    /// Appends what waits, when no plugin wants anything more.
    pub(crate) fn leave(&mut self, out: &mut Vec<Bytes>) {
        // What the last stage has is the oldest.
        for stage in self.stages.drain(..).rev() {
            if let Stage::Text { stream, .. } = stage {
                stream.leave(out);
            }
        }
    }

    /// Puts a whole answer through the plugins for text. None when nobody changed it.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub(crate) async fn whole(&mut self, body: &Bytes) -> Result<Option<Vec<Bytes>>> {
        let mut changed: Option<Vec<Bytes>> = None;
        for number in 0..self.stages.len() {
            let Stage::Text { lanes, is_finished, .. } = &mut self.stages[number] else { continue };
            let body = changed.as_ref().map_or_else(|| body.clone(), |segments| segments.concat().into());
            match whole_text(&mut self.chain, lanes, self.endpoint, &body).await {
                Ok(None) => {}
                Ok(Some(segments)) => changed = Some(segments),
                Err(error) => {
                    self.close().await;
                    return Err(error);
                }
            }
            *is_finished = true;
        }
        self.is_finished = true;
        Ok(changed)
    }

    /// Notes in the exchange what the plugins left behind.
    pub(crate) fn note_in(&mut self, exchange: &mut Exchange) {
        self.chain.note_in(exchange);
    }

    /// Frees the instances that no stage needs.
    fn let_go_of_idle(&mut self) {
        for place in 0..self.chain.links.len() {
            if !self.stages.iter().any(|stage| stage.needs(place)) {
                self.chain.links[place].let_go();
            }
        }
    }
}

/// How an answer ended, as far as the plugins are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Complete,
    /// The upstream failed.
    Failed,
    /// The client left.
    Cancelled,
}

impl End {
    fn finish(self, stop: Option<StopReason>) -> types::Finish {
        match (self, stop) {
            (Self::Cancelled, _) => types::Finish::Cancelled,
            (Self::Failed, _) => types::Finish::UpstreamError,
            (Self::Complete, Some(StopReason::Length)) => types::Finish::Length,
            (Self::Complete, Some(StopReason::ToolCalls)) => types::Finish::ToolCalls,
            (Self::Complete, Some(StopReason::ContentFilter)) => types::Finish::ContentFilter,
            (Self::Complete, Some(StopReason::Stop | StopReason::Other) | None) => types::Finish::Stop,
        }
    }
}

impl Stage {
    fn is_idle(&self) -> bool {
        match self {
            Self::Text { lanes, stream, is_finished } => {
                *is_finished || lanes.is_empty() && !stream.must_repeat()
            }
            Self::Events { lane, decoder } => lane.is_none() && decoder.carried_bytes() == 0,
        }
    }

    fn needs(&self, place: usize) -> bool {
        match self {
            Self::Text { lanes, is_finished, .. } => {
                !is_finished && lanes.iter().any(|lane| lane.place == place)
            }
            Self::Events { lane, .. } => lane.as_ref().is_some_and(|lane| lane.place == place),
        }
    }

    async fn push(&mut self, chain: &mut Chain, pieces: &mut Vec<Bytes>, out: &mut Vec<Bytes>) -> Result<()> {
        match self {
            Self::Text { stream, lanes, is_finished } => {
                let batch = stream.push(pieces)?;
                pass_text(chain, stream, lanes, batch, out).await?;
                if stream.is_ended() && !*is_finished {
                    *is_finished = true;
                    finish_text(chain, stream, lanes, End::Complete, out).await?;
                }
                Ok(())
            }
            Self::Events { decoder, lane } => {
                let mut frames = Vec::new();
                for piece in pieces.drain(..) {
                    decoder.push(piece);
                    while let Some(frame) = decoder.next_frame().map_err(|_| oversize())? {
                        // The plugin finishes before the mark of the end: nobody reads what comes after it.
                        if is_done(&frame) {
                            pass_events(chain, lane, mem::take(&mut frames), out).await?;
                            finish_events(chain, lane, End::Complete, out).await?;
                        }
                        frames.push(frame);
                    }
                }
                pass_events(chain, lane, frames, out).await
            }
        }
    }

    async fn end(&mut self, chain: &mut Chain, end: End, out: &mut Vec<Bytes>) -> Result<()> {
        match self {
            Self::Text { stream, lanes, is_finished } => {
                if mem::replace(is_finished, true) {
                    return Ok(());
                }
                let passed = match stream.end() {
                    Ok(batch) => pass_text(chain, stream, lanes, batch, out).await,
                    Err(error) => Err(error),
                };
                let finished = finish_text(chain, stream, lanes, end, out).await;
                passed.and(finished)
            }
            Self::Events { decoder, lane } => {
                let frame = decoder.finish();
                let frame = frame.map(|frame| if frame.is_terminated() { frame } else { frame.terminated() });
                let (last, done) = match frame {
                    Some(frame) if is_done(&frame) => (None, Some(frame.raw)),
                    frame => (frame, None),
                };
                let passed = pass_events(chain, lane, last.into_iter().collect(), out).await;
                let finished = finish_events(chain, lane, end, out).await;
                out.extend(done);
                passed.and(finished)
            }
        }
    }
}

/// Shows a batch to the plugins that are awake for it, and lets go of what became of it.
async fn pass_text(
    chain: &mut Chain,
    stream: &mut TextStream,
    lanes: &mut Vec<TextLane>,
    batch: Option<TextBatch>,
    out: &mut Vec<Bytes>,
) -> Result<()> {
    let Some(mut batch) = batch else {
        stream.release(None, out);
        return Ok(());
    };
    // All look before any is called: what one of them lets wait comes again to all.
    let looks: Vec<Look> = lanes.iter().map(|lane| lane.look(&batch, stream)).collect();
    let held = lanes.iter().zip(&looks).filter_map(|(lane, look)| match look {
        Look::Hold(span) => Some(batch.position(lane.channels, *span)),
        Look::Wake | Look::Pass => None,
    });
    if let Some(span) = held.min() {
        stream.hold_from(span, &mut batch);
    }
    let mut changed: Option<TextBatch> = None;
    let mut number = 0;
    for look in looks {
        let lane = &mut lanes[number];
        let is_awake = match &changed {
            None => look == Look::Wake,
            // What was changed cannot wait.
            Some(changed) => lane.look(changed, stream) != Look::Pass,
        };
        let current = changed.as_ref().unwrap_or(&batch);
        let view = current.only(lane.channels);
        let view = view.as_ref().unwrap_or(current);
        if !is_awake || view.spans.is_empty() {
            lane.waker.pass(view);
            number += 1;
            continue;
        }
        lane.waker.tell(view);
        let verdict = lane.push(chain, view, &|text| stream.validate(text)).await?;
        if let Some(Verdict { made: Made::Changed(text), .. }) = &verdict {
            changed = Some(current.with(lane.channels, text));
        }
        match verdict {
            Some(Verdict { is_detached: false, wake, .. }) => {
                if let Some(wake) = wake {
                    lane.waker.set(wake);
                }
                number += 1;
            }
            Some(_) | None => lanes.remove(number).let_go(chain).await,
        }
    }
    stream.release(changed.as_ref(), out);
    Ok(())
}

/// Tells the plugins of the end, in order; what one still had goes through those after it.
async fn finish_text(
    chain: &mut Chain,
    stream: &mut TextStream,
    lanes: &mut Vec<TextLane>,
    end: End,
    out: &mut Vec<Bytes>,
) -> Result<()> {
    let reason = end.finish(stream.stop_reason());
    let (late, outcome) = finish_lanes(chain, lanes, reason, &|text: &TextBatch| stream.validate(text)).await;
    stream.finish(Some(&late).filter(|_| outcome.is_ok()), out);
    outcome
}

async fn finish_lanes(
    chain: &mut Chain,
    lanes: &mut Vec<TextLane>,
    reason: types::Finish,
    validate: &Validate<'_>,
) -> (TextBatch, Result<()>) {
    let mut late = TextBatch::default();
    let mut outcome = Ok(());
    for mut lane in lanes.drain(..) {
        let view = late.only(lane.channels);
        let view = view.as_ref().unwrap_or(&late);
        if outcome.is_ok() && !view.spans.is_empty() && lane.waker.look(view, |_| true) == Look::Wake {
            match lane.push(chain, view, validate).await {
                Ok(verdict) => {
                    let is_gone = verdict.as_ref().is_none_or(|verdict| verdict.is_detached);
                    if let Some(Verdict { made: Made::Changed(text), .. }) = verdict {
                        late = late.with(lane.channels, &text);
                    }
                    if is_gone {
                        continue;
                    }
                }
                Err(error) => outcome = Err(error),
            }
        }
        match lane.finish(chain, reason, validate).await {
            Ok(Some(text)) => text.pieces().for_each(|(lane, text)| late.push(lane, text)),
            Ok(None) => {}
            Err(error) if outcome.is_ok() => outcome = Err(error),
            Err(_) => {}
        }
    }
    (late, outcome)
}

async fn whole_text(
    chain: &mut Chain,
    lanes: &mut Vec<TextLane>,
    endpoint: Endpoint,
    body: &Bytes,
) -> Result<Option<Vec<Bytes>>> {
    let channels = lanes.iter().map(|lane| lane.channels).fold(ChannelSet::default(), ChannelSet::union);
    let whole = WholeText::of(body, endpoint, channels)?;
    let validate = |text: &TextBatch| whole.validate(text);
    let batch = whole.batch();
    let reason = End::Complete.finish(whole.stop_reason());
    if whole.is_mute() {
        // An answer of another shape than the endpoint's has no place for text either.
        let (_, outcome) = finish_lanes(chain, lanes, reason, &|_: &TextBatch| Ok(())).await;
        return outcome.map(|()| None);
    }
    let mut changed: Option<TextBatch> = None;
    let mut number = 0;
    while let Some(lane) = lanes.get_mut(number) {
        let current = changed.as_ref().unwrap_or(&batch);
        let view = current.only(lane.channels);
        let view = view.as_ref().unwrap_or(current);
        if view.spans.is_empty() || lane.waker.look(view, |_| true) != Look::Wake {
            number += 1;
            continue;
        }
        let verdict = lane.push(chain, view, &validate).await?;
        if let Some(Verdict { made: Made::Changed(text), .. }) = &verdict {
            changed = Some(current.with(lane.channels, text));
        }
        match verdict {
            Some(Verdict { is_detached: false, .. }) => number += 1,
            Some(_) | None => lanes.remove(number).let_go(chain).await,
        }
    }
    let (late, outcome) = finish_lanes(chain, lanes, reason, &validate).await;
    outcome?;
    let late = Some(&late).filter(|late| !late.spans.is_empty());
    Ok((changed.is_some() || late.is_some()).then(|| whole.write(changed.as_ref(), late)))
}

/// Checks text that a plugin wants to be sent.
type Validate<'a> = dyn Fn(&TextBatch) -> Result<(), &'static str> + Sync + 'a;

impl TextLane {
    fn look(&self, batch: &TextBatch, stream: &TextStream) -> Look {
        let view = batch.only(self.channels);
        self.waker.look(view.as_ref().unwrap_or(batch), |choice| stream.is_settled(choice))
    }

    /// Shows text to the plugin; none when it broke and is passed over.
    async fn push(
        &mut self,
        chain: &mut Chain,
        view: &TextBatch,
        validate: &Validate<'_>,
    ) -> Result<Option<Verdict<TextBatch>>> {
        let link = &mut chain.links[self.place];
        let batch = lower(view);
        let size = batch.text.len() + batch.spans.len() * size_of::<types::Span>();
        let started = Instant::now();
        let outcome = self.call_push(link, &batch, size).await;
        let outcome = outcome.and_then(|verdict| check_verdict(verdict, validate));
        link.judged(Hook::StreamText, outcome, started)
    }

    async fn call_push(
        &self,
        link: &mut Link,
        batch: &types::TextBatch,
        size: usize,
    ) -> Result<stream_text::Verdict, Miss> {
        let plugin = link.plugin.clone();
        let bounds = plugin.bounds();
        let instance = link.opened_instance()?;
        let armed = instance.arm(&plugin, bounds, size);
        let transformer = self.guest.transformer();
        let calling = transformer.call_push(&mut instance.store, self.transformer, batch);
        let returned = armed.bounded(calling).await;
        instance.settle(returned, bounds)
    }

    /// Tells the plugin of the end; gives what it still had.
    async fn finish(
        &mut self,
        chain: &mut Chain,
        reason: types::Finish,
        validate: &Validate<'_>,
    ) -> Result<Option<TextBatch>> {
        let link = &mut chain.links[self.place];
        let started = Instant::now();
        let outcome = self.call_finish(link, reason).await;
        let outcome = outcome.and_then(|verdict| check_verdict(verdict, validate));
        Ok(match link.judged(Hook::StreamText, outcome, started)? {
            Some(Verdict { made: Made::Changed(text), .. }) => Some(text),
            Some(_) | None => None,
        })
    }

    async fn call_finish(
        &self,
        link: &mut Link,
        reason: types::Finish,
    ) -> Result<stream_text::Verdict, Miss> {
        let plugin = link.plugin.clone();
        let bounds = plugin.bounds();
        let instance = link.opened_instance()?;
        let armed = instance.arm(&plugin, bounds, 0);
        let transformer = self.guest.transformer();
        let calling = transformer.call_finish(&mut instance.store, self.transformer, reason);
        let returned = armed.bounded(calling).await;
        let verdict = instance.settle(returned, bounds)?;
        link.drop_resource(self.transformer).await;
        Ok(verdict)
    }

    async fn let_go(self, chain: &mut Chain) {
        let link = &mut chain.links[self.place];
        link.drop_resource(self.transformer).await;
        // A plugin may still be needed for the events of the same stream.
        if !link.plugin.hooks().has(Hook::StreamEvents) {
            link.let_go();
        }
    }
}

impl EventLane {
    async fn call(&self, link: &mut Link, what: EventCall<'_>) -> Result<stream_events::Action, Miss> {
        let plugin = link.plugin.clone();
        let bounds = plugin.bounds();
        let instance = link.opened_instance()?;
        let size = match &what {
            EventCall::Push(events) => events.iter().map(|event| event.data.len() + 64).sum(),
            EventCall::Finish(_) => 0,
        };
        let armed = instance.arm(&plugin, bounds, size);
        let transformer = self.guest.transformer();
        let returned = match what {
            EventCall::Push(events) => {
                armed.bounded(transformer.call_push(&mut instance.store, self.transformer, events)).await
            }
            EventCall::Finish(reason) => {
                armed.bounded(transformer.call_finish(&mut instance.store, self.transformer, reason)).await
            }
        };
        instance.settle(returned, bounds)
    }

    /// Shows events to the plugin; none when it broke and is passed over.
    async fn ask(&self, chain: &mut Chain, what: EventCall<'_>) -> Result<Option<Verdict<Vec<Bytes>>>> {
        let link = &mut chain.links[self.place];
        let started = Instant::now();
        let came = match &what {
            EventCall::Push(events) => events.iter().map(|event| event.data.len()).sum(),
            EventCall::Finish(_) => 0,
        };
        let outcome = self.call(link, what).await;
        let outcome = outcome.and_then(|action| read_event_action(action, came).map_err(Miss::Fault));
        link.judged(Hook::StreamEvents, outcome, started)
    }

    async fn finish(&mut self, chain: &mut Chain, reason: types::Finish) -> Result<Made<Vec<Bytes>>> {
        let verdict = self.ask(chain, EventCall::Finish(reason)).await?;
        chain.links[self.place].drop_resource(self.transformer).await;
        Ok(verdict.map_or(Made::Unchanged, |verdict| verdict.made))
    }
}

enum EventCall<'a> {
    Push(&'a [types::SseEvent]),
    Finish(types::Finish),
}

fn is_done(frame: &Frame) -> bool {
    frame.fields().data.is_some_and(|data| &data[..] == b"[DONE]")
}

/// Tells the plugin of the end, once, and appends what it still had.
async fn finish_events(
    chain: &mut Chain,
    lane: &mut Option<EventLane>,
    end: End,
    out: &mut Vec<Bytes>,
) -> Result<()> {
    let Some(mut lane) = lane.take() else { return Ok(()) };
    if let Made::Changed(events) = lane.finish(chain, end.finish(None)).await? {
        out.extend(events);
    }
    Ok(())
}

async fn pass_events(
    chain: &mut Chain,
    lane: &mut Option<EventLane>,
    frames: Vec<Frame>,
    out: &mut Vec<Bytes>,
) -> Result<()> {
    let event = |frame: &Frame| {
        let fields = frame.fields();
        let event = fields.event.as_ref().and_then(|name| std::str::from_utf8(name).ok()).map(str::to_owned);
        fields.data.map(|data| types::SseEvent { event, data: data.to_vec() })
    };
    let events: Vec<types::SseEvent> = frames.iter().filter_map(event).collect();
    let asked = match lane {
        Some(open) if !events.is_empty() => open.ask(chain, EventCall::Push(&events)).await?,
        _ => {
            out.extend(frames.into_iter().map(|frame| frame.raw));
            return Ok(());
        }
    };
    let is_detached = asked.as_ref().is_none_or(|verdict| verdict.is_detached);
    match asked.map(|verdict| verdict.made) {
        Some(Made::Changed(new)) => out.extend(new),
        Some(Made::Unchanged) | None => out.extend(frames.into_iter().map(|frame| frame.raw)),
    }
    if is_detached && let Some(lane) = lane.take() {
        let link = &mut chain.links[lane.place];
        link.drop_resource(lane.transformer).await;
        if !link.plugin.hooks().has(Hook::StreamText) {
            link.let_go();
        }
    }
    Ok(())
}

impl Link {
    /// Notes how a call went; none when the plugin broke and is passed over.
    ///
    /// # Errors
    ///
    /// The plugin's no, or what its fault ends the answer with.
    fn judged<T>(
        &mut self,
        hook: Hook,
        outcome: Result<Result<T>, Miss>,
        started: Instant,
    ) -> Result<Option<T>> {
        self.note(hook, &outcome, started);
        self.ruling(hook, outcome)
    }

    /// The instance that a stream was opened in.
    fn opened_instance(&mut self) -> Result<&mut Instance, Miss> {
        self.instance.as_mut().filter(|instance| instance.is_clean()).ok_or(Miss::Gone)
    }

    /// The hook for text in that instance; looked up once, since that costs as much as a call.
    fn text_guest(&mut self) -> Result<stream_text::Guest, Miss> {
        let plugin = self.plugin.clone();
        let instance = self.opened_instance()?;
        let indices = plugin.code.indices.stream_text.as_ref().ok_or(Miss::Gone)?;
        indices.load(&mut instance.store, &instance.inner).map_err(|_| Miss::Gone)
    }

    /// The hook for events in that instance.
    fn event_guest(&mut self) -> Result<stream_events::Guest, Miss> {
        let plugin = self.plugin.clone();
        let instance = self.opened_instance()?;
        let indices = plugin.code.indices.stream_events.as_ref().ok_or(Miss::Gone)?;
        indices.load(&mut instance.store, &instance.inner).map_err(|_| Miss::Gone)
    }

    /// Drops what the plugin made for a stream, if its instance is going to be used again.
    async fn drop_resource(&mut self, resource: ResourceAny) {
        let plugin = self.plugin.clone();
        if plugin.settings.reuse.uses_max == 0 {
            return;
        }
        self.streams_open = self.streams_open.saturating_sub(1);
        let bounds = plugin.bounds();
        if let Some(instance) = self.instance.as_mut().filter(|instance| instance.is_clean()) {
            let armed = instance.arm(&plugin, bounds, 0);
            let dropped = armed.bounded(resource.resource_drop_async(&mut instance.store)).await;
            // An instance that cannot let go of it is not used again.
            let _ = instance.settle(dropped, bounds);
        }
    }
}

/// A verdict, made sense of and with text that can be sent.
fn check_verdict(
    verdict: stream_text::Verdict,
    validate: &Validate<'_>,
) -> Result<Result<Verdict<TextBatch>>, Miss> {
    let verdict = read_verdict(verdict).map_err(Miss::Fault)?;
    if let Ok(Verdict { made: Made::Changed(text), .. }) = &verdict {
        validate(text).map_err(|what| Miss::Fault(Fault::invalid(what)))?;
    }
    Ok(verdict)
}

fn oversize() -> Error {
    Error::new(ErrorKind::UpstreamInvalid, "an event of the stream is too large for the plugins")
}

fn read_opened(
    opened: Option<stream_text::Opened>,
) -> Result<Option<(ResourceAny, Wake, ChannelSet)>, Fault> {
    let Some(stream_text::Opened { handle, wake, channels }) = opened else { return Ok(None) };
    let mut set: ChannelSet = channels.into_iter().map(raise_channel).collect();
    if set.is_empty() {
        set.insert(Channel::Content);
    }
    Ok(Some((handle, read_wake(wake)?, set)))
}

fn read_wake(wake: stream_text::Wake) -> Result<Wake, Fault> {
    Ok(match wake {
        stream_text::Wake::EveryBatch => Wake::EveryBatch,
        stream_text::Wake::OnLiteral(literals) => Wake::on_literals(&literals).map_err(Fault::invalid)?,
        stream_text::Wake::AtFinish => Wake::AtFinish,
    })
}

/// A verdict, made sense of; the inner error is the plugin's no.
fn read_verdict(verdict: stream_text::Verdict) -> Result<Result<Verdict<TextBatch>>, Fault> {
    let wake = verdict.wake.map(read_wake).transpose()?;
    let (made, is_detached) = match verdict.action {
        stream_text::Action::Unchanged => (Made::Unchanged, false),
        stream_text::Action::Replace(batch) => (Made::Changed(raise(batch)), false),
        stream_text::Action::Detach => (Made::Unchanged, true),
        stream_text::Action::DetachWith(batch) => (Made::Changed(raise(batch)), true),
        stream_text::Action::Abort(rejection) => return Ok(Err(read_rejection(rejection)?)),
    };
    Ok(Ok(Verdict { made, is_detached, wake }))
}

fn read_event_action(
    action: stream_events::Action,
    came: usize,
) -> Result<Result<Verdict<Vec<Bytes>>>, Fault> {
    let (made, is_detached) = match action {
        stream_events::Action::Unchanged => (Made::Unchanged, false),
        stream_events::Action::Replace(events) => (Made::Changed(encode_events(events, came)?), false),
        stream_events::Action::Detach => (Made::Unchanged, true),
        stream_events::Action::DetachWith(events) => (Made::Changed(encode_events(events, came)?), true),
        stream_events::Action::Abort(rejection) => return Ok(Err(read_rejection(rejection)?)),
    };
    Ok(Ok(Verdict { made, is_detached, wake: None }))
}

fn encode_events(events: Vec<types::SseEvent>, came: usize) -> Result<Vec<Bytes>, Fault> {
    let size: usize = events.iter().map(|event| event.data.len()).sum();
    if size > 2 * came + EVENTS_ADDED_MAX || events.len() > EVENTS_MAX {
        return Err(Fault::invalid("it made more events than twice what came"));
    }
    let encode = |event: types::SseEvent| {
        let has_break = |text: &str| text.contains(['\n', '\r']);
        if event.event.as_deref().is_some_and(has_break) {
            return Err(Fault::invalid("the name of an event has a line break"));
        }
        Ok(sse::encode(event.event.as_deref(), &event.data))
    };
    events.into_iter().map(encode).collect()
}

fn lower(batch: &TextBatch) -> types::TextBatch {
    let span = |span: &Span| types::Span {
        choice: span.choice,
        sub_index: span.sub_index,
        channel: match span.channel {
            Channel::Content => types::Channel::Content,
            Channel::Reasoning => types::Channel::Reasoning,
            Channel::Refusal => types::Channel::Refusal,
            Channel::ToolArguments => types::Channel::ToolArguments,
        },
        len: span.len,
    };
    types::TextBatch { text: batch.text.clone(), spans: batch.spans.iter().map(span).collect() }
}

fn raise(batch: types::TextBatch) -> TextBatch {
    let span = |span: types::Span| Span {
        choice: span.choice,
        sub_index: span.sub_index,
        channel: raise_channel(span.channel),
        len: span.len,
    };
    TextBatch { text: batch.text, spans: batch.spans.into_iter().map(span).collect() }
}

fn raise_channel(channel: types::Channel) -> Channel {
    match channel {
        types::Channel::Content => Channel::Content,
        types::Channel::Reasoning => Channel::Reasoning,
        types::Channel::Refusal => Channel::Refusal,
        types::Channel::ToolArguments => Channel::ToolArguments,
    }
}
