//! The body of a request to an upstream: stretches of the client's bytes and small inserts, or what is still arriving.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use crate::error::{Error, ErrorKind, Source};

/// The longest silence in the middle of a client's body.
pub(crate) const UPLOAD_IDLE_MAX: Duration = Duration::from_secs(60);

/// The body of one attempt.
#[derive(Default)]
pub(crate) struct RequestBody {
    /// What is in memory, to be sent first.
    segments: VecDeque<Bytes>,
    /// What the client is still sending.
    rest: Option<Rest>,
    /// The same, from when this body begins to read it.
    arriving: Option<Arriving>,
    /// How many bytes are left to send, if that is known.
    len: Option<u64>,
}

/// The part of a client's body that is not in memory; the first attempt that reads from it has it.
#[derive(Clone)]
pub(crate) struct Rest {
    upload: Arc<Upload>,
}

struct Upload {
    state: Mutex<State>,
    over: Notify,
}

struct State {
    incoming: Option<Incoming>,
    /// What the client may still send, in bytes.
    bytes_left: u64,
    /// When a piece of it was passed on last.
    moved: Instant,
    /// Whether the upstream would take more of it than the client has sent.
    is_awaited: bool,
    fault: Option<Error>,
}

/// A client's body as it is passed on.
struct Arriving {
    incoming: Incoming,
    bytes_left: u64,
    silence: Pin<Box<Sleep>>,
}

impl RequestBody {
    /// What is in memory, as one piece.
    pub(super) fn into_bytes(self) -> Bytes {
        let mut segments = self.segments;
        match (segments.pop_front(), segments.is_empty()) {
            (None, _) => Bytes::new(),
            (Some(only), true) => only,
            (Some(first), false) => {
                segments.push_front(first);
                Vec::from(segments).concat().into()
            }
        }
    }
}

impl Rest {
    /// Wraps what is still to come, of which `bytes_max` are let through.
    pub(crate) fn new(incoming: Incoming, bytes_max: u64) -> Self {
        let state = State {
            incoming: Some(incoming),
            bytes_left: bytes_max,
            moved: Instant::now(),
            is_awaited: false,
            fault: None,
        };
        Self { upload: Arc::new(Upload { state: Mutex::new(state), over: Notify::new() }) }
    }

    /// Whether nobody has begun to read it, so that the request can still be sent.
    pub(crate) fn is_whole(&self) -> bool {
        self.state().incoming.is_some()
    }

    /// What the client did wrong while it was sending, once.
    pub(crate) fn take_fault(&self) -> Option<Error> {
        self.state().fault.take()
    }

    /// Whether it is the client that is waited for.
    pub(super) fn is_awaited(&self) -> bool {
        self.state().is_awaited
    }

    /// Waits until all of it has been passed on, or the upstream has stopped taking it.
    pub(super) async fn over(&self) {
        while tokio::time::timeout(UPLOAD_IDLE_MAX, self.upload.over.notified()).await.is_err() {
            if self.state().moved.elapsed() >= UPLOAD_IDLE_MAX {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.upload.state.lock().expect("no code panics while it holds this lock")
    }

    fn begin(&self) -> Option<Arriving> {
        let mut state = self.state();
        let bytes_left = state.bytes_left;
        let silence = || Box::pin(sleep(UPLOAD_IDLE_MAX));
        state.incoming.take().map(|incoming| Arriving { incoming, bytes_left, silence: silence() })
    }

    fn end(&self, fault: Option<Error>) {
        self.state().fault = fault;
        self.upload.over.notify_one();
    }
}

impl Arriving {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) else {
            ready!(self.silence.as_mut().poll(context));
            return Poll::Ready(Some(Err(too_slow())));
        };
        self.silence.as_mut().reset(Instant::now() + UPLOAD_IDLE_MAX);
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(broken_off(error)))),
            Some(Ok(frame)) => frame,
        };
        let len = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.bytes_left.checked_sub(len) else {
            let message = "the request body is larger than `server.request_body_max`";
            return Poll::Ready(Some(Err(Error::new(ErrorKind::RequestTooLarge, message))));
        };
        self.bytes_left = left;
        Poll::Ready(Some(Ok(frame)))
    }
}

/// The client stopped sending in the middle of its body.
pub(crate) fn too_slow() -> Error {
    Error::new(ErrorKind::RequestTimeout, "the request body did not arrive in time")
}

/// The client's body is not valid HTTP, or its connection broke.
pub(crate) fn broken_off(error: hyper::Error) -> Error {
    Error::new(ErrorKind::InvalidRequest, "the request body broke off").with_source(error)
}

impl RequestBody {
    /// A body in memory.
    pub(crate) fn from_segments(segments: impl Into<VecDeque<Bytes>>) -> Self {
        let segments = segments.into();
        let len = segments.iter().map(|segment| segment.len() as u64).sum();
        Self { segments, len: Some(len), ..Self::default() }
    }

    /// A body of which only the beginning is in memory; `len` is the length of the whole.
    pub(crate) fn streaming(segments: impl Into<VecDeque<Bytes>>, rest: Rest, len: Option<u64>) -> Self {
        Self { segments: segments.into(), rest: Some(rest), arriving: None, len }
    }

    /// What the client is still sending.
    pub(super) fn rest(&self) -> Option<Rest> {
        self.rest.clone()
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Source>>> {
        let Some(rest) = &self.rest else { return Poll::Ready(None) };
        if self.arriving.is_none() {
            self.arriving = rest.begin();
        }
        let Some(arriving) = &mut self.arriving else {
            return Poll::Ready(Some(Err("the request body was already sent elsewhere".into())));
        };
        let polled = arriving.poll(context);
        rest.state().is_awaited = polled.is_pending();
        match ready!(polled) {
            Some(Ok(frame)) => {
                rest.state().moved = Instant::now();
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                rest.end(None);
                self.rest = None;
                Poll::Ready(None)
            }
            Some(Err(fault)) => {
                let message = fault.message.clone();
                rest.end(Some(fault));
                Poll::Ready(Some(Err(message.into())))
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Source;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Source>>> {
        let frame = match self.segments.pop_front() {
            Some(segment) => Some(Ok(Frame::data(segment))),
            None => ready!(self.poll_rest(context)),
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.len = self.len.map(|len| len.saturating_sub(data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.segments.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.len.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
