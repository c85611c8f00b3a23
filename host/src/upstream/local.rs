//! The way to the echo upstream, which lives in this process.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::upstream::body::RequestBody;
use crate::upstream::echo;
use crate::upstream::pool::{Answer, AnswerBody};

/// The body of a local answer; each piece reaches the client on its own, as from a model that takes its time.
pub(crate) struct LocalBody {
    pieces: VecDeque<Bytes>,
    has_yielded: bool,
}

impl LocalBody {
    /// Polls for the next piece.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.has_yielded = !self.has_yielded && !self.pieces.is_empty();
        if self.has_yielded {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.pieces.pop_front())
    }
}

/// Answers a request as an upstream would.
pub(super) async fn respond(request: Request<RequestBody>) -> Answer {
    let sent = Instant::now();
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let echo::Reply { status, content_type, answer } = echo::answer(&path, &bytes, created);
    let pieces = match answer {
        echo::Answer::Whole(body) => VecDeque::from([body]),
        echo::Answer::Stream(events) => events.into(),
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let (head, ()) = response.into_parts();
    Answer { head, body: AnswerBody::local(LocalBody { pieces, has_yielded: false }), sent }
}
