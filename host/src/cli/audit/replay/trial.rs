//! What plugins make of a stored request and its stored answer.
//!
//! The request runs twice through a gateway of the configuration, without its plugins and with them; every upstream is
//! one on loopback that gives the stored answer. What differs between the two runs is what the plugins did.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::comparison::{self, Comparison};
use super::stored::Stored;
use crate::cli::plugin::run::{address, listen, with_gateway};
use crate::config::env::Environment;
use crate::config::secret::is_credential;
use crate::config::{self, Config, Origin, Overrides, Target, UpstreamTls};
use crate::headers::{Kind, is_reserved};
use crate::wire::openai::disassemble::stream_of;
use crate::wire::{Dialect, Endpoint};

/// What stands for a header's value that is not shown.
const HIDDEN: &str = "***";

/// What the upstream was sent, and what the client was answered.
struct Run {
    /// None where nothing was sent: a plugin has answered or refused.
    request: Option<Message>,
    status: StatusCode,
    answer: Message,
}

struct Message {
    headers: HeaderMap,
    body: Bytes,
}

/// Runs the exchange through the plugins of a configuration file; the differences as text.
///
/// # Errors
///
/// What is wrong with the file or its plugins, or that nothing was stored to answer with.
pub(super) async fn differences(
    file: &Path,
    stored: &Stored,
    key: Option<&str>,
    environment: &Environment,
) -> Result<String, String> {
    let answer = stored.answer.as_ref().map_err(|why| format!("{why}: plugins cannot be shown it"))?;
    let loaded = config::load(&Origin::File(file.to_owned()), environment, &Overrides::default());
    let (config, _) = loaded.map_err(|problems| problems.to_string())?;
    if config.plugins.is_empty() {
        return Err(format!("`{}` has no plugins", file.display()));
    }
    let reply = Arc::new(Reply::of(stored, answer));
    let secrets = secret_headers(&config);
    let plain = Config { plugins: Vec::new(), ..config.clone() };
    let before = Box::pin(run(plain, stored, key, environment, &reply)).await?;
    let after = Box::pin(run(config, stored, key, environment, &reply)).await?;
    Ok(report(stored, &before, &after, &secrets))
}

fn report(stored: &Stored, before: &Run, after: &Run, secrets: &[HeaderName]) -> String {
    let mut text = String::new();
    match (&before.request, &after.request) {
        (Some(before), Some(after)) => {
            let lines = |message: &Message| {
                header_lines(&message.headers, secrets) + &lines(stored, message, Kind::Json)
            };
            text.push_str(&section("request", &lines(before), &lines(after)));
        }
        (None, _) => text.push_str("request: nothing is sent upstream, with and without plugins\n"),
        (Some(_), None) => text.push_str("request: the plugins answer, nothing is sent upstream\n"),
    }
    let answer = |run: &Run| {
        let kind = Kind::of(&run.answer.headers);
        format!("status: {}\n{}", run.status.as_u16(), lines(stored, &run.answer, kind))
    };
    text.push_str(&section("answer", &answer(before), &answer(after)));
    text
}

fn section(name: &str, before: &str, after: &str) -> String {
    let names = [format!("{name} without plugins"), format!("{name} with plugins")];
    comparison::differences(&names[0], before, &names[1], after)
        .unwrap_or_else(|| format!("{name}: unchanged\n"))
}

fn lines(stored: &Stored, message: &Message, kind: Kind) -> String {
    Comparison { endpoint: stored.endpoint, body: &message.body, kind, with_usage: true }.text()
}

/// The headers of upstreams' settings whose values are secret.
fn secret_headers(config: &Config) -> Vec<HeaderName> {
    let headers = config.upstreams.iter().flat_map(|upstream| &upstream.headers);
    headers.filter(|(_, value)| value.is_sensitive()).map(|(name, _)| name.clone()).collect()
}

/// The headers that are not the gateway's own, without credentials.
fn header_lines(headers: &HeaderMap, secrets: &[HeaderName]) -> String {
    let mut lines: Vec<String> = headers
        .iter()
        .filter(|(name, _)| !is_reserved(name) && *name != header::AUTHORIZATION)
        .map(|(name, value)| {
            let is_secret = is_credential(name.as_str()) || secrets.contains(name);
            let value = if is_secret { HIDDEN.into() } else { String::from_utf8_lossy(value.as_bytes()) };
            format!("{name}: {value}\n")
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// One run of the request.
async fn run(
    mut config: Config,
    stored: &Stored,
    key: Option<&str>,
    environment: &Environment,
    reply: &Arc<Reply>,
) -> Result<Run, String> {
    let upstream = listen().await?;
    let base = format!("http://{}/v1", address(&upstream)?);
    redirect(&mut config, &base, stored.endpoint.map_or(Dialect::OpenAi, Endpoint::dialect))?;
    let seen = Arc::new(Mutex::new(None));
    let serving = tokio::spawn(serve(upstream, reply.clone(), seen.clone()));
    let target = stored.target.parse().map_err(|error| format!("the path `{}`: {error}", stored.target))?;
    let mut request = stored.request(target, key)?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("witgate"));
    let (status, answer) = with_gateway(config, environment, async |gateway| {
        let lost = |error: &dyn std::fmt::Display| format!("the gateway did not answer: {error}");
        let stream = TcpStream::connect(gateway).await.map_err(|error| lost(&error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| lost(&error))?;
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| lost(&error))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| lost(&error))?.to_bytes();
        Ok((head.status, Message { headers: head.headers, body }))
    })
    .await?;
    serving.abort();
    let request = seen.lock().expect("nobody panics with it").take();
    Ok(Run { request, status, answer })
}

/// Sends everything to one place that speaks as the client does, whose answer is what was recorded; once, and records nothing.
fn redirect(config: &mut Config, base: &str, dialect: Dialect) -> Result<(), String> {
    let base: http::Uri = base.parse().map_err(|error| format!("`{base}`: {error}"))?;
    for upstream in &mut config.upstreams {
        upstream.target = Target::Http(base.clone());
        (upstream.dialect, upstream.has_responses) = (dialect, true);
        upstream.api_key = None;
        upstream.api_keys.clear();
        upstream.forwards_caller_key = false;
        upstream.tls = UpstreamTls::default();
    }
    config.retry.attempts_max = 1;
    config.audit.is_enabled = false;
    config.server.tls = None;
    Ok(())
}

/// What the upstream answers.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl Reply {
    fn of(stored: &Stored, answer: &str) -> Self {
        let status = stored.status.and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default();
        let events =
            stored.endpoint.filter(|_| stored.is_stream).and_then(|endpoint| stream_of(endpoint, answer));
        let as_it_is =
            |content_type| Self { status, content_type, body: Bytes::copy_from_slice(answer.as_bytes()) };
        match events {
            None if stored.answer_kind() == Kind::EventStream => as_it_is("text/event-stream"),
            None => as_it_is("application/json"),
            Some(events) => Self { status, content_type: "text/event-stream", body: events.concat().into() },
        }
    }
}

/// Answers until it is stopped, and keeps the first request.
async fn serve(listener: TcpListener, reply: Arc<Reply>, seen: Arc<Mutex<Option<Message>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (reply, seen) = (reply.clone(), seen.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, &reply, &seen));
            // A gateway that leaves is none of its business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    reply: &Reply,
    seen: &Mutex<Option<Message>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    seen.lock().expect("nobody panics with it").get_or_insert(Message { headers: head.headers, body });
    let mut response = Response::new(Full::from(reply.body.clone()));
    *response.status_mut() = reply.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_upstream_is_told_in_secret_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        let text = "upstreams: [{ name: a, base_url: 'builtin:echo', headers: { x-api-key: k1, x-team: '${TEAM}', x-kind: plain } }]\n";
        std::fs::write(&file, text).unwrap();
        let environment = Environment::from_iter([("TEAM", "k2")]);
        let (config, _) = config::load(&Origin::File(file), &environment, &Overrides::default()).unwrap();
        let mut headers: HeaderMap = config.upstreams[0].headers.iter().cloned().collect();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer k3"));
        headers.insert("x-goog-api-key", HeaderValue::from_static("k4"));
        assert_eq!(
            header_lines(&headers, &secret_headers(&config)),
            "x-api-key: ***\nx-goog-api-key: ***\nx-kind: plain\nx-team: ***\n"
        );
    }
}
