//! Runs a plugin natively, in `cargo test`, and says what the client would see.
//!
//! A [`Kit`] makes the plugin from its configuration as the host does, plays one exchange, and calls the hooks in the
//! order in which the test calls them. What the plugin imports (log, metrics, kv, secrets) belongs to the test's thread.
//! Where the host would find a fault in what a hook returns, the kit panics.
//!
//! ```
//! use serde_json::json;
//! use witgate_sdk::testkit::Kit;
//! use witgate_sdk::{Call, Flow, Lanes, OnRequest, Opened, Out, Plugin, Rejection, StreamText, TextFilter};
//!
//! struct Polite;
//!
//! impl Plugin for Polite {
//!     type Config = ();
//!     fn new(_: ()) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl OnRequest for Polite {
//!     fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
//!         call.insert_message(0, "system", "Be polite.")?;
//!         Ok(Flow::Next)
//!     }
//! }
//!
//! /// Takes the exclamation marks away.
//! struct Calm;
//!
//! impl TextFilter for Calm {
//!     fn push(&mut self, text: &str, out: &mut Out) {
//!         out.push_str(&text.replace('!', ""));
//!     }
//!     fn finish(&mut self, _: &mut Out) {}
//! }
//!
//! impl StreamText for Polite {
//!     type Stream = Lanes<Calm>;
//!     fn open(&self, _: &Call) -> Option<Opened<Self::Stream>> {
//!         Some(Opened::new(Lanes::new(|_| Calm)))
//!     }
//! }
//!
//! let kit = Kit::<Polite>::new(json!({})).request(json!({"messages": [{"role": "user", "content": "Hi"}]}));
//! kit.on_request().unwrap();
//! assert_eq!(kit.call().messages().len(), 2);
//! kit.every_split("Hello!!", |seen| assert_eq!(seen.content(), "Hello"));
//! ```

pub(crate) mod call;
mod document;
mod event;
pub(crate) mod host;
mod messages;
mod record;
mod schema;
mod text;
mod wake;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::log::Level;
use crate::wit::witgate::plugin::metrics::Kind;
use crate::{
    AuditRecord, Authenticate, Call, Candidate, Config, ErrorFlow, Failure, Flow, Head, Hint, Labels,
    OnComplete, OnError, OnRequest, OnResponse, OnRoute, OnTick, OnUpstreamRequest, Plugin, Principal,
    Rejection, ResponseFlow, SyntheticResponse, UpstreamFlow, Usage,
};
use call::Exchange;
use host::{World, set_world, world};

pub use event::SeenEvents;
pub use record::{candidate, failure, record};
pub use text::{Seen, batch};

/// A plugin and one exchange.
pub struct Kit<P> {
    plugin: P,
    call: Call,
    method: String,
    path: String,
    client_ip: String,
    status: u16,
}

/// What the operator grants, for [`Kit::granted`].
#[derive(Default)]
pub struct Grants {
    secrets: BTreeMap<String, String>,
    kv_bytes_max: Option<usize>,
    #[cfg(feature = "http")]
    server: Option<host::Server>,
}

impl Grants {
    /// Grants `kv` without a bound, metrics, no secret, and no other server.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants a secret.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.secrets.insert(name.into(), value.into());
        self
    }

    /// Bounds the bytes of all keys and values of `kv`; with 0 it is denied.
    #[must_use]
    pub fn kv_bytes_max(mut self, bytes: usize) -> Self {
        self.kv_bytes_max = Some(bytes);
        self
    }

    /// Answers requests to other servers; without it they are denied.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(
        mut self,
        server: impl Fn(&crate::http::Request) -> Result<crate::http::Response, crate::http::Error> + 'static,
    ) -> Self {
        self.server = Some(std::rc::Rc::new(server));
        self
    }
}

/// How an exchange is made, before its hooks are called.
impl<P: Plugin> Kit<P> {
    /// Makes the plugin from its configuration, and an exchange with an empty chat request.
    ///
    /// # Panics
    ///
    /// If the plugin refuses the configuration; see [`Kit::try_new`].
    #[track_caller]
    pub fn new(config: Value) -> Self {
        Self::granted(Grants::new(), config)
            .unwrap_or_else(|message| panic!("the plugin is refused: {message}"))
    }

    /// Makes the plugin from its configuration.
    ///
    /// # Errors
    ///
    /// The message that the operator would read.
    pub fn try_new(config: Value) -> Result<Self, String> {
        Self::granted(Grants::new(), config)
    }

    /// Makes the plugin from its configuration, with these grants, and holds the configuration against its schema. What an earlier kit of the thread logged, measured and
    /// stored is gone.
    ///
    /// # Errors
    ///
    /// The message that the operator would read.
    pub fn granted(grants: Grants, config: Value) -> Result<Self, String> {
        set_world(World {
            secrets: grants.secrets,
            kv_bytes_max: grants.kv_bytes_max,
            #[cfg(feature = "http")]
            server: grants.server,
            ..World::default()
        });
        let plugin = P::new(P::Config::from_json(&config.to_string())?)?;
        // The host asks the schema first; here it comes last, so that tests see the plugin's own words.
        let config = if config.is_null() { Value::Object(Map::new()) } else { config };
        schema::check(&Self::schema(), &config)?;
        let kit = Self {
            plugin,
            call: Call { exchange: RefCell::new(Exchange::new()) },
            method: "POST".to_owned(),
            path: "/v1/chat/completions".to_owned(),
            client_ip: "192.0.2.1".to_owned(),
            status: 200,
        };
        Ok(kit.request(serde_json::json!({"model": "model", "messages": []})))
    }

    /// Returns the JSON Schema of the configuration, as it rides in the component.
    ///
    /// # Panics
    ///
    /// If an attribute `#[config(schema)]` is no JSON.
    pub fn schema() -> Value {
        let json = text_of(crate::glue::schema::<P::Config>());
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("the schema is no JSON: {error}: {json}"))
    }

    /// Sets the request's document; its `model` and `stream` are those of the exchange.
    #[must_use]
    pub fn request(self, document: Value) -> Self {
        self.with(|exchange| {
            exchange.model = document["model"].as_str().unwrap_or_default().to_owned();
            exchange.is_stream = document["stream"] == true;
            exchange.document = Some(document);
        })
    }

    /// Sets the upstream's answer: from now on document and headers are the answer's, none yet.
    #[must_use]
    pub fn response(mut self, status: u16, document: Value) -> Self {
        self.status = status;
        self.with(|exchange| {
            exchange.headers.clear();
            exchange.is_answer = true;
            exchange.document = Some(document);
        })
    }

    /// Takes the document away: a form, opaque bytes, or the head of a stream.
    #[must_use]
    pub fn without_document(self) -> Self {
        self.with(|exchange| exchange.document = None)
    }

    /// Adds a header: of the request, or of the answer if there is one.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|exchange| exchange.headers.push((name.to_ascii_lowercase(), value.to_owned())))
    }

    /// Shows credentials to the hooks, as `allow.credentials` does.
    #[must_use]
    pub fn with_credentials(self) -> Self {
        self.with(|exchange| exchange.shows_credentials = true)
    }

    /// Sets method, path and query; `POST /v1/chat/completions` unless it is called.
    #[must_use]
    pub fn path(mut self, method: &str, path: &str) -> Self {
        (self.method, self.path) = (method.to_owned(), path.to_owned());
        self
    }

    /// Sets the client's address; `192.0.2.1` unless it is called.
    #[must_use]
    pub fn client_ip(mut self, address: &str) -> Self {
        self.client_ip = address.to_owned();
        self
    }

    /// Sets the exchange's id; `test` unless it is called.
    #[must_use]
    pub fn id(self, id: &str) -> Self {
        self.with(|exchange| exchange.id = id.to_owned())
    }

    /// Sets the caller's tenant.
    #[must_use]
    pub fn tenant(self, tenant: &str) -> Self {
        self.with(|exchange| exchange.tenant = Some(tenant.to_owned()))
    }

    /// Sets the operation; `chat.completions` unless it is called.
    #[must_use]
    pub fn operation(self, operation: &str) -> Self {
        self.with(|exchange| exchange.operation = operation.to_owned())
    }

    /// Sets the upstream and the number of the attempt, from 1.
    #[must_use]
    pub fn upstream(self, name: &str, attempt: u32) -> Self {
        self.with(|exchange| (exchange.upstream, exchange.attempt) = (Some(name.to_owned()), attempt))
    }

    /// Sets the tokens.
    #[must_use]
    pub fn usage(self, usage: Usage) -> Self {
        self.with(|exchange| exchange.usage = Some(usage))
    }

    /// Sets how long ago the exchange began.
    #[must_use]
    pub fn elapsed(self, elapsed: Duration) -> Self {
        self.with(|exchange| exchange.elapsed_us = elapsed.as_micros() as u64)
    }

    fn with<R>(self, change: impl FnOnce(&mut Exchange) -> R) -> Self {
        change(&mut self.call.exchange.borrow_mut());
        self
    }
}

/// What the hooks left behind.
impl<P> Kit<P> {
    /// Returns the plugin.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }

    /// Returns the call, with its getters.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Returns the document as the host would send it now; `null` if there is none.
    pub fn document(&self) -> Value {
        self.call.exchange.borrow().document.clone().unwrap_or_default()
    }

    /// Returns the labels that the exchange was given.
    pub fn tags(&self) -> BTreeMap<String, String> {
        self.call.exchange.borrow().tags.clone()
    }

    /// Returns the lines that the plugin wrote.
    pub fn log(&self) -> Vec<LogLine> {
        world(|world| world.lines.clone())
    }

    /// Returns a metric that the plugin declared.
    pub fn metric(&self, name: &str) -> Option<Metric> {
        world(|world| world.metrics.iter().find(|metric| metric.name == name).cloned())
    }

    /// Returns the requests to other servers.
    #[cfg(feature = "http")]
    pub fn requests(&self) -> Vec<crate::http::Request> {
        world(|world| world.requests.clone())
    }

    /// Sets a value of `kv`, for ever.
    pub fn set_value(&self, key: &str, value: impl AsRef<[u8]>) {
        host::kv::set(key, value.as_ref(), None).expect("the value is within the grant");
    }

    /// Returns a value of `kv`.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        host::kv::get(key).expect("reading always works")
    }

    /// Lets time pass for the values of `kv`.
    pub fn advance(&self, time: Duration) {
        world(|world| world.now_ms += time.as_millis() as u64);
    }
}

impl<P: Authenticate> Kit<P> {
    /// Calls the hook with the head of the request, credentials included.
    ///
    /// # Errors
    ///
    /// The plugin's refusal.
    pub fn authenticate(&self) -> Result<Option<Principal>, Rejection> {
        let head = Head {
            method: self.method.clone(),
            path: self.path.clone(),
            headers: self.call.exchange.borrow().headers.clone(),
            client_ip: self.client_ip.clone(),
        };
        let result = self.plugin.authenticate(&head).map_err(valid);
        if let Ok(Some(principal)) = &result {
            self.call.exchange.borrow_mut().tenant.clone_from(&principal.tenant);
        }
        result
    }
}

impl<P: OnRequest> Kit<P> {
    /// Calls the hook. Edits stay if it returns `Ok`.
    ///
    /// # Errors
    ///
    /// The plugin's refusal.
    pub fn on_request(&self) -> Result<Flow, Rejection> {
        let flow = self.commit(|| self.plugin.on_request(&self.call))?;
        if let Flow::Respond(response) = &flow {
            check_response(response);
        }
        Ok(flow)
    }
}

impl<P: OnRoute> Kit<P> {
    /// Calls the hook with these candidates; see [`candidate`].
    ///
    /// # Errors
    ///
    /// The plugin's refusal.
    pub fn on_route(&self, candidates: &[Candidate]) -> Result<Hint, Rejection> {
        self.commit(|| self.plugin.on_route(&self.call, candidates))
    }
}

impl<P: OnUpstreamRequest> Kit<P> {
    /// Calls the hook. Edits stay if it returns `Ok`.
    ///
    /// # Errors
    ///
    /// The plugin's refusal.
    pub fn on_upstream_request(&self) -> Result<UpstreamFlow, Rejection> {
        self.commit(|| self.plugin.on_upstream_request(&self.call))
    }
}

impl<P: OnResponse> Kit<P> {
    /// Calls the hook with the status that [`Kit::response`] set. Edits stay if it returns `Ok`.
    ///
    /// # Errors
    ///
    /// The plugin's refusal.
    pub fn on_response(&self) -> Result<ResponseFlow, Rejection> {
        let flow = self.commit(|| self.plugin.on_response(&self.call, self.status))?;
        if let ResponseFlow::Respond(response) = &flow {
            check_response(response);
        }
        Ok(flow)
    }
}

impl<P: OnError> Kit<P> {
    /// Calls the hook; see [`failure`].
    ///
    /// # Errors
    ///
    /// The plugin's refusal.
    pub fn on_error(&self, failure: &Failure) -> Result<ErrorFlow, Rejection> {
        let flow = self.commit(|| self.plugin.on_error(&self.call, failure))?;
        if let ErrorFlow::Respond(response) = &flow {
            check_response(response);
        }
        Ok(flow)
    }
}

impl<P: OnComplete> Kit<P> {
    /// Calls the hook with these exchanges; see [`record`].
    ///
    /// # Errors
    ///
    /// The plugin's message, which asks for the batch again.
    pub fn on_complete(&self, batch: Vec<AuditRecord>) -> Result<Vec<(String, Labels)>, String> {
        self.plugin.on_complete(batch)
    }
}

impl<P: OnTick> Kit<P> {
    /// Calls the hook with a time, in milliseconds since 1970.
    pub fn on_tick(&self, now_unix_ms: u64) {
        self.plugin.on_tick(now_unix_ms);
    }
}

impl<P> Kit<P> {
    /// Runs a hook; its edits are undone if it refuses.
    fn commit<T>(&self, hook: impl FnOnce() -> Result<T, Rejection>) -> Result<T, Rejection> {
        let before = self.call.exchange.borrow().clone();
        let result = hook();
        let mut exchange = self.call.exchange.borrow_mut();
        if result.is_ok() {
            exchange.commit();
        } else {
            (exchange.document, exchange.headers) = (before.document, before.headers);
        }
        result.map_err(valid)
    }
}

/// Passes a rejection on that the host takes.
fn valid(rejection: Rejection) -> Rejection {
    let Rejection { status, headers, .. } = &rejection;
    assert!(
        (400..=599).contains(status),
        "fault `invalid-output`: a rejection's status is 400 to 599, not {status}"
    );
    check_headers(headers);
    rejection
}

fn check_response(response: &SyntheticResponse) {
    let status = response.status;
    assert!(
        (200..=599).contains(&status),
        "fault `invalid-output`: an answer's status is 200 to 599, not {status}"
    );
    check_headers(&response.headers);
}

fn check_headers(headers: &[(String, String)]) {
    for (name, value) in headers {
        if let Err(message) = call::check_header(name, value) {
            panic!("fault `invalid-output`: {message}");
        }
    }
}

fn text_of(parts: &[crate::glue::Part]) -> String {
    parts
        .iter()
        .map(|part| match part {
            crate::glue::Part::Text(text) => (*text).to_owned(),
            crate::glue::Part::Nested(parts) => text_of(parts),
        })
        .collect()
}

/// A line that the plugin wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// Its fields.
    pub fields: Vec<(String, String)>,
}

/// A metric that the plugin declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What was recorded: label values and value, in order.
    pub values: Vec<(Vec<String>, f64)>,
}

impl Metric {
    /// Returns the sum of what was recorded for one combination of label values.
    pub fn sum(&self, label_values: &[&str]) -> f64 {
        self.values.iter().filter(|(values, _)| values == label_values).map(|(_, value)| value).sum()
    }
}
