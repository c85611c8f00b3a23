//! An upstream's answer: as much of it as has to be known before the client gets any, and how the rest comes.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use tokio::time::Instant;

use crate::config::Commit;
use crate::error::{Error, ErrorKind, Result, Timer};
use crate::headers;
use crate::upstream::commit::{self, Begun, Bounds, Opened};
use crate::upstream::connection::within;
use crate::upstream::inflate::Inflate;
use crate::upstream::job::Job;
use crate::upstream::translation::Translation;
use crate::upstream::{Answer, AnswerBody, InFlight, Upstream};
use crate::wire::gemini::content;
use crate::wire::openai::answer;
use crate::wire::openai::failure::Failure;
use crate::wire::openai::stream::Rules;
use crate::wire::relay::{self, Relay};
use crate::wire::rename::Rename;
use crate::wire::{Dialect, Endpoint};

/// The largest whole answer that is held in memory because it has to be changed, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Up to here a whole answer is read before the client gets a byte, so that another candidate can mend one that
/// breaks off; a longer one is passed on as it comes.
const ANSWER_HELD_BYTES_MAX: usize = 1 << 20;
/// The largest failed answer that is taken into memory while another candidate is tried, in bytes.
const FAILED_BODY_BYTES_MAX: usize = 64 << 10;
/// How long that may take.
const FAILED_BODY_TIME_MAX: Duration = Duration::from_millis(500);

/// An upstream's answer, ready to be handed on.
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers that concern the client.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) content: ReplyContent,
    /// Who answered.
    pub(crate) upstream: Arc<Upstream>,
    /// The place that is held to the end of the body; none once that is in memory.
    pub(crate) place: Option<InFlight>,
    /// When the attempt must be over.
    pub(crate) deadline: Option<Instant>,
}

/// The body of an answer.
pub(crate) enum ReplyContent {
    /// In memory, with whatever had to be changed.
    Whole(answer::Answer),
    /// In memory, as the upstream sent it.
    Held(Bytes),
    /// A stream of events.
    Events(Box<Begun>),
    /// Bytes that are passed on as they come.
    Opaque { source: Source, first: Bytes },
}

/// The bytes of an answer, with the upstream's `content-encoding` undone.
pub(crate) struct Source {
    body: AnswerBody,
    inflate: Option<Inflate>,
}

/// Reads as much of an answer as has to be known before the client gets any of it. An error in the place of a
/// successful answer becomes an answer of the status that its codes stand for.
pub(super) async fn read(
    job: &Job,
    (upstream, model): (&Upstream, &str),
    translation: Option<&Translation>,
    commit: &Commit,
    answer: Answer,
) -> Result<(StatusCode, HeaderMap, ReplyContent)> {
    let Answer { head: Parts { status, mut headers, .. }, body, sent } = answer;
    let kind = headers::Kind::of(&headers);
    headers::strip_hop_by_hop(&mut headers);
    headers::strip_cors(&mut headers);
    let idle = upstream.settings.timeouts.idle;
    let mut source = Source { body, inflate: None };
    // What is sent tells its own length; only where there is nothing to send, as after HEAD, is it the upstream's word.
    if !source.is_end_stream() {
        headers.remove(header::CONTENT_LENGTH);
    }
    if let Some(translation) = translation {
        // What the upstream says of itself there is for clients of its vendor.
        headers::strip(&mut headers, |name| {
            Dialect::ALL.into_iter().any(|dialect| dialect.owns_header(name))
        });
        translation.describe(&mut headers);
    }
    let change = match translation {
        Some(translation) => Change::Translate(translation),
        None => job.rename(upstream, model).map_or(Change::None, Change::Rename),
    };
    let rules =
        job.rules(upstream, translation).filter(|_| status.is_success() && kind != headers::Kind::Other);
    let failure = match rules.filter(|_| source.undo_encoding(&mut headers)) {
        None if translation.is_none() => {
            let mut content = opaque(job, source, idle).await?;
            if waits_in_body(upstream, status, &headers) {
                state_wait(upstream, &mut headers, content.beginning(idle).await?);
            }
            return Ok((status, headers, content));
        }
        None if status.is_success() => {
            return Err(invalid(
                "the upstream's answer is of a kind that cannot be put into the client's words",
            ));
        }
        // A redirection is for whoever asked there.
        None if !status.is_client_error() && !status.is_server_error() => {
            return Err(invalid("the upstream's answer is neither an answer nor an error"));
        }
        None => Failure { status, body: source.told(&mut headers).await },
        Some(rules) if kind == headers::Kind::EventStream => {
            let bounds = Bounds { commit, timeouts: &upstream.settings.timeouts, sent };
            let relay = Relay::new(rules, change.stream());
            match commit::open(source, relay, bounds).await? {
                Opened::Stream(begun) => return Ok((status, headers, ReplyContent::Events(begun))),
                Opened::Failed(failure) => failure,
            }
        }
        Some(rules) => match document(source, &rules, job.holds_answer || translation.is_some(), idle).await?
        {
            Read::Answer(ReplyContent::Whole(answer)) => {
                let answer = change.whole(answer)?;
                // Who asked for a stream can read no other answer; plugins that want to see this one get it whole.
                let events = translation.filter(|_| job.is_stream() && !job.holds_answer);
                if let Some(events) = events.and_then(|translation| translation.events_of(&answer)) {
                    headers.extend(headers::event_stream());
                    let answer = answer::Answer { segments: vec![events], facts: answer.facts };
                    return Ok((status, headers, ReplyContent::Whole(answer)));
                }
                return Ok((status, headers, ReplyContent::Whole(answer)));
            }
            Read::Answer(content) => return Ok((status, headers, change.beginning(content))),
            Read::Failed(failure) => failure,
        },
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let Failure { status, body } = failure;
    state_wait(upstream, &mut headers, &body);
    let (status, body) = match translation {
        Some(translation) => translation.failure(status, &body),
        None => (status, body),
    };
    Ok((status, headers, ReplyContent::Held(body)))
}

/// What an answer has to go through for its client.
enum Change<'a> {
    /// Nothing.
    None,
    /// It gets the client's name for the model.
    Rename(Rename),
    /// It is put into the client's words.
    Translate(&'a Translation),
}

impl Change<'_> {
    /// An answer that is too long to be held: where only the name changes, it is passed on, as is done without a change.
    fn beginning(self, content: ReplyContent) -> ReplyContent {
        match (self, content) {
            (Self::Rename(rename), ReplyContent::Opaque { source, first }) => {
                ReplyContent::Opaque { source, first: rename.beginning(first) }
            }
            (_, content) => content,
        }
    }

    fn whole(self, mut answer: answer::Answer) -> Result<answer::Answer> {
        match self {
            Self::None => {}
            Self::Rename(rename) => answer.segments = vec![rename.whole(answer.body())],
            Self::Translate(translation) => return translation.whole(answer),
        }
        Ok(answer)
    }

    fn stream(self) -> relay::Change {
        match self {
            Self::None => relay::Change::None,
            Self::Rename(rename) => relay::Change::Rename(Box::new(rename)),
            Self::Translate(translation) => {
                translation.stream().map_or(relay::Change::None, relay::Change::Convert)
            }
        }
    }
}

/// What a JSON answer turned out to be.
enum Read {
    Answer(ReplyContent),
    /// An error in an answer's place.
    Failed(Failure),
}

/// Bytes that are passed on. Of a known endpoint's the first ones are waited for, so that an answer which breaks off
/// before is no answer; of a path that nobody knows not even those, because it may be a stream that is still silent.
async fn opaque(job: &Job, mut source: Source, idle: Duration) -> Result<ReplyContent> {
    let first = match job.endpoint {
        Some(_) => source.next(idle).await?.unwrap_or_default(),
        None => Bytes::new(),
    };
    Ok(ReplyContent::Opaque { source, first })
}

/// Whether an upstream may say in the body of its refusal when to ask it again.
fn waits_in_body(upstream: &Upstream, status: StatusCode, headers: &HeaderMap) -> bool {
    upstream.settings.dialect == Dialect::Gemini
        && matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        && !headers.contains_key(header::RETRY_AFTER)
}

/// Says in the header what Google says in the body of an error: when to ask again, in whole seconds, not too early.
fn state_wait(upstream: &Upstream, headers: &mut HeaderMap, body: &[u8]) {
    if upstream.settings.dialect != Dialect::Gemini || headers.contains_key(header::RETRY_AFTER) {
        return;
    }
    if let Some(wait) = content::retry_delay(body) {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// A JSON answer, read whole unless it is long and stays as it is.
async fn document(mut source: Source, rules: &Rules, is_held: bool, idle: Duration) -> Result<Read> {
    // A list of models is not passed on but merged.
    let is_changed = is_held || rules.edits_choices() || rules.endpoint == Endpoint::Models;
    let limit = if is_changed { ANSWER_BYTES_MAX } else { ANSWER_HELD_BYTES_MAX };
    let (body, is_whole) = source.collect(limit, idle).await?;
    if body.is_empty() {
        return Err(empty());
    }
    match (is_whole, is_changed) {
        (true, _) => {
            let answer = answer::rewrite(&body, rules)?;
            Ok(match answer.facts.error {
                Some(_) if !answer.facts.has_content => Read::Failed(Failure::of(&body)),
                _ => Read::Answer(ReplyContent::Whole(answer)),
            })
        }
        (false, false) => Ok(Read::Answer(ReplyContent::Opaque { source, first: body })),
        (false, true) => Err(invalid("the upstream's answer is too large to be changed")),
    }
}

impl ReplyContent {
    /// The beginning of what is passed on: all of it, if it is short and there.
    ///
    /// # Errors
    ///
    /// `UpstreamInvalid` when it breaks off.
    async fn beginning(&mut self, idle: Duration) -> Result<&[u8]> {
        let Self::Opaque { source, first } = self else { return Ok(&[]) };
        let collecting = source.collect_after(first, FAILED_BODY_BYTES_MAX, idle);
        // What is late says nothing, and is passed on all the same.
        if let Ok(collected) = tokio::time::timeout(FAILED_BODY_TIME_MAX, collecting).await {
            collected?;
        }
        Ok(first)
    }
}

impl Reply {
    /// A JSON answer that the gateway gives in an upstream's place.
    pub(super) fn own(upstream: &Arc<Upstream>, body: Bytes) -> Self {
        let json = HeaderValue::from_static("application/json");
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, json)]),
            content: ReplyContent::Held(body),
            upstream: upstream.clone(),
            place: None,
            deadline: None,
        }
    }

    /// Takes the body of an answer that may never be shown into memory, if it is short and there, so that its
    /// connection can be used again.
    ///
    /// # Errors
    ///
    /// `UpstreamInvalid` when it breaks off.
    pub(super) async fn held(mut self) -> Result<Self> {
        if let ReplyContent::Opaque { source, first } = &mut self.content {
            let collecting = source.collect_after(first, FAILED_BODY_BYTES_MAX, Duration::ZERO);
            let is_whole = match tokio::time::timeout(FAILED_BODY_TIME_MAX, collecting).await {
                Ok(collected) => collected?,
                Err(_) => false,
            };
            if is_whole {
                self.content = ReplyContent::Held(std::mem::take(first));
                self.place = None;
            }
        }
        Ok(self)
    }

    /// Takes the body of an answer that is no stream of events into memory, as far as it is short.
    ///
    /// # Errors
    ///
    /// `UpstreamInvalid` when it breaks off or is longer than is held.
    pub(crate) async fn settled(mut self) -> Result<Self> {
        let idle = self.upstream.settings.timeouts.idle;
        if let ReplyContent::Opaque { source, first } = &mut self.content {
            if !source.collect_after(first, ANSWER_HELD_BYTES_MAX, idle).await? {
                return Err(invalid("the upstream answered with more than can be shown as an event"));
            }
            self.content = ReplyContent::Held(std::mem::take(first));
        }
        Ok(self)
    }
}

impl Source {
    /// The body of a failed answer as far as it is short, there and readable; what the status says is enough without.
    async fn told(&mut self, headers: &mut HeaderMap) -> Bytes {
        let is_readable = self.undo_encoding(headers);
        headers.remove(header::CONTENT_ENCODING);
        let collecting = self.collect(FAILED_BODY_BYTES_MAX, Duration::ZERO);
        match tokio::time::timeout(FAILED_BODY_TIME_MAX, collecting).await {
            Ok(Ok((body, _))) if is_readable => body,
            _ => Bytes::new(),
        }
    }

    /// Prepares to undo the `content-encoding` and takes it out of the headers; false when this program does not know
    /// it, so that it is the client's to undo.
    fn undo_encoding(&mut self, headers: &mut HeaderMap) -> bool {
        let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return true };
        let encoding = encoding.to_str().unwrap_or("");
        if !encoding.eq_ignore_ascii_case("identity") {
            self.inflate = Inflate::new(encoding);
            if self.inflate.is_none() {
                return false;
            }
        }
        headers.remove(header::CONTENT_ENCODING);
        true
    }

    /// Polls for the next bytes.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            let data = match ready!(self.body.poll_data(context)) {
                Some(Ok(data)) => data,
                Some(Err(error)) => {
                    let error = invalid("the upstream broke off its answer").with_source(error);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    return Poll::Ready(match self.inflate.take().map(Inflate::finish) {
                        None => None,
                        Some(Ok(rest)) => (!rest.is_empty()).then_some(Ok(rest)),
                        Some(Err(error)) => Some(Err(misencoded(error))),
                    });
                }
            };
            let data = match &mut self.inflate {
                None => Ok(data),
                Some(inflate) => inflate.push(&data).map_err(misencoded),
            };
            if !matches!(&data, Ok(data) if data.is_empty()) {
                return Poll::Ready(Some(data));
            }
        }
    }

    /// Whether everything has been delivered.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.inflate.is_none() && self.body.is_end_stream()
    }

    /// The length that is still to come, if the upstream said.
    pub(crate) fn len_announced(&self) -> Option<u64> {
        self.body.len_announced().filter(|_| self.inflate.is_none())
    }

    /// Waits for the next bytes, none at the end.
    async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>> {
        match within(idle, pin!(poll_fn(|context| self.poll_data(context)))).await {
            Some(data) => data.transpose(),
            None => Err(Timer::Idle.error()),
        }
    }

    /// Reads to the end or to the limit, after what has been read already; says whether it was the end.
    async fn collect_after(&mut self, read: &mut Bytes, limit: usize, idle: Duration) -> Result<bool> {
        while read.len() < limit {
            let Some(more) = self.next(idle).await? else { return Ok(true) };
            *read = if read.is_empty() { more } else { [&**read, &*more].concat().into() };
        }
        Ok(false)
    }

    /// Reads to the end or to the limit; says whether it was the end.
    async fn collect(&mut self, limit: usize, idle: Duration) -> Result<(Bytes, bool)> {
        let Some(first) = self.next(idle).await? else { return Ok((Bytes::new(), true)) };
        let Some(second) = self.next(idle).await? else { return Ok((first, true)) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while all.len() < limit {
            match self.next(idle).await? {
                Some(more) => all.extend_from_slice(&more),
                None => return Ok((all.freeze(), true)),
            }
        }
        Ok((all.freeze(), false))
    }
}

pub(super) fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::UpstreamInvalid, message)
}

fn empty() -> Error {
    Error::new(ErrorKind::UpstreamEmpty, "the upstream sent an empty answer")
}

fn misencoded(error: std::io::Error) -> Error {
    invalid("the upstream's answer is not encoded as its header says").with_source(error)
}
