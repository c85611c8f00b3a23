//! The operators' side: what the gateway runs with, and how to make it read its configuration again.
//!
//! A page in an operator's browser can reach loopback too, so the listener answers only to its own names, and takes
//! what changes something only as JSON and from its own origin.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::config::secret::Secret;
use crate::config::{ErrorCompat, Server};
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::{Exchange, REQUEST_ID};
use crate::gateway::{Gateway, caught, defect, error_response, json_headers, own_response};
use crate::health::Page;
use crate::snapshot::Snapshot;
use crate::stream::Body;

/// Answers one request to the admin listener. Never fails: every error is a response, and a panic is a 500.
pub(crate) async fn handle(
    gateway: &Arc<Gateway>,
    request: Request<Incoming>,
    client: IpAddr,
) -> Response<Body> {
    let mut exchange = Box::new(Exchange::begin(&request, client, &gateway.activity));
    exchange.endpoint = "admin";
    let id = exchange.id.clone();
    let (head, _) = request.into_parts();
    let answered = caught(pin!(respond(gateway, &head))).await;
    let mut response = match answered.unwrap_or_else(|| Err(defect())) {
        Ok((status, headers, body)) => own_response(status, headers, body, exchange),
        Err(error) => error_response(error, ErrorCompat::OpenAi, false, exchange),
    };
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

async fn respond(gateway: &Arc<Gateway>, head: &request::Parts) -> Result<(StatusCode, HeaderMap, Bytes)> {
    let snapshot = gateway.snapshots.current();
    let server = &snapshot.config.server;
    check_host(head, server, gateway)?;
    let path = head.uri.path();
    // These tell nothing that needs a token, and go on while the main listener is closed already.
    if let Some(page @ (Page::Alive | Page::Ready)) = Page::of(path) {
        only(&Method::GET, head)?;
        return Ok(page.render(&snapshot, gateway));
    }
    check_token(head, server.admin_token.as_ref())?;
    match path {
        "/admin/config" => {
            only(&Method::GET, head)?;
            let document = json!({
                "config": snapshot.config.redacted(),
                "last_reload": gateway.reloader.describe(),
            });
            Ok(json_answer(StatusCode::OK, &document))
        }
        "/admin/reload" => {
            only(&Method::POST, head)?;
            check_writer(head)?;
            Ok(match gateway.reloader.reload(gateway).await {
                Ok(has_changed) => json_answer(StatusCode::OK, &json!({"ok": true, "changed": has_changed})),
                Err(problems) => {
                    json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({"ok": false, "problems": problems}))
                }
            })
        }
        "/admin/plugins" => {
            only(&Method::GET, head)?;
            Ok(json_answer(StatusCode::OK, &plugins(&snapshot, gateway)))
        }
        "/admin/plugins/reload" => {
            only(&Method::POST, head)?;
            check_writer(head)?;
            Ok(match gateway.reloader.reload(gateway).await {
                Ok(has_changed) => {
                    let mut document = plugins(&gateway.snapshots.current(), gateway);
                    document["ok"] = json!(true);
                    document["changed"] = json!(has_changed);
                    json_answer(StatusCode::OK, &document)
                }
                Err(problems) => {
                    json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({"ok": false, "problems": problems}))
                }
            })
        }
        _ => Err(Error::new(ErrorKind::UnknownPath, format!("there is no path `{path}`"))),
    }
}

/// The plugins, in the order of the configuration, and the versions that are on their way out.
fn plugins(snapshot: &Snapshot, gateway: &Gateway) -> Value {
    let runtime = &gateway.reloader.plugins;
    let draining: Vec<Value> =
        runtime.draining(&snapshot.plugins).iter().map(|plugin| plugin.describe()).collect();
    let plugins: Vec<Value> = snapshot.plugins.plugins.iter().map(|plugin| plugin.describe()).collect();
    json!({"pool": runtime.pool_size(), "plugins": plugins, "draining": draining})
}

fn check_host(head: &request::Parts, server: &Server, gateway: &Gateway) -> Result<()> {
    let from_header = head.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let host = from_header.or_else(|| head.uri.authority().map(|authority| authority.as_str())).unwrap_or("");
    let bound = gateway.admin_address;
    let is_known = host == bound.to_string()
        || host == format!("localhost:{}", bound.port())
        || host == "localhost"
        || server.admin_hosts.iter().any(|allowed| allowed == host);
    if is_known {
        return Ok(());
    }
    let message = format!("`{host}` is not a name of this listener; add it to `server.admin_hosts`");
    Err(Error::new(ErrorKind::Misdirected, message))
}

fn check_token(head: &request::Parts, token: Option<&Secret>) -> Result<()> {
    let Some(token) = token else { return Ok(()) };
    let given = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
    if token.is_same_as(given) {
        return Ok(());
    }
    let message = "the admin listener wants `Authorization: Bearer` with `server.admin_token`";
    Err(Error::new(ErrorKind::Unauthenticated, message))
}

/// What changes something comes as JSON, which a foreign page cannot send without asking, and from no foreign page.
fn check_writer(head: &request::Parts) -> Result<()> {
    let content_type =
        head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !content_type.starts_with("application/json") {
        let message = "send `content-type: application/json`";
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    let text = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("");
    match text(header::ORIGIN) {
        Some(origin) if origin.split("://").nth(1) != Some(host) => {
            Err(Error::new(ErrorKind::Forbidden, "pages of other origins may not change anything here"))
        }
        _ => Ok(()),
    }
}

fn only(method: &Method, head: &request::Parts) -> Result<()> {
    if head.method == method {
        return Ok(());
    }
    let message = format!("`{}` is not allowed here, use {method}", head.method);
    Err(Error::new(ErrorKind::MethodNotAllowed(vec![method.clone()]), message))
}

fn json_answer(status: StatusCode, value: &Value) -> (StatusCode, HeaderMap, Bytes) {
    (status, json_headers(), value.to_string().into())
}
