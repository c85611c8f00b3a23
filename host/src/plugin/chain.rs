//! The plugins of one exchange: in the order of the configuration on the way in, in reverse on the way out.
//!
//! A plugin's instance is made at its first hook and kept to its last. Each hook has the same shape: the exchange is lent
//! to the instance as a [`Call`], the call is bounded, and what comes back is edits and an outcome, or a miss, which the
//! operator's `on_fault` decides about.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Refusal, Result};
use crate::exchange::{Exchange, Tags};
use crate::headers;
use crate::plugin::bindings::hooks;
use crate::plugin::bindings::imports::types;
use crate::plugin::call::{Attrs, Call, Edited, Facts};
use crate::plugin::fault::Fault;
use crate::plugin::hook::{Hook, Hooks};
use crate::plugin::instance::Instance;
use crate::plugin::load::Loaded;
use crate::plugin::quarantine::Admission;
use crate::plugin::{Miss, Owner, Plugin};
use crate::wire::Endpoint;
use crate::wire::document::Document;
use crate::wire::messages;
use crate::wire::request;

/// How long a client should wait for a plugin that is full or quarantined.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The plugins of one exchange.
#[derive(Default)]
pub(crate) struct Chain {
    pub(super) links: Vec<Link>,
    /// The hooks that any of them has.
    hooks: Hooks,
    pub(super) tags: Tags,
    /// The time that plugins took which have no part any more.
    ended: Vec<(Arc<str>, Duration)>,
}

/// One plugin in one exchange.
pub(super) struct Link {
    pub(super) plugin: Arc<Plugin>,
    pub(super) instance: Option<Instance>,
    attrs: Attrs,
    owner: Owner,
    /// Time spent in it.
    pub(super) took: Duration,
    /// Whether it takes part, once that was asked.
    admission: Option<Admission>,
    /// What the plugin made for streams and has not been dropped: an instance that has such is not used again.
    pub(super) streams_open: u32,
    /// Whether a call returned.
    has_returned: bool,
    /// Whether a call broke.
    has_broken: bool,
}

/// A message as plugins see and edit it.
pub(crate) struct View {
    pub(crate) facts: Arc<Facts>,
    pub(crate) model: Arc<str>,
    pub(crate) headers: HeaderMap,
    pub(crate) document: Option<Document>,
    /// Whose words the document is in: the client's endpoint, or that at which an upstream is asked.
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) attempt: u32,
    pub(crate) upstream: Option<Arc<str>>,
    pub(crate) usage: Option<crate::chat::Usage>,
    /// The client's request, where the message is one; it knows what its path said.
    pub(crate) original: Option<request::Request>,
    /// The request that the plugins made of it, if they edited it.
    pub(crate) request: Option<request::Request>,
}

/// What becomes of a message.
pub(crate) enum Flow {
    /// It goes on, with these edits.
    Next(Edited),
    /// This is the answer.
    Respond(Synthetic),
    /// Another candidate is to be tried; why, for the log.
    MoveOn(String),
}

/// An answer by a plugin.
pub(crate) struct Synthetic {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What becomes of a failure.
pub(crate) enum Remedy {
    /// What would happen anyway.
    Next,
    /// Another candidate is tried.
    Retry,
    /// This upstream or model is tried.
    Fallback(String),
    /// This is the answer.
    Respond(Synthetic),
}

/// Who is calling, as a plugin says.
pub(crate) struct Principal {
    pub(crate) name: String,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) key: Option<Arc<str>>,
}

pub(crate) use hooks::on_error::Failure;
pub(crate) use hooks::on_route::Candidate;

/// Calls a hook of one plugin with the exchange lent to it; gives the exchange back, with edits only if it returned, and
/// what it returned, made sense of.
macro_rules! call_hook {
    ($link:expr, $hook:ident, $module:ident . $method:ident, $call:ident, $read:expr $(, $argument:expr)*) => {{
        let link: &mut Link = $link;
        let started = Instant::now();
        let plugin = link.plugin.clone();
        link.dress(&mut $call);
        let mut outcome = Err(Miss::Capacity);
        match link.ready().await {
            Err(miss) => outcome = Err(miss),
            Ok(instance) => {
                let bounds = plugin.bounds();
                let size = $call.document.as_ref().map_or(0, |document| document.bytes().len());
                if let Some(indices) = &plugin.code.indices.$module {
                    outcome = match indices.load(&mut instance.store, &instance.inner) {
                        Err(error) => Err(Miss::Fault(Fault::invalid(format!("{error:#}")))),
                        Ok(guest) => {
                            let armed = instance.arm(&plugin, bounds, size);
                            let handle = instance.lend($call);
                            let returned =
                                armed.bounded(guest.$method(&mut instance.store, handle $(, $argument)*)).await;
                            let settled = instance.settle(returned, bounds);
                            $call = instance.take_call().expect("it was lent above, and nobody else takes it");
                            settled.and_then(|said| $read(said).map_err(Miss::Fault))
                        }
                    };
                }
            }
        }
        link.undress(&mut $call, outcome.is_ok());
        link.note(Hook::$hook, &outcome, started);
        outcome
    }};
}
pub(super) use call_hook;

impl Chain {
    /// The plugins of an exchange that begins; which of them match is known once its request is.
    pub(crate) fn begin(loaded: &Loaded) -> Self {
        let link = |plugin: &Arc<Plugin>| Link {
            plugin: plugin.clone(),
            instance: None,
            attrs: Attrs::default(),
            owner: Owner::default(),
            took: Duration::ZERO,
            admission: None,
            streams_open: 0,
            has_returned: false,
            has_broken: false,
        };
        Self {
            links: loaded.plugins.iter().map(link).collect(),
            hooks: loaded.hooks,
            tags: Tags::default(),
            ended: Vec::new(),
        }
    }

    /// Whether there is nothing to call.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether any plugin has a hook.
    pub(crate) fn has(&self, hook: Hook) -> bool {
        self.hooks.has(hook)
    }

    /// Keeps the plugins that match the request, from now to the end of the exchange.
    pub(crate) fn select(&mut self, facts: &Facts, model: &str, key: Option<&str>) {
        self.links
            .retain(|link| link.plugin.settings.matching.takes(facts.endpoint, model, key, facts.is_stream));
        for link in &mut self.links {
            if link.plugin.keeps_owners_apart() {
                // What it saw while it asked who is calling is not this caller's.
                link.let_go();
            }
            link.owner = Owner::Tenant(facts.tenant.clone());
        }
        self.update_hooks();
    }

    /// Leaves out the plugin at a place and those after it: an answer of its own passes only those before it.
    fn keep_before(&mut self, place: usize) {
        self.end_from(place);
        self.update_hooks();
    }

    fn end_from(&mut self, place: usize) {
        for link in self.links.drain(place..) {
            self.ended.push((link.plugin.settings.name.clone(), link.took));
        }
    }

    fn update_hooks(&mut self) {
        self.hooks = self.links.iter().map(|link| link.plugin.hooks()).fold(Hooks::default(), Hooks::union);
    }

    /// Where the plugins are that have a hook, in order.
    fn places(&self, hook: Hook) -> Vec<usize> {
        (0..self.links.len()).filter(|place| self.links[*place].plugin.hooks().has(hook)).collect()
    }

    /// Asks who is calling.
    ///
    /// # Errors
    ///
    /// A plugin's refusal, or its fault.
    pub(crate) async fn authenticate(
        &mut self,
        endpoint: Option<Endpoint>,
        head: &Parts,
        client: IpAddr,
    ) -> Result<Option<Principal>> {
        let request = hooks::authenticate::Head {
            method: head.method.to_string(),
            path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            headers: head
                .headers
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.as_str().to_owned(), std::str::from_utf8(value.as_bytes()).ok()?.to_owned()))
                })
                .collect(),
            client_ip: client.to_canonical().to_string(),
        };
        for place in self.places(Hook::Authenticate) {
            let link = &mut self.links[place];
            if !link.plugin.settings.matching.takes_endpoint(endpoint) {
                continue;
            }
            let started = Instant::now();
            let outcome = link.authenticate(&request).await;
            link.note(Hook::Authenticate, &outcome, started);
            if let Some(Some(principal)) = link.ruling(Hook::Authenticate, outcome)? {
                for (key, value) in principal.tags {
                    self.tags.set(key, value);
                }
                return Ok(Some(Principal {
                    name: principal.name,
                    tenant: principal.tenant.map(Arc::from),
                    key: principal.key.map(Arc::from),
                }));
            }
        }
        Ok(None)
    }

    /// Shows the request to the plugins.
    ///
    /// # Errors
    ///
    /// A plugin's refusal, or its fault.
    pub(crate) async fn on_request(&mut self, view: &mut View) -> Result<Flow> {
        let mut call = view.lend();
        let mut edited = Edited::default();
        for place in self.places(Hook::OnRequest) {
            let link = &mut self.links[place];
            let outcome = call_hook!(link, OnRequest, on_request.call_handle, call, read_on_request);
            // What is no request is a fault of the plugin that made it so.
            let checked = match outcome {
                Ok(Ok(Step::Next)) => check_request(&call, view),
                _ => Ok(()),
            };
            let stopped = match checked {
                Ok(()) => self.follow(Hook::OnRequest, place, &mut call, outcome, &mut edited),
                Err(fault) => {
                    self.links[place].made_invalid(Hook::OnRequest, &mut call, fault).map(|()| None)
                }
            };
            if let Some(flow) = stopped.transpose() {
                view.take_back(*call);
                return flow;
            }
        }
        view.take_back(*call);
        Ok(Flow::Next(edited))
    }

    /// Shows the candidates, best first; gives them in the order the plugins want, without those they do not.
    ///
    /// # Errors
    ///
    /// A plugin's refusal, or its fault.
    pub(crate) async fn on_route(&mut self, view: &mut View, candidates: &[Candidate]) -> Result<Vec<usize>> {
        let mut call = view.lend();
        call.is_read_only = true;
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        let mut ruled = Ok(None);
        for place in self.places(Hook::OnRoute) {
            let offered: Vec<Candidate> = order.iter().map(|index| candidates[*index].clone()).collect();
            let link = &mut self.links[place];
            let outcome = call_hook!(link, OnRoute, on_route.call_pick, call, read_hint, &offered);
            self.tags.extend(std::mem::take(&mut call.tags));
            ruled = self.links[place].ruling(Hook::OnRoute, outcome);
            match &ruled {
                Ok(Some(hint)) => hint.apply(candidates, &mut order),
                Ok(None) => {}
                Err(_) => break,
            }
        }
        view.take_back(*call);
        ruled.map(|_| order)
    }

    /// Shows the request to an upstream.
    ///
    /// # Errors
    ///
    /// A plugin's refusal, or its fault.
    pub(crate) async fn on_upstream_request(&mut self, view: &mut View) -> Result<Flow> {
        let mut call = view.lend();
        let mut edited = Edited::default();
        for place in self.places(Hook::OnUpstreamRequest) {
            let link = &mut self.links[place];
            let outcome = call_hook!(
                link,
                OnUpstreamRequest,
                on_upstream_request.call_handle,
                call,
                read_on_upstream_request
            );
            let stopped = self.follow(Hook::OnUpstreamRequest, place, &mut call, outcome, &mut edited);
            if let Some(flow) = stopped.transpose() {
                view.take_back(*call);
                return flow;
            }
        }
        view.take_back(*call);
        Ok(Flow::Next(edited))
    }

    /// Shows an upstream's answer, or the head of its stream.
    ///
    /// # Errors
    ///
    /// A plugin's refusal, or its fault.
    pub(crate) async fn on_response(&mut self, view: &mut View, status: StatusCode) -> Result<Flow> {
        let mut call = view.lend();
        call.has_messages = false;
        let mut edited = Edited::default();
        for place in self.places(Hook::OnResponse).into_iter().rev() {
            let link = &mut self.links[place];
            let outcome = call_hook!(
                link,
                OnResponse,
                on_response.call_handle,
                call,
                read_on_response,
                status.as_u16()
            );
            let stopped = self.follow(Hook::OnResponse, place, &mut call, outcome, &mut edited);
            if let Some(flow) = stopped.transpose() {
                view.take_back(*call);
                return flow;
            }
        }
        view.take_back(*call);
        Ok(Flow::Next(edited))
    }

    /// Takes over what a plugin made of a message; gives what ends the round, if it did.
    ///
    /// # Errors
    ///
    /// The plugin's refusal, or its fault.
    fn follow(
        &mut self,
        hook: Hook,
        place: usize,
        call: &mut Call,
        outcome: Result<Result<Step>, Miss>,
        edited: &mut Edited,
    ) -> Result<Option<Flow>> {
        self.tags.extend(std::mem::take(&mut call.tags));
        Ok(match self.links[place].ruling(hook, outcome)? {
            None => None,
            Some(Step::Next) => {
                *edited = edited.and(call.commit_and_follow());
                None
            }
            Some(Step::Respond(answer)) => {
                self.keep_before(place);
                Some(Flow::Respond(answer))
            }
            Some(Step::MoveOn(reason)) => Some(Flow::MoveOn(reason)),
        })
    }

    /// Shows a failure; the first plugin that knows what to do decides.
    ///
    /// # Errors
    ///
    /// A plugin's refusal, or its fault.
    pub(crate) async fn on_error(&mut self, view: &mut View, failure: &Failure) -> Result<Remedy> {
        let mut call = view.lend();
        call.is_read_only = true;
        let mut ruled = Ok(None);
        for place in self.places(Hook::OnError).into_iter().rev() {
            let link = &mut self.links[place];
            let outcome = call_hook!(link, OnError, on_error.call_handle, call, read_on_error, failure);
            self.tags.extend(std::mem::take(&mut call.tags));
            ruled = self.links[place].ruling(Hook::OnError, outcome);
            if let Ok(Some(Remedy::Respond(_))) = ruled {
                self.keep_before(place);
            }
            if !matches!(ruled, Ok(None | Some(Remedy::Next))) {
                break;
            }
        }
        view.take_back(*call);
        ruled.map(|remedy| remedy.unwrap_or(Remedy::Next))
    }

    /// Notes in the exchange what the plugins left behind and how long they took.
    pub(crate) fn note_in(&mut self, exchange: &mut Exchange) {
        exchange.tags.extend(std::mem::take(&mut self.tags));
        for (name, took) in self.ended.drain(..) {
            exchange.note_plugin(&name, took);
        }
        for link in &mut self.links {
            let took = std::mem::take(&mut link.took);
            if !took.is_zero() {
                exchange.note_plugin(&link.plugin.settings.name, took);
            }
        }
    }
}

impl Link {
    /// The instance for this exchange.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) async fn ready(&mut self) -> Result<&mut Instance, Miss> {
        // Asked once: what is begun on the way in is ended on the way out.
        let quarantine = &self.plugin.quarantine;
        if *self.admission.get_or_insert_with(|| quarantine.admits(Instant::now())) == Admission::No {
            return Err(Miss::Quarantined);
        }
        let kept = self.instance.take().filter(Instance::is_clean);
        let instance = match kept {
            Some(instance) => instance,
            // Boxed, so that what follows does not hold room for a start.
            None => Box::pin(self.plugin.instance(&self.owner)).await?,
        };
        Ok(self.instance.insert(instance))
    }

    /// Notes how a call went that began then.
    pub(super) fn note<T>(&mut self, hook: Hook, outcome: &Result<T, Miss>, started: Instant) {
        let took = started.elapsed();
        self.took += took;
        self.has_returned |= outcome.is_ok();
        self.has_broken |= matches!(outcome, Err(Miss::Fault(_)));
        self.plugin.note(hook, outcome, took);
    }

    /// Gives a call what belongs to this plugin alone.
    pub(super) fn dress(&mut self, call: &mut Call) {
        call.attrs = self.attrs.clone();
        call.shows_credentials = self.plugin.settings.allow.credentials;
    }

    /// Takes that back, and the edits too if the plugin broke.
    pub(super) fn undress(&mut self, call: &mut Call, has_returned: bool) {
        call.shows_credentials = false;
        if has_returned {
            self.attrs = std::mem::take(&mut call.attrs);
        } else {
            call.roll_back();
        }
    }

    async fn authenticate(
        &mut self,
        head: &hooks::authenticate::Head,
    ) -> Result<Result<Option<hooks::authenticate::Principal>, Error>, Miss> {
        let plugin = self.plugin.clone();
        let bounds = plugin.bounds();
        let instance = self.ready().await?;
        let Some(indices) = &plugin.code.indices.authenticate else { return Ok(Ok(None)) };
        let guest = indices
            .load(&mut instance.store, &instance.inner)
            .map_err(|error| Miss::Fault(Fault::invalid(format!("{error:#}"))))?;
        let armed = instance.arm(&plugin, bounds, 0);
        let outcome = armed.bounded(guest.call_handle(&mut instance.store, head)).await;
        match instance.settle(outcome, bounds)? {
            Ok(principal) => Ok(Ok(principal)),
            Err(rejection) => read_rejection(rejection).map(Err).map_err(Miss::Fault),
        }
    }

    /// What a plugin edited is nothing that could be sent: that is a fault too, and its edits are taken back.
    ///
    /// # Errors
    ///
    /// What ends the exchange, unless the operator has such a plugin passed over.
    fn made_invalid(&mut self, hook: Hook, call: &mut Call, fault: Fault) -> Result<()> {
        call.roll_back();
        self.has_broken = true;
        let miss = Err::<(), Miss>(Miss::Fault(fault));
        self.plugin.note(hook, &miss, Duration::ZERO);
        miss.or_else(|miss| self.survive(hook, miss))
    }

    /// What a plugin said; none when it broke and is passed over.
    ///
    /// # Errors
    ///
    /// Its no, or what its fault ends the exchange with.
    pub(super) fn ruling<T>(&self, hook: Hook, outcome: Result<Result<T>, Miss>) -> Result<Option<T>> {
        match outcome {
            Ok(Ok(value)) => Ok(Some(value)),
            // A no is policy, counted apart.
            Ok(Err(rejection)) => {
                self.plugin.counters.rejected(hook);
                Err(rejection)
            }
            Err(miss) => self.survive(hook, miss).map(|()| None),
        }
    }

    /// What becomes of the exchange when the plugin was not called or broke.
    ///
    /// # Errors
    ///
    /// What ends the exchange, unless the operator has such a plugin passed over.
    pub(super) fn survive(&self, hook: Hook, miss: Miss) -> Result<()> {
        // Being full is no fault that could be passed over: load must not switch a plugin off.
        let is_passed_over = self.plugin.skips_fault(hook) && !matches!(miss, Miss::Capacity);
        if is_passed_over { Ok(()) } else { Err(miss.into_error(&self.plugin.settings.name)) }
    }
}

impl Link {
    /// Gives the instance back, or up: no further hook of this exchange needs it.
    pub(super) fn let_go(&mut self) {
        if let Some(instance) = self.instance.take().filter(|_| self.streams_open == 0) {
            self.plugin.give_back(instance, &self.owner);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.admission == Some(Admission::Probe) {
            let was_called = self.has_returned || self.has_broken;
            self.plugin.quarantine.end_probe(was_called.then_some(!self.has_broken));
        }
        self.let_go();
    }
}

impl Miss {
    /// What the client is told.
    pub(crate) fn into_error(self, plugin: &str) -> Error {
        match self {
            Self::Capacity => {
                let message = format!("every instance of the plugin `{plugin}` is in use, try again");
                Error::new(ErrorKind::PluginCapacity, message).with_retry_after(RETRY_AFTER)
            }
            Self::Quarantined => {
                let message = format!("the plugin `{plugin}` broke too often and is not asked for a while");
                Error::new(ErrorKind::PluginQuarantined, message).with_retry_after(RETRY_AFTER)
            }
            Self::Fault(fault) => {
                let message = format!("the plugin `{plugin}` failed ({})", fault.kind.label());
                Error::new(ErrorKind::PluginFault, message).with_source(fault.message)
            }
            Self::Gone => {
                let message = format!("the plugin `{plugin}` failed before in this exchange");
                Error::new(ErrorKind::PluginFault, message)
            }
        }
    }
}

impl View {
    /// A message of an exchange.
    pub(crate) fn new(
        facts: Arc<Facts>,
        model: Arc<str>,
        headers: HeaderMap,
        document: Option<Document>,
    ) -> Self {
        Self {
            endpoint: facts.endpoint,
            facts,
            model,
            headers,
            document,
            attempt: 0,
            upstream: None,
            usage: None,
            original: None,
            request: None,
        }
    }

    /// The message as one hook after another sees it.
    pub(super) fn lend(&mut self) -> Box<Call> {
        let headers = std::mem::take(&mut self.headers);
        let mut call = Call::new(self.facts.clone(), self.model.clone(), headers, self.document.take());
        call.endpoint = self.endpoint;
        call.attempt = self.attempt;
        call.upstream.clone_from(&self.upstream);
        call.usage = self.usage;
        Box::new(call)
    }

    pub(super) fn take_back(&mut self, call: Call) {
        self.model = call.model;
        self.headers = call.headers;
        self.document = call.document;
    }
}

impl Call {
    /// Makes the edits of a plugin those that the next one sees; an edited request may name another model.
    fn commit_and_follow(&mut self) -> Edited {
        let edited = self.commit();
        if edited.document
            && self.has_messages
            && let Some(model) = self.document.as_ref().and_then(messages::model)
            && *model != *self.model
        {
            self.model = Arc::from(model);
        }
        edited
    }
}

impl Edited {
    fn and(self, other: Self) -> Self {
        Self { headers: self.headers || other.headers, document: self.document || other.document }
    }
}

/// Makes sure that what a plugin made of a request is one.
fn check_request(call: &Call, view: &mut View) -> Result<(), Fault> {
    let Some((endpoint, document)) =
        call.facts.endpoint.zip(call.document.as_ref()).filter(|_| call.has_edited_document())
    else {
        return Ok(());
    };
    let body = document.bytes().clone();
    let made = match &view.original {
        Some(original) => original.again(body),
        None => request::decode(endpoint, body, None),
    };
    let made = made
        .map_err(|error| Fault::invalid(format!("it made a request that is not valid: {}", error.message)))?;
    if made.is_stream() != call.facts.is_stream {
        return Err(Fault::invalid("it changed whether the answer is streamed (`stream`)"));
    }
    view.request = Some(made);
    Ok(())
}

/// What a hook said that can let pass, answer or move on.
enum Step {
    Next,
    Respond(Synthetic),
    MoveOn(String),
}

/// A value of the contract, made sense of; the inner error is the plugin's no.
type Read<T> = Result<Result<T>, Fault>;

fn read_on_request(outcome: hooks::on_request::Outcome) -> Read<Step> {
    use hooks::on_request::Outcome;
    Ok(match outcome {
        Outcome::Next => Ok(Step::Next),
        Outcome::Respond(answer) => Ok(Step::Respond(read_answer(answer)?)),
        Outcome::Reject(rejection) => Err(read_rejection(rejection)?),
    })
}

fn read_on_upstream_request(outcome: hooks::on_upstream_request::Outcome) -> Read<Step> {
    use hooks::on_upstream_request::Outcome;
    Ok(match outcome {
        Outcome::Next => Ok(Step::Next),
        Outcome::SkipUpstream => {
            Ok(Step::MoveOn("the plugins skip the upstream for this request".to_owned()))
        }
        Outcome::Reject(rejection) => Err(read_rejection(rejection)?),
    })
}

fn read_on_response(outcome: hooks::on_response::Outcome) -> Read<Step> {
    use hooks::on_response::Outcome;
    Ok(match outcome {
        Outcome::Next => Ok(Step::Next),
        Outcome::Respond(answer) => Ok(Step::Respond(read_answer(answer)?)),
        Outcome::Retry(reason) => Ok(Step::MoveOn(reason)),
        Outcome::Reject(rejection) => Err(read_rejection(rejection)?),
    })
}

fn read_on_error(outcome: hooks::on_error::Outcome) -> Read<Remedy> {
    use hooks::on_error::Outcome;
    Ok(match outcome {
        Outcome::Next => Ok(Remedy::Next),
        Outcome::Retry => Ok(Remedy::Retry),
        Outcome::Fallback(name) => Ok(Remedy::Fallback(name)),
        Outcome::Respond(answer) => Ok(Remedy::Respond(read_answer(answer)?)),
        Outcome::Reject(rejection) => Err(read_rejection(rejection)?),
    })
}

/// What a plugin thinks of the candidates.
enum Hint {
    NoOpinion,
    Prefer(Vec<String>),
    Only(Vec<String>),
    Exclude(Vec<String>),
}

fn read_hint(hint: hooks::on_route::Hint) -> Read<Hint> {
    use hooks::on_route::Hint as Said;
    Ok(match hint {
        Said::NoOpinion => Ok(Hint::NoOpinion),
        Said::Prefer(names) => Ok(Hint::Prefer(names)),
        Said::Only(names) => Ok(Hint::Only(names)),
        Said::Exclude(names) => Ok(Hint::Exclude(names)),
        Said::Reject(rejection) => Err(read_rejection(rejection)?),
    })
}

impl Hint {
    fn apply(&self, candidates: &[Candidate], order: &mut Vec<usize>) {
        let has = |names: &[String], index: usize| names.contains(&candidates[index].id);
        match self {
            Self::NoOpinion => {}
            Self::Prefer(names) => {
                let rank = |index: &usize| {
                    names.iter().position(|name| *name == candidates[*index].id).unwrap_or(usize::MAX)
                };
                order.sort_by_key(rank);
            }
            Self::Only(names) => order.retain(|index| has(names, *index)),
            Self::Exclude(names) => order.retain(|index| !has(names, *index)),
        }
    }
}

/// A plugin's no as the client's error.
pub(super) fn read_rejection(rejection: types::Rejection) -> Result<Error, Fault> {
    let types::Rejection { status, code, message, headers } = rejection;
    let status =
        StatusCode::from_u16(status).ok().filter(|status| (400..600).contains(&status.as_u16())).ok_or_else(
            || Fault::invalid(format!("the status {status} of a rejection is not between 400 and 599")),
        )?;
    let headers = read_headers(headers)?;
    Ok(Error::new(ErrorKind::Rejected(Box::new(Refusal { status, code, headers })), message))
}

fn read_answer(answer: types::SyntheticResponse) -> Result<Synthetic, Fault> {
    let types::SyntheticResponse { status, headers, body } = answer;
    let status =
        StatusCode::from_u16(status).ok().filter(|status| (200..600).contains(&status.as_u16())).ok_or_else(
            || Fault::invalid(format!("the status {status} of an answer is not between 200 and 599")),
        )?;
    let mut headers = read_headers(headers)?;
    if !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(Synthetic { status, headers, body: body.into() })
}

/// Reads a plugin's headers; those that are the gateway's own are left out.
fn read_headers(pairs: Vec<(String, String)>) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        let key = HeaderName::try_from(&*name)
            .map_err(|_| Fault::invalid(format!("`{}` is no name of a header", name.escape_debug())))?;
        let value = HeaderValue::try_from(value).map_err(|_| {
            Fault::invalid(format!("the value of the header `{key}` has characters that no header can carry"))
        })?;
        if !headers::is_reserved(&key) {
            headers.append(key, value);
        }
    }
    Ok(headers)
}
