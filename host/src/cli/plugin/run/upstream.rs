//! An upstream on loopback that says what it was sent and answers as it is told.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::super::{RunArguments, read};
use super::shown;
use crate::upstream::echo::{self, Answer};

/// What the upstream answers.
pub(super) struct Script {
    status: Option<StatusCode>,
    content: Content,
}

enum Content {
    /// The question.
    Echo,
    /// A document.
    Answer(Bytes),
    /// Server-sent events, each as it is sent.
    Stream(Vec<Bytes>),
}

/// The pieces of a body, one after another.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

impl Script {
    /// Reads what the arguments name.
    ///
    /// # Errors
    ///
    /// A message when a file cannot be read.
    pub(super) fn read(arguments: &RunArguments) -> Result<Self, String> {
        let content = match (&arguments.stream, &arguments.answer) {
            (Some(file), _) => Content::Stream(events(read(file)?.into())),
            (None, Some(file)) => Content::Answer(read(file)?.into()),
            (None, None) => Content::Echo,
        };
        let status = arguments.status.map(StatusCode::from_u16).transpose();
        Ok(Self { status: status.map_err(|error| format!("`--status`: {error}"))?, content })
    }

    fn answer(&self, path: &str, body: &[u8]) -> Response<Pieces> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (status, content_type, pieces) = match &self.content {
            Content::Answer(document) => (StatusCode::OK, "application/json", vec![document.clone()]),
            Content::Stream(events) => (StatusCode::OK, "text/event-stream", events.clone()),
            Content::Echo => {
                let reply = echo::answer(path, body, now);
                let pieces = match reply.answer {
                    Answer::Whole(document) => vec![document],
                    Answer::Stream(events) => events,
                };
                (reply.status, reply.content_type, pieces)
            }
        };
        let mut response = Response::new(Pieces(pieces.into()));
        *response.status_mut() = self.status.unwrap_or(status);
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
        response
    }
}

/// Answers until the process ends.
pub(super) async fn serve(listener: TcpListener, script: Arc<Script>) {
    while let Ok((stream, _)) = listener.accept().await {
        let script = script.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, &script));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("the upstream lost its connection: {error}");
            }
        });
    }
}

async fn respond(request: Request<Incoming>, script: &Script) -> Result<Response<Pieces>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    eprint!(
        "upstream request: {} {}\n{}  {}\n",
        head.method,
        head.uri,
        shown(&head.headers),
        text.trim_end()
    );
    Ok(script.answer(head.uri.path(), &body))
}

/// Cuts a stream behind each empty line.
fn events(stream: Bytes) -> Vec<Bytes> {
    let mut events = Vec::new();
    let mut start = 0;
    let mut line = 0;
    for (at, _) in stream.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        let is_empty = matches!(&stream[line..at], b"" | b"\r");
        line = at + 1;
        if is_empty {
            events.push(stream.slice(start..line));
            start = line;
        }
    }
    if start < stream.len() {
        events.push(stream.slice(start..));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stream: &'static str, expected: &[&str]) {
        assert_eq!(events(Bytes::from_static(stream.as_bytes())), expected);
    }

    #[test]
    fn a_stream_is_cut_into_its_events() {
        check("", &[]);
        check("data: 1\n\ndata: 2\n\n", &["data: 1\n\n", "data: 2\n\n"]);
        check("data: 1\r\n\r\ndata: 2", &["data: 1\r\n\r\n", "data: 2"]);
        check("event: a\ndata: 1\n", &["event: a\ndata: 1\n"]);
    }
}
