//! The body of a request to an upstream: stretches of the client's bytes and small inserts, or what is still arriving.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::error::Source;

/// The body of one attempt.
#[derive(Default)]
pub(crate) struct RequestBody {
    /// What is in memory, to be sent first.
    segments: VecDeque<Bytes>,
    /// What the client is still sending, until this body begins to read it.
    rest: Option<Rest>,
    /// The same, from then on.
    incoming: Option<Incoming>,
    /// How many bytes are left to send, if that is known.
    len: Option<u64>,
}

/// The part of a client's body that is not in memory; the first attempt that reads from it has it.
#[derive(Clone)]
pub(crate) struct Rest {
    incoming: Arc<Mutex<Option<Incoming>>>,
}

impl Rest {
    /// Wraps what is still to come.
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming: Arc::new(Mutex::new(Some(incoming))) }
    }

    /// Whether nobody has begun to read it, so that the request can still be sent.
    pub(crate) fn is_whole(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().expect("no code panics while it holds this lock")
    }
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
        Self { segments: segments.into(), rest: Some(rest), incoming: None, len }
    }

    fn poll_incoming(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Source>>> {
        if let Some(rest) = self.rest.take() {
            self.incoming = rest.lock().take();
            if self.incoming.is_none() {
                return Poll::Ready(Some(Err("the request body was already sent elsewhere".into())));
            }
        }
        match &mut self.incoming {
            Some(incoming) => Pin::new(incoming).poll_frame(context).map_err(Source::from),
            None => Poll::Ready(None),
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
            None => ready!(self.poll_incoming(context)),
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.len = self.len.map(|len| len.saturating_sub(data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.segments.is_empty() && self.rest.is_none() && self.incoming.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.len.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
