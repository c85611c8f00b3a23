//! Holding a stream back until it has something to tell: what goes wrong before that, another candidate can mend
//! without the client's knowing.
//!
//! What is held are the pieces that the client will be sent, so that nothing is read or copied twice. What a stream ends
//! with before its first content is a failure like any other; behind it, it is the client's.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::config::{Commit, Timeouts};
use crate::error::{Error, ErrorKind, Result, Timer};
use crate::upstream::leave::Verdict;
use crate::upstream::reply::{Source, invalid};
use crate::wire::openai::failure::Failure;
use crate::wire::openai::stream::Opening;
use crate::wire::relay::Relay;

/// A stream as far as it was read before the client is sent any of it.
pub(crate) struct Begun {
    /// The rest of it.
    pub(crate) source: Source,
    /// What it has gone through so far.
    pub(crate) relay: Relay,
    /// What the client is sent first.
    pub(crate) held: Vec<Bytes>,
    /// How it ended, if it did so right behind its first content.
    pub(crate) end: Option<Result<()>>,
    /// When its first content must be there, if it was handed over without any.
    pub(crate) content_by: Option<Instant>,
    /// Who is told how it ends.
    pub(crate) verdict: Option<Verdict>,
}

/// What a stream turned out to be.
pub(super) enum Opened {
    /// An answer.
    Stream(Box<Begun>),
    /// An error in an answer's place.
    Failed(Failure),
}

/// How long a stream may be without content.
pub(super) struct Bounds<'a> {
    /// Until it is handed over without any.
    pub(super) commit: &'a Commit,
    /// Until it has failed.
    pub(super) timeouts: &'a Timeouts,
    /// When its request was sent.
    pub(super) sent: Instant,
}

/// What came next.
enum Next {
    Data(Bytes),
    End,
    /// Nothing, for as long as it may be held back.
    Due,
}

/// Reads a stream up to its first content, or to a bound of `commit`.
///
/// Dropping the future closes the connection.
///
/// # Errors
///
/// `UpstreamTimeout` when `first_token` or `idle` ran out, `UpstreamEmpty` when it ended before, `UpstreamInvalid` when it
/// broke off or is no stream of events.
pub(super) async fn open(source: Source, relay: Relay, bounds: Bounds<'_>) -> Result<Opened> {
    let clock = Clock::new(&bounds);
    let Commit { events_max, bytes_max, .. } = *bounds.commit;
    let mut begun = Box::new(Begun {
        source,
        relay,
        held: Vec::new(),
        end: None,
        content_by: clock.content_by,
        verdict: None,
    });
    let mut bytes = 0;
    while begun.relay.seen().events < events_max && bytes < bytes_max {
        let pushed = match clock.next(&mut begun.source).await? {
            Next::Due => break,
            Next::Data(data) => {
                bytes += data.len() as u64;
                begun.relay.push(data, &mut begun.held)
            }
            Next::End => {
                begun.relay.finish_frame(&mut begun.held);
                begun.end = Some(Ok(()));
                Ok(())
            }
        };
        match begun.relay.opening() {
            Opening::Answered => {
                begun.end = pushed.err().map(Err).or(begun.end);
                begun.content_by = None;
                break;
            }
            Opening::Failed(data) => return Ok(Opened::Failed(Failure::of(data))),
            Opening::Malformed => {
                return Err(invalid("the upstream's stream begins with an event that is not valid JSON"));
            }
            Opening::Pending => pushed?,
        }
        if begun.end.is_some() || begun.relay.seen().is_done {
            let message = "the upstream ended its stream without any content";
            return Err(Error::new(ErrorKind::UpstreamEmpty, message));
        }
    }
    Ok(Opened::Stream(begun))
}

/// What a stream that is held back may wait for.
struct Clock {
    idle: Duration,
    content_by: Option<Instant>,
    held_until: Option<Instant>,
}

impl Clock {
    fn new(bounds: &Bounds<'_>) -> Self {
        let after = |start: Instant, limit: Duration| (!limit.is_zero()).then(|| start + limit);
        Self {
            idle: bounds.timeouts.idle,
            content_by: after(bounds.sent, bounds.timeouts.first_token),
            held_until: after(Instant::now(), bounds.commit.wait_max),
        }
    }

    /// Waits for what comes next. What is there already is taken without a look at the clock.
    async fn next(&self, source: &mut Source) -> Result<Next> {
        let idle_end = (!self.idle.is_zero()).then(|| Instant::now() + self.idle);
        let rings = [
            self.held_until.map(|at| (at, None)),
            self.content_by.map(|at| (at, Some(Timer::FirstToken))),
            idle_end.map(|at| (at, Some(Timer::Idle))),
        ];
        let data = poll_fn(|context| source.poll_data(context));
        let data = match rings.into_iter().flatten().min_by_key(|(at, _)| *at) {
            None => data.await,
            Some((at, ring)) => match (timeout_at(at, data).await, ring) {
                (Ok(data), _) => data,
                (Err(_), None) => return Ok(Next::Due),
                (Err(_), Some(timer)) => return Err(timer.error()),
            },
        };
        Ok(data.transpose()?.map_or(Next::End, Next::Data))
    }
}
