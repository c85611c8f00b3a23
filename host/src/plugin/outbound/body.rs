//! The bodies of a plugin's outbound requests and their answers, with their bounds.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::plugin::outbound::connection::code_of;

/// What a guest sends; fails where it becomes longer than its bound.
pub(super) struct RequestBody {
    body: WasiBody,
    allowance: Allowance,
}

/// What a guest is sent; fails where it becomes longer than its bound, or takes too long from one piece to the next.
pub(super) struct ResponseBody {
    incoming: Incoming,
    allowance: Allowance,
    silence_max: Duration,
    silence: Pin<Box<Sleep>>,
    is_silent: bool,
    is_over: bool,
    /// The request is in flight as long as its answer is.
    _permits: [OwnedSemaphorePermit; 2],
}

struct Allowance {
    bytes_max: u64,
    left: u64,
}

impl RequestBody {
    pub(super) fn new(body: WasiBody, bytes_max: u64) -> Self {
        Self { body, allowance: Allowance::new(bytes_max) }
    }
}

impl ResponseBody {
    /// A body that is waited for at most `silence_max` at a time; counted only while somebody waits.
    pub(super) fn new(
        incoming: Incoming,
        bytes_max: u64,
        silence_max: Duration,
        permits: [OwnedSemaphorePermit; 2],
    ) -> Self {
        Self {
            incoming,
            allowance: Allowance::new(bytes_max),
            silence_max,
            silence: Box::pin(tokio::time::sleep(silence_max)),
            is_silent: false,
            is_over: false,
            _permits: permits,
        }
    }

    fn poll_incoming(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            self.is_silent = false;
            return Poll::Ready(frame.map(|frame| self.allow(frame.map_err(|error| code_of(&error))?)));
        }
        if !self.is_silent {
            self.is_silent = true;
            self.silence.as_mut().reset(Instant::now() + self.silence_max);
        }
        ready!(self.silence.as_mut().poll(context));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn allow(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
        if self.allowance.take(&frame) {
            return Ok(frame);
        }
        Err(Error::HttpResponseBodySize(Some(self.allowance.bytes_max)))
    }
}

impl Allowance {
    fn new(bytes_max: u64) -> Self {
        Self { bytes_max, left: bytes_max }
    }

    /// Whether the frame is still within the bound. Trailers have one of their own.
    fn take<D: Buf>(&mut self, frame: &Frame<D>) -> bool {
        let len = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        match self.left.checked_sub(len) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) if !self.allowance.take(&frame) => {
                Some(Err(Error::HttpRequestBodySize(Some(self.allowance.bytes_max))))
            }
            frame => frame,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(self.poll_incoming(context));
        self.is_over = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
