//! HTTP/2 by hyper, one connection.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

use super::reply::{Reply, Step};
use super::{Received, Shared, Wire};
use crate::now;

pub(super) async fn serve(wire: Wire, connection: usize, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer(request, connection, Arc::clone(&shared)));
    // A connection that breaks shows in what the requests on it record.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(wire), service)
        .await;
}

async fn answer(
    request: http::Request<Incoming>,
    connection: usize,
    shared: Arc<Shared>,
) -> Result<http::Response<Steps>, Infallible> {
    let (head, mut body) = request.into_parts();
    let number = shared.begin(record(&head, connection));
    // Dropped with this future when the peer resets the stream before the head.
    let mut departure = Departure { shared: Arc::clone(&shared), number, is_armed: true };
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            shared.update(number, |request| request.body.extend_from_slice(&data));
        }
    }
    shared.update(number, |request| request.is_complete = true);
    let reply = shared.reply_to(number);
    for step in &reply.before {
        match step {
            Step::Pause(time) => tokio::time::sleep(*time).await,
            Step::Wait(gate) => gate.passed().await,
            Step::Hang => std::future::pending().await,
            Step::Tell(gate) => gate.open(),
            Step::Bytes(_) | Step::Cut | Step::Reset => {}
        }
    }
    let (status, headers) = reply.head.clone().unwrap_or((200, Vec::new()));
    let (sender, receiver) = mpsc::channel(1);
    departure.is_armed = false;
    tokio::spawn(play(reply, sender, departure));
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Steps(receiver)).expect("a script's head is valid"))
}

async fn play(reply: Reply, sender: mpsc::Sender<io::Result<Bytes>>, mut departure: Departure) {
    departure.is_armed = true;
    for step in reply.body {
        let sent = match step {
            Step::Bytes(bytes) => sender.send(Ok(bytes)).await.is_ok(),
            Step::Pause(time) => until_closed(&sender, tokio::time::sleep(time)).await,
            Step::Wait(gate) => until_closed(&sender, gate.passed()).await,
            Step::Tell(gate) => {
                gate.open();
                true
            }
            Step::Hang => until_closed(&sender, std::future::pending()).await,
            Step::Cut | Step::Reset => {
                departure.is_armed = false;
                // The peer may have gone first.
                let _ = sender.send(Err(io::ErrorKind::ConnectionReset.into())).await;
                return;
            }
        };
        if !sent {
            return; // dropping `departure` records it
        }
    }
    departure.is_armed = false;
    departure.shared.update(departure.number, |request| request.is_answered = true);
}

/// Waits for `wait`; false when the peer went away before.
async fn until_closed(sender: &mpsc::Sender<io::Result<Bytes>>, wait: impl Future<Output = ()>) -> bool {
    tokio::select! {
        () = wait => true,
        () = sender.closed() => false,
    }
}

fn record(head: &http::request::Parts, connection: usize) -> Received {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Received {
        number: 0,
        connection,
        version: "HTTP/2",
        method: head.method.to_string(),
        target: head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: Vec::new(),
        is_complete: false,
        left: None,
        is_answered: false,
    }
}

/// Records that the peer left, unless it is disarmed first.
struct Departure {
    shared: Arc<Shared>,
    number: usize,
    is_armed: bool,
}

impl Drop for Departure {
    fn drop(&mut self) {
        if self.is_armed {
            self.shared.update(self.number, |request| request.left = Some(now()));
        }
    }
}

/// A body that is played step by step.
struct Steps(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Steps {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
