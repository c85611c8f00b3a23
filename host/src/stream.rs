//! The bodies of responses: upstream bytes, what is done to them, client bytes, and the end.
//!
//! Everything that is ready is joined into one piece before the client is written to. A body owns its exchange; when
//! it is finished or dropped, the exchange ends.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{Error, ErrorKind, Result, Source as Cause, Timer};
use crate::exchange::Exchange;
use crate::headers;
use crate::plugin::stages::{End, Stages};
use crate::upstream::InFlight;
use crate::upstream::commit::Begun;
use crate::upstream::leave::Verdict;
use crate::upstream::reply::{Reply, ReplyContent, Source};
use crate::wire::openai::frame;
use crate::wire::openai::stream::{Ending, Opening};
use crate::wire::relay::Relay;
use crate::wire::{Audience, Dialect, Endpoint, sse};

/// Pieces that are ready together are joined up to this size, in bytes.
const JOIN_BYTES_MAX: usize = 16 << 10;
/// What a silent stream's client is sent: a comment, or for Google's client for Python, which takes that for an event, an empty
/// line, which all pass over.
fn keep_alive(dialect: Dialect) -> &'static [u8] {
    if dialect == Dialect::Gemini { b"\n" } else { b": keep-alive\n\n" }
}

/// After a longer pause of the client's an upstream is not blamed for a stream that breaks off: it may have lost patience.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The body of a response.
pub(crate) struct Body {
    content: Content,
    exchange: Option<Box<Exchange>>,
}

enum Content {
    /// In memory.
    Whole(VecDeque<Bytes>),
    /// From an upstream, as it comes.
    Stream(Box<Streaming>),
    /// A stream of which the client was sent the head before an upstream had answered.
    Early(Box<Early>),
}

/// How a stream is treated, from the configuration.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// The silence after which the client is sent a comment; zero means never.
    pub(crate) keepalive: Duration,
    /// Who reads its errors.
    pub(crate) audience: Audience,
}

struct Streaming {
    source: Source,
    ready: Vec<Bytes>,
    /// What the events go through; none for bytes that are passed on as they are.
    relay: Option<Relay>,
    /// The plugins it goes through.
    plugins: Plugins,
    /// What the plugins are to get.
    raw: Vec<Bytes>,
    /// What is sent after everything the plugins still have: how the client is told of an error.
    last_words: Option<Bytes>,
    /// Whether a plugin ended the answer, so that nothing more of it is sent.
    is_cut: bool,
    manner: Manner,
    idle: Duration,
    deadline: Option<Instant>,
    /// When its first content must be there, if it had none when it began.
    content_by: Option<Instant>,
    last_read: Instant,
    /// Whether it is the upstream that was waited for since then, and not the client.
    is_waiting: bool,
    /// Who is told if the upstream breaks it off; none where nobody is.
    verdict: Option<Verdict>,
    last_sent: Instant,
    timer: Pin<Box<Sleep>>,
    is_over: bool,
    /// What a body without a grammar for errors ends with: an error, which closes the connection.
    abort: Option<Error>,
    /// Whether the connection was given the time to send what comes before that error.
    is_flushed: bool,
    _place: Option<InFlight>,
}

/// The plugins of a stream.
enum Plugins {
    /// None, or none any more.
    None,
    /// They wait for what is next.
    Waiting(Box<Stages>),
    /// They are at work.
    Working(Pin<Box<dyn Future<Output = Worked> + Send>>),
}

/// What the plugins made of something.
struct Worked {
    stages: Box<Stages>,
    pieces: Vec<Bytes>,
    outcome: Result<()>,
    /// Whether they are done: they were told of the end, or want nothing more.
    is_end: bool,
}

/// An answer whose head was sent before it was there.
pub(crate) enum Late {
    /// An upstream's, and the plugins that its stream goes through.
    Reply(Box<Reply>, Option<Box<Stages>>),
    /// The gateway's own.
    Own(StatusCode, HeaderMap, Bytes),
}

/// What is being waited for while the client is sent comments.
pub(crate) type Answering = Pin<Box<dyn Future<Output = (Result<Late>, Box<Exchange>)> + Send>>;

struct Early {
    answering: Answering,
    manner: Manner,
    timer: Pin<Box<Sleep>>,
}

/// What the next step of a stream is.
enum Step {
    Data(Bytes),
    Wait,
    End,
}

impl Body {
    /// A body in memory that belongs to no exchange.
    pub(crate) fn from_bytes(bytes: Bytes) -> Self {
        Self::whole(vec![bytes])
    }

    fn whole(mut segments: Vec<Bytes>) -> Self {
        segments.retain(|segment| !segment.is_empty());
        Self { content: Content::Whole(segments.into()), exchange: None }
    }

    /// Gives the body an exchange to end.
    pub(crate) fn ending(mut self, exchange: Box<Exchange>) -> Self {
        self.exchange = Some(exchange);
        // Nobody asks a body for what it does not have.
        if self.is_end_stream() {
            self.complete();
        }
        self
    }

    /// Ends the exchange of a response that has no body whatever its headers say: to HEAD, or with 204 or 304.
    pub(crate) fn forgo(&mut self) {
        self.complete();
        self.content = Content::Whole(VecDeque::new());
    }

    /// The body of an upstream's answer.
    pub(crate) fn from_reply(
        content: ReplyContent,
        stages: Option<Box<Stages>>,
        place: Option<InFlight>,
        deadline: Option<Instant>,
        idle: Duration,
        manner: Manner,
    ) -> Self {
        let (source, first, relay, end, content_by, verdict) = match content {
            ReplyContent::Whole(answer) => return Self::whole(answer.segments),
            ReplyContent::Held(bytes) => return Self::whole(vec![bytes]),
            ReplyContent::Events(begun) => {
                let Begun { source, relay, held, end, content_by, verdict } = *begun;
                (source, held, Some(relay), end, content_by, verdict)
            }
            ReplyContent::Opaque { source, first } => {
                (source, Vec::from_iter((!first.is_empty()).then_some(first)), None, None, None, None)
            }
        };
        let (ready, raw) = if stages.is_some() { (Vec::new(), first) } else { (first, Vec::new()) };
        let now = Instant::now();
        let mut streaming = Streaming {
            source,
            ready,
            relay,
            plugins: stages.map_or(Plugins::None, Plugins::Waiting),
            raw,
            last_words: None,
            is_cut: false,
            manner,
            idle,
            deadline,
            content_by,
            last_read: now,
            is_waiting: false,
            verdict,
            last_sent: now,
            timer: Box::pin(sleep_until(now)),
            is_over: false,
            abort: None,
            is_flushed: false,
            _place: place,
        };
        match end {
            None => {}
            Some(Ok(())) => streaming.finish(),
            Some(Err(error)) => streaming.fail(error),
        }
        Self { content: Content::Stream(Box::new(streaming)), exchange: None }
    }

    /// A stream whose head was sent before there was an answer.
    pub(crate) fn early(answering: Answering, manner: Manner) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        Self { content: Content::Early(Box::new(Early { answering, manner, timer })), exchange: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let polled = self.poll_content(context);
        if let Poll::Ready(Some(Ok(bytes))) = &polled
            && let Some(exchange) = &mut self.exchange
        {
            exchange.note_sent(bytes);
        }
        polled
    }

    fn poll_content(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            match &mut self.content {
                Content::Whole(segments) => {
                    let segment = segments.pop_front();
                    if segments.is_empty() {
                        self.complete();
                    }
                    return Poll::Ready(segment.map(Ok));
                }
                Content::Stream(streaming) => {
                    let step = ready!(streaming.poll(context, self.exchange.as_deref_mut()));
                    return Poll::Ready(step);
                }
                Content::Early(early) => {
                    let Poll::Ready((outcome, exchange)) = early.answering.as_mut().poll(context) else {
                        return early.poll_comment(context).map(|comment| Some(Ok(comment)));
                    };
                    let manner = early.manner;
                    let mut exchange = exchange;
                    exchange.answer(StatusCode::OK, &headers::event_stream());
                    self.content = match outcome {
                        Ok(Late::Reply(reply, stages)) => {
                            reply.into_late_content(stages, manner, &mut exchange)
                        }
                        Ok(Late::Own(status, headers, body)) => {
                            own_late_content(status, &headers, body, &mut exchange)
                        }
                        Err(error) => {
                            let event = manner.audience.event(&error, 0);
                            exchange.fail(error);
                            Content::Whole(VecDeque::from([event]))
                        }
                    };
                    self.exchange = Some(exchange);
                }
            }
        }
    }

    fn complete(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.complete();
        }
    }
}

impl Reply {
    /// The rest of a stream whose head, a 200, has been sent already: its events, or as events what came instead.
    fn into_late_content(
        self,
        stages: Option<Box<Stages>>,
        manner: Manner,
        exchange: &mut Exchange,
    ) -> Content {
        let body = match &self.content {
            ReplyContent::Whole(answer) => {
                (exchange.usage, exchange.finish) = (answer.facts.usage, answer.facts.finish_reason);
                answer.segments.concat()
            }
            ReplyContent::Held(bytes) => bytes.to_vec(),
            ReplyContent::Events(_) | ReplyContent::Opaque { .. } => {
                let idle = self.upstream.settings.timeouts.idle;
                let mut body =
                    Body::from_reply(self.content, stages, self.place, self.deadline, idle, manner);
                return mem::replace(&mut body.content, Content::Whole(VecDeque::new()));
            }
        };
        whole_late_content(self.status, &body, exchange)
    }
}

/// A whole answer as events: what can be told of it to a client that has a 200 already.
fn whole_late_content(status: StatusCode, body: &[u8], exchange: &mut Exchange) -> Content {
    if !status.is_success() {
        let message = format!("the upstream answered with status {}", status.as_u16());
        exchange.fail(Error::new(ErrorKind::UpstreamInvalid, message));
        let name = (exchange.dialect == Dialect::Anthropic).then_some("error");
        return Content::Whole(VecDeque::from([sse::encode(name, body)]));
    }
    let framed = Endpoint::labelled(exchange.endpoint)
        .and_then(|endpoint| frame::events(endpoint, body, exchange.asks_usage));
    Content::Whole(match framed {
        Some(events) => VecDeque::from([events]),
        None => VecDeque::from([sse::encode(None, body), sse::encode(None, b"[DONE]")]),
    })
}

fn own_late_content(
    status: StatusCode,
    headers: &HeaderMap,
    body: Bytes,
    exchange: &mut Exchange,
) -> Content {
    if headers::Kind::of(headers) == headers::Kind::EventStream {
        return Content::Whole(VecDeque::from([body]));
    }
    whole_late_content(status, &body, exchange)
}

impl Streaming {
    /// Takes bytes from upstream; what the client is sent of them is ready then.
    fn take(&mut self, bytes: Bytes) {
        let Some(relay) = &mut self.relay else {
            self.ready.extend((!bytes.is_empty()).then_some(bytes));
            return;
        };
        let out = if self.plugins.are_there() { &mut self.raw } else { &mut self.ready };
        if let Err(error) = relay.push(bytes, out) {
            self.fail(error);
        }
    }

    /// Has the plugins work on what came; pending while they do.
    fn poll_plugins(&mut self, context: &mut Context<'_>, exchange: Option<&mut Exchange>) -> Poll<()> {
        if let Plugins::Waiting(_) = self.plugins
            && (self.is_over || !self.raw.is_empty())
            && let Plugins::Waiting(mut stages) = mem::replace(&mut self.plugins, Plugins::None)
        {
            let (pieces, end) = (mem::take(&mut self.raw), self.is_over.then(|| self.end_of_answer()));
            self.plugins = Plugins::Working(Box::pin(async move {
                let mut out = Vec::new();
                let outcome = match end {
                    None => stages.push(pieces, &mut out).await,
                    Some(cause) => stages.finish(cause, pieces, &mut out).await,
                };
                let is_end = end.is_some() || outcome.is_ok() && stages.is_idle();
                if end.is_none() && is_end {
                    stages.leave(&mut out);
                }
                Worked { stages, pieces: out, outcome, is_end }
            }));
        }
        let Plugins::Working(working) = &mut self.plugins else { return Poll::Ready(()) };
        let Worked { mut stages, pieces, outcome, is_end } = ready!(working.as_mut().poll(context));
        if let Some(exchange) = exchange {
            stages.note_in(exchange);
        }
        self.last_read = Instant::now();
        self.plugins = Plugins::None;
        if !self.is_cut && outcome.is_ok() {
            self.ready.extend(pieces);
        }
        if let Err(error) = outcome
            && !self.is_cut
        {
            self.last_words = Some(self.manner.audience.event(&error, self.events()));
            self.abort = Some(error);
            (self.is_over, self.is_cut) = (true, true);
            if !is_end {
                // Those who wait for the end are told of it; nothing of the answer is sent any more.
                self.raw.clear();
                self.plugins = Plugins::Waiting(stages);
            }
        } else if !is_end {
            self.plugins = Plugins::Waiting(stages);
        }
        if !self.plugins.are_there() {
            self.ready.append(&mut self.raw);
            self.ready.extend(self.last_words.take());
        }
        Poll::Ready(())
    }

    /// How many events the upstream has sent.
    fn events(&self) -> u64 {
        self.relay.as_ref().map_or(0, |relay| relay.seen().events)
    }

    /// How the answer ended, for the plugins.
    fn end_of_answer(&self) -> End {
        if self.abort.is_some() { End::Failed } else { End::Complete }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut exchange: Option<&mut Exchange>,
    ) -> Poll<Option<Result<Bytes>>> {
        if exchange.as_ref().is_some_and(|exchange| exchange.is_cut_off()) && !self.is_over {
            self.verdict = None;
            self.fail(Error::new(ErrorKind::StreamBroken(None), "the gateway is stopping"));
        }
        loop {
            match self.step(context, exchange.as_deref_mut()) {
                Step::Data(bytes) => {
                    self.is_waiting = false;
                    let sent_before = self.last_sent;
                    self.last_sent = if self.plugins.are_there() {
                        Instant::now()
                    } else {
                        self.last_read.max(self.last_sent)
                    };
                    if let Some(exchange) =
                        exchange.as_mut().filter(|exchange| exchange.first_token.is_some())
                    {
                        exchange.gaps.note(self.last_sent - sent_before);
                    }
                    // Whoever knows the length stops asking when it is reached, so that the end is noted with the last
                    // piece and not after it.
                    if self.is_over
                        && self.ready.is_empty()
                        && !self.plugins.are_there()
                        && let Some(exchange) = &mut exchange
                    {
                        self.end(exchange);
                    }
                    if let Some(exchange) = &mut exchange
                        && exchange.first_token.is_none()
                        && self.relay.as_ref().is_none_or(|relay| relay.seen().has_content)
                    {
                        exchange.note_first_token();
                    }
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Step::End if self.is_abortive() && !self.is_flushed => {
                    // hyper drops what it has not written yet, the head included, when a body fails.
                    self.is_flushed = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::End => {
                    if let Some(exchange) = &mut exchange {
                        self.end(exchange);
                    }
                    let is_abortive = self.is_abortive();
                    return Poll::Ready(self.abort.take().filter(|_| is_abortive).map(Err));
                }
                Step::Wait => match self.poll_timers(context) {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        self.is_waiting = true;
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Notes that something came from upstream, or its end.
    fn note_read(&mut self) {
        let now = Instant::now();
        if !self.is_waiting && now - self.last_read > PAUSE_MAX {
            self.verdict = None;
        }
        self.last_read = now;
    }

    /// Notes in the exchange how it ended.
    fn end(&mut self, exchange: &mut Exchange) {
        exchange.usage = self.relay.as_ref().and_then(|relay| relay.seen().usage);
        exchange.finish = self.relay.as_ref().and_then(|relay| relay.seen().finish_reason);
        let failure = match &self.abort {
            // The connection is told the error itself.
            Some(error) if self.relay.is_none() => {
                Some(Error::new(error.kind.clone(), error.message.clone()))
            }
            _ => self.abort.take(),
        };
        match failure {
            Some(error) => exchange.fail(error),
            None => exchange.complete(),
        }
    }

    /// Whether the end is an error that only the connection can tell.
    fn is_abortive(&self) -> bool {
        self.relay.is_none() && self.abort.is_some()
    }

    /// Takes all that upstream has ready, up to the joining bound.
    fn step(&mut self, context: &mut Context<'_>, mut exchange: Option<&mut Exchange>) -> Step {
        if self.poll_plugins(context, exchange.as_deref_mut()).is_pending() {
            return if self.ready.is_empty() { Step::Wait } else { Step::Data(join(&mut self.ready)) };
        }
        let mut size: usize = self.ready.iter().chain(&self.raw).map(Bytes::len).sum();
        // The end is taken even when there is enough: it is what gives the connection back.
        while !self.is_over && (size < JOIN_BYTES_MAX || self.source.is_end_stream()) {
            let before = (self.ready.len(), self.raw.len());
            match self.source.poll_data(context) {
                Poll::Ready(Some(Ok(bytes))) => {
                    self.note_read();
                    self.take(bytes);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.note_read();
                    self.fail(broken(error));
                }
                Poll::Ready(None) => self.finish(),
                Poll::Pending => break,
            }
            size += self.ready[before.0..].iter().chain(&self.raw[before.1..]).map(Bytes::len).sum::<usize>();
        }
        while self.plugins.are_due(&self.raw, self.is_over) {
            if self.poll_plugins(context, exchange.as_deref_mut()).is_pending() {
                break;
            }
        }
        if !self.ready.is_empty() {
            return Step::Data(join(&mut self.ready));
        }
        if self.is_over && !self.plugins.are_there() { Step::End } else { Step::Wait }
    }

    /// The upstream ended its answer in an orderly way.
    fn finish(&mut self) {
        self.is_over = true;
        if self.relay.is_some() {
            let message = "the upstream ended its stream before the answer was over";
            self.fail(Error::new(ErrorKind::StreamBroken(None), message));
        }
    }

    /// Ends the stream: what the filter still holds is delivered. Unless the answer was over, the client is told of the
    /// error, if its stream has a grammar for that and the upstream has not told it already.
    fn fail(&mut self, error: Error) {
        self.is_over = true;
        if let Some(relay) = &mut self.relay {
            let has_plugins = self.plugins.are_there();
            if relay.finish(if has_plugins { &mut self.raw } else { &mut self.ready }) == Ending::Complete {
                return;
            }
            // An error that the upstream told may be about what the client wants.
            if relay.seen().error.is_none() {
                if let Some(verdict) = self.verdict.take() {
                    verdict.broken();
                }
                let event = relay.error_event(&error, self.manner.audience);
                if has_plugins {
                    self.last_words = Some(event);
                } else {
                    self.ready.push(event);
                }
            }
        }
        self.abort = Some(error);
    }

    /// Whether nothing has come yet that the client waits for.
    fn is_pending(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| *relay.opening() == Opening::Pending)
    }

    /// Waits for the first of the timers; ready when something has to be done.
    fn poll_timers(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // An upstream is not silent while nobody reads, and when the answer is over nothing of it can be late.
        let is_reading = !self.is_over && !matches!(self.plugins, Plugins::Working(_));
        let idle_end = (is_reading && !self.idle.is_zero()).then(|| self.last_read + self.idle);
        let deadline = self.deadline.filter(|_| !self.is_over);
        let content_by = self.content_by.filter(|_| !self.is_over && self.is_pending());
        let comments = self.relay.is_some() && !self.manner.keepalive.is_zero();
        let comment_at = comments.then(|| self.last_sent + self.manner.keepalive);
        let Some(next) = [idle_end, deadline, content_by, comment_at].into_iter().flatten().min() else {
            return Poll::Pending;
        };
        // The timer is left where it is while it would ring too early: then it is only looked at once per ring, not
        // set anew for every event.
        if self.timer.is_elapsed() || self.timer.deadline() > next {
            self.timer.as_mut().reset(next);
        }
        ready!(self.timer.as_mut().poll(context));
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(idle_end) {
            self.fail(Timer::Idle.broken());
        } else if is_due(content_by) {
            self.fail(Timer::FirstToken.broken());
        } else if is_due(deadline) {
            // How long it takes is up to the client, too.
            self.verdict = None;
            self.fail(Timer::Total.broken());
        } else if is_due(comment_at) {
            self.ready.push(Bytes::from_static(keep_alive(self.manner.audience.dialect)));
            self.last_sent = now;
        }
        Poll::Ready(())
    }
}

impl Plugins {
    fn are_there(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether they have something to work on.
    fn are_due(&self, raw: &[Bytes], is_over: bool) -> bool {
        match self {
            Self::None => false,
            Self::Waiting(_) => is_over || !raw.is_empty(),
            Self::Working(_) => true,
        }
    }
}

/// A client that leaves does not take the plugins with it: they are told of the end, and the exchange with them.
impl Drop for Body {
    fn drop(&mut self) {
        let Content::Stream(streaming) = &mut self.content else { return };
        if let (Some(exchange), Some(relay)) = (&mut self.exchange, &streaming.relay) {
            // For one that was left in the middle; at the end it is known already.
            exchange.usage = exchange.usage.or_else(|| relay.seen().usage);
        }
        if !streaming.plugins.are_there() {
            return;
        }
        let plugins = mem::replace(&mut streaming.plugins, Plugins::None);
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let Some(mut exchange) = self.exchange.take() else { return };
        let activity = exchange.activity();
        let telling = async move {
            let (mut stages, is_end) = match plugins {
                Plugins::None => return,
                Plugins::Waiting(stages) => (stages, false),
                Plugins::Working(working) => {
                    let worked = working.await;
                    (worked.stages, worked.is_end)
                }
            };
            if !is_end {
                // Nobody is there to be sent what they still have.
                let _ = stages.finish(End::Cancelled, Vec::new(), &mut Vec::new()).await;
            }
            stages.note_in(&mut exchange);
        };
        activity.tasks.spawn(telling);
    }
}

impl Early {
    fn poll_comment(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        ready!(self.timer.as_mut().poll(context));
        self.timer.as_mut().reset(Instant::now() + self.manner.keepalive);
        Poll::Ready(Bytes::from_static(keep_alive(self.manner.audience.dialect)))
    }
}

/// One piece of the first ones, up to the joining bound; one that is as large, or the only one, is not copied.
fn join(ready: &mut Vec<Bytes>) -> Bytes {
    let (mut count, mut size) = (1, ready.first().map_or(0, Bytes::len));
    while let Some(next) = ready.get(count).filter(|next| size + next.len() <= JOIN_BYTES_MAX) {
        size += next.len();
        count += 1;
    }
    if count == 1 {
        return if ready.is_empty() { Bytes::new() } else { ready.remove(0) };
    }
    let mut joined = BytesMut::with_capacity(size);
    for bytes in ready.drain(..count) {
        joined.extend_from_slice(&bytes);
    }
    joined.freeze()
}

fn broken(error: Error) -> Error {
    Error { kind: ErrorKind::StreamBroken(None), ..error }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = self.get_mut();
        // A defect that shows while an answer is streamed ends that answer and nothing else.
        let polled = catch_unwind(AssertUnwindSafe(|| this.poll(context)));
        let frame = ready!(polled.unwrap_or_else(|_| {
            let error = Error::new(ErrorKind::Internal, "the gateway failed while it streamed the answer");
            Poll::Ready(Some(Err(error)))
        }));
        Poll::Ready(frame.map(|data| data.map(Frame::data).map_err(Cause::from)))
    }

    fn is_end_stream(&self) -> bool {
        // Nobody asks for what is known to have no length.
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(segments) => {
                SizeHint::with_exact(segments.iter().map(|segment| segment.len() as u64).sum())
            }
            Content::Stream(streaming) if streaming.relay.is_none() => {
                let ready: usize = streaming.ready.iter().map(Bytes::len).sum();
                let total = streaming.source.len_announced().map(|rest| rest + ready as u64);
                total.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Content::Stream(_) | Content::Early(_) => SizeHint::default(),
        }
    }
}
