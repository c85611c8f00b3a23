//! The operators' side: what the gateway runs with and what goes on in it, and the little that can be changed at run
//! time. `admin/openapi.json` describes it; a test holds that description against [`ROUTES`].
//!
//! A page in an operator's browser can reach loopback too, so the listener answers only to its own names, and takes
//! what changes something only as JSON and from its own origin.

pub(crate) mod audit;
mod explain;
mod guard;
mod page;
mod parameters;
mod upstreams;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::admin::guard::{check_host, check_token, check_writer};
use crate::admin::parameters::{Query, object, unknown_field};
use crate::config::ErrorCompat;
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::{Aside, Exchange, REQUEST_ID};
use crate::gateway::{Gateway, caught, defect, error_response, json_headers, own_response};
use crate::health;
use crate::metrics;
use crate::snapshot::Snapshot;
use crate::stream::Body;

/// Everything the listener answers to.
const ROUTES: &[Route] = &[
    Route::get("/", Operation::Page),
    Route::get("/page.js", Operation::Page),
    Route::get("/page.css", Operation::Page),
    Route::get("/healthz", Operation::Alive),
    Route::get("/readyz", Operation::Ready),
    Route::get("/stats", Operation::Stats),
    Route::get("/metrics", Operation::Metrics),
    Route::get("/admin/config", Operation::Config),
    Route::post("/admin/reload", Operation::Reload),
    Route::get("/admin/upstreams", Operation::Upstreams),
    Route::post("/admin/upstreams/{name}", Operation::Adjust),
    Route::get("/admin/plugins", Operation::Plugins),
    Route::post("/admin/plugins/reload", Operation::ReloadPlugins),
    Route::get("/admin/limits", Operation::Limits),
    Route::get("/admin/audit", Operation::Audit),
    Route::get("/admin/audit/{id}", Operation::Exchange),
    Route::get("/admin/explain", Operation::ExplainText),
    Route::post("/admin/explain", Operation::ExplainBody),
    Route::get("/admin/openapi.json", Operation::Describe),
];

/// What each of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Page,
    Alive,
    Ready,
    Stats,
    Metrics,
    Config,
    Reload,
    Upstreams,
    Adjust,
    Plugins,
    ReloadPlugins,
    Limits,
    Audit,
    Exchange,
    ExplainText,
    ExplainBody,
    Describe,
}

/// One path and method. Where GET is, HEAD is too.
struct Route {
    method: Method,
    /// May end with a name in braces, which stands for one segment.
    path: &'static str,
    operation: Operation,
}

/// What a request asks for.
struct Call {
    operation: Operation,
    head: request::Parts,
    /// What stands in the path for the name in braces; empty where there is none.
    name: String,
    query: Query,
    body: Bytes,
}

/// An answer that is not an error.
type Answer = (StatusCode, HeaderMap, Bytes);

/// The largest body of a request that changes something, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The largest body of a request that is to be explained, in bytes.
const EXPLAINED_BYTES_MAX: usize = 1 << 20;
/// The description of this listener.
const OPENAPI: &[u8] = include_bytes!("admin/openapi.json");

/// Answers one request to the admin listener. Never fails: every error is a response, and a panic is a 500.
pub(crate) async fn handle(
    gateway: &Arc<Gateway>,
    request: Request<Incoming>,
    client: IpAddr,
) -> Response<Body> {
    let mut exchange = Box::new(Exchange::begin(&request, client, &gateway.activity));
    exchange.pass_by(Aside::Admin);
    let id = exchange.id.clone();
    let is_head = request.method() == Method::HEAD;
    let answered = caught(pin!(respond(gateway, request))).await;
    let mut response = match answered.unwrap_or_else(|| Err(defect())) {
        Ok((status, headers, body)) => own_response(status, headers, body, exchange),
        Err(error) => error_response(error, ErrorCompat::OpenAi, false, exchange),
    };
    if is_head {
        response.body_mut().forgo();
    }
    let status = response.status();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json") {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

async fn respond(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Result<Answer> {
    let snapshot = gateway.snapshots.current();
    let server = &snapshot.config.server;
    let (head, body) = request.into_parts();
    check_host(&head, server, gateway.admin_address)?;
    let found = find(head.uri.path(), &head.method);
    // Without the token nobody learns which paths there are.
    if !found.as_ref().is_ok_and(|(route, _)| route.operation.is_open()) {
        check_token(&head, server.admin_token.as_ref())?;
    }
    let (route, name) = found?;
    let operation = route.operation;
    let query = Query::parse(head.uri.query())?;
    if !operation.takes_any_query() {
        query.finish()?;
    }
    let body = if route.method == Method::POST {
        check_writer(&head)?;
        parameters::body(body, operation.body_bytes_max()).await?
    } else {
        Bytes::new()
    };
    let name = parameters::name(name)?;
    perform(gateway, &snapshot, Call { operation, head, name, query, body }).await
}

async fn perform(gateway: &Arc<Gateway>, snapshot: &Snapshot, call: Call) -> Result<Answer> {
    let Call { operation, head, name, query, body } = call;
    let audit = &snapshot.config.audit;
    let document = match operation {
        Operation::Page => return page::answer(head.uri.path(), &head.headers).ok_or_else(defect),
        Operation::Alive => return Ok(health::Page::Alive.render(snapshot, gateway)),
        Operation::Ready => return Ok(health::Page::Ready.render(snapshot, gateway)),
        Operation::Metrics => return metrics::answer(gateway, &head.headers).await,
        Operation::Audit => return Ok(json_bytes(gateway.searches.list(audit, query).await?)),
        Operation::Exchange => return Ok(json_bytes(gateway.searches.get(audit, name).await?)),
        Operation::Describe => return Ok(json_bytes(Bytes::from_static(OPENAPI))),
        Operation::Reload => return reload(gateway, &body, |_| json!({})).await,
        Operation::ReloadPlugins => return reload(gateway, &body, plugins).await,
        Operation::Stats => metrics::stats(gateway),
        Operation::Config => config(snapshot, gateway),
        Operation::Plugins => plugins(gateway),
        Operation::Limits => limits(gateway).await?,
        Operation::Upstreams => upstreams::list(snapshot),
        Operation::Adjust => upstreams::adjust(gateway, &name, &body).await?,
        Operation::ExplainText => explain::of_text(snapshot, query)?,
        Operation::ExplainBody => explain::of_body(snapshot, query, body)?,
    };
    Ok(json_answer(StatusCode::OK, &document))
}

impl Operation {
    /// Whether anybody may have it: what tells nothing that needs a token.
    fn is_open(self) -> bool {
        matches!(self, Self::Page | Self::Alive | Self::Ready)
    }

    /// Whether it looks at the query itself, or does not mind one.
    fn takes_any_query(self) -> bool {
        self.is_open() || matches!(self, Self::Audit | Self::ExplainText | Self::ExplainBody)
    }

    fn body_bytes_max(self) -> usize {
        if self == Self::ExplainBody { EXPLAINED_BYTES_MAX } else { BODY_BYTES_MAX }
    }
}

impl Route {
    const fn get(path: &'static str, operation: Operation) -> Self {
        Self { method: Method::GET, path, operation }
    }

    const fn post(path: &'static str, operation: Operation) -> Self {
        Self { method: Method::POST, path, operation }
    }

    /// What stands in `path` for the name in braces, if the path is this route's.
    fn name_in<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.path.split_once('{') {
            None => (path == self.path).then_some(""),
            Some((before, _)) => {
                path.strip_prefix(before).filter(|name| !name.is_empty() && !name.contains('/'))
            }
        }
    }
}

/// The route of a path and a method, and the name in the path.
fn find<'a>(path: &'a str, method: &Method) -> Result<(&'static Route, &'a str)> {
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for route in ROUTES {
        match route.name_in(path) {
            Some(name) if route.method == wanted => return Ok((route, name)),
            Some(_) => allowed.push(route.method.clone()),
            None => {}
        }
    }
    if allowed.is_empty() {
        return Err(Error::new(ErrorKind::UnknownPath, format!("there is no path `{path}`")));
    }
    if allowed.contains(&Method::GET) {
        allowed.push(Method::HEAD);
    }
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let message = format!("`{method}` is not allowed here, use {}", names.join(" or "));
    Err(Error::new(ErrorKind::MethodNotAllowed(allowed), message))
}

fn config(snapshot: &Snapshot, gateway: &Gateway) -> Value {
    json!({
        "config": snapshot.config.redacted(),
        "last_reload": gateway.reloader.describe(),
    })
}

/// Reads the configuration again, and says what came of it, together with what `describe` shows.
async fn reload(gateway: &Arc<Gateway>, body: &[u8], describe: fn(&Gateway) -> Value) -> Result<Answer> {
    if let Some(name) = object(body)?.keys().next() {
        return Err(unknown_field(name));
    }
    Ok(match gateway.reloader.reload(gateway).await {
        Ok(has_changed) => {
            let mut document = describe(gateway);
            document["ok"] = json!(true);
            document["changed"] = json!(has_changed);
            json_answer(StatusCode::OK, &document)
        }
        Err(problems) => {
            json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({"ok": false, "problems": problems}))
        }
    })
}

/// The plugins, in the order of the configuration, and the versions that are on their way out.
fn plugins(gateway: &Gateway) -> Value {
    let (snapshot, runtime) = (gateway.snapshots.current(), &gateway.reloader.plugins);
    let draining: Vec<Value> =
        runtime.draining(&snapshot.plugins).iter().map(|plugin| plugin.describe()).collect();
    let plugins: Vec<Value> = snapshot.plugins.plugins.iter().map(|plugin| plugin.describe()).collect();
    json!({"pool": runtime.pool_size(), "plugins": plugins, "draining": draining})
}

/// What is used of the limits. It may be much, which is sorted on a thread that serves nobody.
async fn limits(gateway: &Gateway) -> Result<Value> {
    let limits = gateway.limits.clone();
    tokio::task::spawn_blocking(move || limits.describe()).await.map_err(|_| defect())
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    (status, json_headers(), value.to_string().into())
}

fn json_bytes(document: Bytes) -> Answer {
    (StatusCode::OK, json_headers(), document)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn description() -> Value {
        serde_json::from_slice(OPENAPI).unwrap()
    }

    /// What is described, as `GET /path`.
    fn described() -> BTreeSet<String> {
        let description = description();
        let paths = description["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods
                .filter(|key| *key != "parameters")
                .map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        operations.collect()
    }

    #[test]
    fn what_there_is_is_described_and_the_other_way_round() {
        let routes: BTreeSet<String> =
            ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(routes, described());
        assert_eq!(routes.len(), ROUTES.len(), "no route is there twice");
    }

    #[test]
    fn the_description_has_this_version_and_names_who_needs_the_token() {
        let description = description();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        for route in ROUTES {
            let operation = &description["paths"][route.path][route.method.as_str().to_lowercase()];
            let is_open = operation["security"] == json!([]);
            assert_eq!(is_open, route.operation.is_open(), "{}", route.path);
            let has_body = operation.get("requestBody").is_some();
            assert_eq!(has_body, route.method == Method::POST, "{}", route.path);
        }
    }

    #[track_caller]
    fn check(method: &Method, path: &str, expected: Result<(Operation, &str), &str>) {
        match (find(path, method), expected) {
            (Ok((route, name)), Ok(expected)) => assert_eq!((route.operation, name), expected, "{path}"),
            (Err(error), Err(message)) => assert!(error.message.contains(message), "{path}: {error}"),
            (Ok(_), Err(_)) => panic!("{method} {path} is found"),
            (Err(error), Ok(_)) => panic!("{method} {path}: {error}"),
        }
    }

    #[test]
    fn a_route_is_found_by_path_and_method() {
        check(&Method::GET, "/admin/upstreams", Ok((Operation::Upstreams, "")));
        check(&Method::HEAD, "/admin/upstreams", Ok((Operation::Upstreams, "")));
        check(&Method::POST, "/admin/upstreams/a%2Fb", Ok((Operation::Adjust, "a%2Fb")));
        check(&Method::POST, "/admin/explain", Ok((Operation::ExplainBody, "")));
        check(&Method::POST, "/admin/plugins/reload", Ok((Operation::ReloadPlugins, "")));
        check(&Method::GET, "/admin/upstreams/", Err("no path"));
        check(&Method::POST, "/admin/upstreams/a/b", Err("no path"));
        check(&Method::GET, "/admin/configs", Err("no path"));
        check(&Method::POST, "/admin/upstreams", Err("use GET or HEAD"));
        check(&Method::DELETE, "/admin/explain", Err("use GET or POST or HEAD"));
        check(&Method::HEAD, "/admin/reload", Err("use POST"));
    }
}
