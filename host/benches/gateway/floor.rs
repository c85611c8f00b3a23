//! The floor: the least a reverse proxy over plain hyper can do. It streams both ways, keeps upstream connections in a stack, and reads
//! nothing of what it carries. Everything the gateway does is measured as a multiple of this.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::{Result, announce};

/// Serves until the process is killed.
pub(crate) async fn serve(upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(&listener)?;
    let pool = Arc::new(Pool { upstream, idle: Mutex::new(Vec::new()) });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let pool = pool.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| forward(pool.clone(), request));
            // A client that leaves is an error here, and the usual end of a measurement.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn forward(
    pool: Arc<Pool>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Relay>, Infallible> {
    Ok(relay(pool, request).await.unwrap_or_else(|_| {
        let mut response = Response::new(Relay { body: None, is_ended: true, lease: None });
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    }))
}

async fn relay(pool: Arc<Pool>, request: Request<Incoming>) -> Result<Response<Relay>> {
    let mut sender = pool.take().await?;
    let response = sender.send_request(request).await?;
    Ok(response.map(|body| Relay { body: Some(body), is_ended: false, lease: Some((sender, pool)) }))
}

struct Pool {
    upstream: SocketAddr,
    idle: Mutex<Vec<SendRequest<Incoming>>>,
}

impl Pool {
    async fn take(&self) -> Result<SendRequest<Incoming>> {
        while let Some(mut sender) = self.pop() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn pop(&self) -> Option<SendRequest<Incoming>> {
        self.idle.lock().expect("nothing panics under this lock").pop()
    }

    fn put(&self, sender: SendRequest<Incoming>) {
        self.idle.lock().expect("nothing panics under this lock").push(sender);
    }
}

/// A response body that gives its connection back once it was read to the end; dropped earlier, it closes the connection.
struct Relay {
    body: Option<Incoming>,
    is_ended: bool,
    lease: Option<(SendRequest<Incoming>, Arc<Pool>)>,
}

impl Body for Relay {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if let Poll::Ready(None) = polled {
            self.is_ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // hyper stops polling a body of known length at its last byte, before the `None`.
        if (self.is_ended || self.is_end_stream())
            && let Some((sender, pool)) = self.lease.take()
        {
            pool.put(sender);
        }
    }
}
