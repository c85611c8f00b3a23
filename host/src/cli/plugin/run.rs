//! `witgate plugin run`: one request through a gateway that has the plugin, to an upstream that answers as it is told.
//!
//! Gateway and upstream are real and on loopback. What the client would see goes to standard output, what happened on
//! the way there to standard error.

mod upstream;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use self::upstream::Script;
use super::{RunArguments, read, trial};
use crate::admin::audit::Searches;
use crate::budget::Budget;
use crate::cli::serve;
use crate::config::env::Environment;
use crate::config::{Config, Input, Origin, Overrides};
use crate::exchange::Activity;
use crate::gateway::Gateway;
use crate::health;
use crate::limit::Limits;
use crate::plugin::Runtime;
use crate::reload::Reloader;
use crate::server::{self, Stop, Surface};
use crate::snapshot::{Snapshot, Snapshots};
use crate::wire::Endpoint;

/// How long what the plugin still does after the answer is waited for.
const AFTER_MAX: Duration = Duration::from_secs(5);
/// What is shown of the run: the plugin's own lines, its faults, and the exchange.
const SHOWN: &str = "warn,plugin=trace,witgate::plugin=info,witgate::exchange=info,witgate::log=debug";

/// Sends the request and prints what the client would see.
///
/// # Errors
///
/// A message when a file cannot be used, or the plugin not be loaded. What the client is refused is an answer.
pub(super) fn run(arguments: &RunArguments, environment: &Environment) -> Result<(), String> {
    let request = request(arguments)?;
    let script = Script::read(arguments)?;
    log_to_stderr();
    serve::runtime()?.block_on(async {
        let upstream = listen().await?;
        let base_url = format!("http://{}/v1", address(&upstream)?);
        let config = trial::config(&arguments.trial, &base_url, environment)?;
        tokio::spawn(upstream::serve(upstream, Arc::new(script)));
        exchange(config, request, environment).await
    })
}

fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(SHOWN))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}

/// The request as the client sends it.
fn request(arguments: &RunArguments) -> Result<Request<Full<Bytes>>, String> {
    let body = read(&arguments.request)?;
    let path = match &arguments.path {
        Some(path) => path.clone(),
        None => Endpoint::guess(&body).map(|endpoint| format!("/v1{}", endpoint.upstream_path())).map_err(
            |error| format!("`{}`: {error}, or say where it goes with `--path`", arguments.request.display()),
        )?,
    };
    let mut request =
        Request::post(&*path).body(Full::from(body)).map_err(|error| format!("`--path {path}`: {error}"))?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("witgate"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for line in &arguments.headers {
        let (name, value) = header_of(line)?;
        headers.append(name, value);
    }
    Ok(request)
}

fn header_of(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("`--header {}`: write it like `x-team: research`", line.escape_debug());
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
    Ok((name, HeaderValue::try_from(value.trim()).map_err(|_| wrong())?))
}

/// Takes a free port on loopback.
///
/// # Errors
///
/// A message when there is none.
pub(in crate::cli) async fn listen() -> Result<TcpListener, String> {
    server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "--listen").await
}

/// Where a listener is.
///
/// # Errors
///
/// A message when the system does not know.
pub(in crate::cli) fn address(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| format!("the listener has no address: {error}"))
}

/// Starts a gateway, sends it the request, and prints the answer.
async fn exchange(
    config: Config,
    request: Request<Full<Bytes>>,
    environment: &Environment,
) -> Result<(), String> {
    with_gateway(config, environment, async |address| send(address, request).await).await
}

/// Starts a gateway, lets somebody use it, and stops it when everything is over.
///
/// # Errors
///
/// A message when it cannot start, or what the user says.
pub(in crate::cli) async fn with_gateway<T>(
    config: Config,
    environment: &Environment,
    work: impl AsyncFnOnce(SocketAddr) -> Result<T, String>,
) -> Result<T, String> {
    let listener = listen().await?;
    let address = address(&listener)?;
    let gateway = gateway(config, address, environment).await?;
    let (tasks, stop) = (TaskTracker::new(), Stop::default());
    tasks.spawn(server::serve(listener, Surface::Main, gateway.clone(), tasks.clone(), stop.clone()));
    let done = work(address).await;
    stop.drain.cancel();
    tasks.close();
    let after = async {
        tasks.wait().await;
        for plugin in &gateway.snapshots.current().plugins.plugins {
            plugin.flush().await;
        }
    };
    if tokio::time::timeout(AFTER_MAX, after).await.is_err() {
        eprintln!("the plugin was still at work {} s after the answer", AFTER_MAX.as_secs());
    }
    done
}

async fn gateway(
    config: Config,
    address: SocketAddr,
    environment: &Environment,
) -> Result<Arc<Gateway>, String> {
    let plugins = Arc::new(Runtime::default());
    let shared = plugins.clone();
    let building = tokio::task::spawn_blocking(move || Snapshot::build(config, None, &shared));
    let snapshot = building.await.map_err(|_| "the gateway failed while it started".to_owned())??;
    // Nothing reads the configuration again in so short a time.
    let input =
        Input { origin: Origin::Embedded, environment: environment.clone(), overrides: Overrides::default() };
    Ok(Arc::new(Gateway {
        limits: Arc::new(Limits::new(None)),
        reloader: Reloader::new(input, &snapshot.config, plugins),
        snapshots: Snapshots::new(snapshot),
        activity: Arc::new(Activity::new()),
        budget: Budget::new(),
        shared: None,
        health: health::State::new(),
        admin_address: address,
        searches: Searches::new(),
    }))
}

/// Sends the request and prints the answer as it comes.
async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| lost(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| lost(&error))?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| lost(&error))?;
    print(answer).await
}

async fn print(answer: Response<Incoming>) -> Result<(), String> {
    eprint!("answer: {}\n{}", answer.status(), shown(answer.headers()));
    let mut body = answer.into_body();
    let mut out = io::stdout();
    let mut last = b'\n';
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| lost(&error))?;
        if let Some(data) = frame.data_ref() {
            last = data.last().copied().unwrap_or(last);
            out.write_all(data)
                .and_then(|()| out.flush())
                .map_err(|error| format!("standard output: {error}"))?;
        }
    }
    // The terminal's next line is its own.
    let rest: &[u8] = if last == b'\n' { b"" } else { b"\n" };
    out.write_all(rest).map_err(|error| format!("standard output: {error}"))
}

fn lost(error: &dyn std::fmt::Display) -> String {
    format!("the answer broke off: {error}")
}

/// Headers in lines.
fn shown(headers: &HeaderMap) -> String {
    headers
        .iter()
        .map(|(name, value)| format!("  {name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_a_name_and_a_value() {
        assert_eq!(
            header_of("X-Team: a: b").unwrap(),
            (HeaderName::from_static("x-team"), HeaderValue::from_static("a: b"))
        );
        for line in ["x-team", "a b: c", ": c", "a: \n"] {
            let outcome = header_of(line);
            // White space around a value is none of it.
            assert_eq!(outcome.is_ok(), line == "a: \n", "{line:?}");
        }
        assert!(header_of("a: b\u{7}c").unwrap_err().contains("write it like"));
    }
}
