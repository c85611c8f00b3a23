//! The life of one request, from head to answer; the only module that knows all the others.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::admin::audit::Searches;
use crate::auth::{self, Account, Caller, Recognised};
use crate::budget::{Budget, Share};
use crate::client_address::client_address;
use crate::compression;
use crate::config::{ErrorCompat, Server, Tenant};
use crate::cors;
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::{Activity, Aside, Exchange, REQUEST_ID};
use crate::headers;
use crate::health;
use crate::limit::{Asked, Limits, party};
use crate::metrics;
use crate::models;
use crate::percent;
use crate::plugin::call::Facts;
use crate::plugin::chain::{Chain, Flow, Principal, Synthetic, View};
use crate::plugin::complete;
use crate::plugin::hook::Hook;
use crate::plugin::stages::{End, Stages};
use crate::recording::Recording;
use crate::reload::Reloader;
use crate::shared::Shared;
use crate::snapshot::{Snapshot, Snapshots};
use crate::stream::{Body, Late, Manner};
use crate::upstream::dispatch::{Dispatched, dispatch};
use crate::upstream::job::{Job, Payload};
use crate::upstream::reply::{Reply, ReplyContent};
use crate::upstream::{Rest, UPLOAD_IDLE_MAX, broken_off, too_slow};
use crate::wire::document::Document;
use crate::wire::messages;
use crate::wire::multipart::{Form, Progress};
use crate::wire::request::{self, InPath};
use crate::wire::{Audience, Dialect, Endpoint, openai};

/// Which upstream answered.
const X_UPSTREAM: HeaderName = HeaderName::from_static("x-witgate-upstream");
/// How many attempts it took.
const X_ATTEMPTS: HeaderName = HeaderName::from_static("x-witgate-attempts");
/// The request id an upstream gave its own answer.
const X_UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-witgate-upstream-request-id");
/// Source: W3C Server Timing, section 3.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// What is set aside for a body before it is there, in bytes; a client's word for more is not taken. It holds a long prompt;
/// more would let clients that announce much and send nothing fill the memory.
const BODY_RESERVED_MAX: u64 = 128 << 10;

/// How much of a body that is held in memory has to arrive within each [`UPLOAD_IDLE_MAX`], in bytes: 35 kbit/s. Who sends a
/// byte now and then would otherwise hold what is here already for as long as it likes.
const UPLOAD_STEP: u64 = 256 << 10;

/// The gateway: what every connection shares.
pub(crate) struct Gateway {
    /// What the current configuration says.
    pub(crate) snapshots: Snapshots,
    /// Ids and counts.
    pub(crate) activity: Arc<Activity>,
    /// Bytes of bodies held in memory.
    pub(crate) budget: Arc<Budget>,
    /// What callers have used.
    pub(crate) limits: Arc<Limits>,
    /// What it shares with other gateways, if it does.
    pub(crate) shared: Option<Arc<Shared>>,
    /// How the configuration is read again.
    pub(crate) reloader: Reloader,
    /// Whether it is draining, and since when it runs.
    pub(crate) health: health::State,
    /// Where the admin listener is.
    pub(crate) admin_address: SocketAddr,
    /// The searches of the audit that run for it.
    pub(crate) searches: Searches,
}

/// What the steps of a request come to.
enum Answer {
    /// An upstream's, and the plugins that its stream goes through.
    Reply(Reply, Option<Box<Stages>>),
    /// The gateway's own.
    Own(StatusCode, HeaderMap, Bytes),
    /// None yet: the client may be sent comments while an upstream is asked.
    Later(Box<Later>),
}

impl Answer {
    /// The answer in a list, for a client that wants one and would get it bare. Plugins have seen it before.
    fn listed_for(mut self, job: &Job) -> Self {
        let is_bare = |body: &[u8]| body.trim_ascii_start().starts_with(b"{");
        match &mut self {
            Self::Reply(Reply { status, content: ReplyContent::Whole(answer), .. }, _)
                if job.wants_list()
                    && status.is_success()
                    && answer.segments.first().is_some_and(|first| is_bare(first)) =>
            {
                answer.segments.insert(0, Bytes::from_static(b"["));
                answer.segments.push(Bytes::from_static(b"]"));
            }
            Self::Own(status, _, body) if job.wants_list() && status.is_success() && is_bare(body) => {
                *body = [b"[", &body[..], b"]"].concat().into();
            }
            Self::Reply(..) | Self::Own(..) | Self::Later(_) => {}
        }
        self
    }
}

/// A request that is ready to be sent, and the plugins that see the answer.
struct Later {
    job: Job,
    plugins: Plugins,
}

/// The plugins of one exchange, and what they are told of it.
struct Plugins {
    chain: Chain,
    /// None where there is no plugin.
    facts: Option<Arc<Facts>>,
}

impl Gateway {
    /// Answers one request of a connection from `peer`. Never fails: from here on every error is a response, and a panic
    /// is a 500.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let snapshot = self.snapshots.current();
        let client = client_address(peer, &snapshot.config.server.trusted_proxies, request.headers());
        let mut exchange = Box::new(Exchange::begin(&request, client, &self.activity));
        let (id, dialect) = (exchange.id.clone(), exchange.dialect);
        let origin = request.headers().get(header::ORIGIN).cloned();
        let is_head = request.method() == Method::HEAD;
        let takes_gzip = snapshot.config.server.compress && compression::is_accepted(request.headers());
        let answered = caught(pin!(self.respond(&snapshot, &mut exchange, request, client))).await;
        let mut response = match answered.unwrap_or_else(|| Err(defect())) {
            Ok(Answer::Own(status, headers, body)) => own_response(status, headers, body, exchange),
            Ok(Answer::Reply(reply, stages)) => reply_response(reply, stages, &snapshot, exchange),
            Ok(Answer::Later(later)) => Box::pin(self.respond_early(later, &snapshot, exchange)).await,
            Err(error) => failed_response(error, &snapshot, exchange),
        };
        if is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            response.body_mut().forgo();
        }
        if takes_gzip {
            compression::prepare(&mut response);
        }
        let headers = response.headers_mut();
        if dialect == Dialect::Anthropic {
            // Where Anthropic's clients look for it.
            headers.insert(HeaderName::from_static("request-id"), id.clone());
        }
        headers.insert(REQUEST_ID, id);
        if let Some(origin) = origin {
            cors::allow(&origin, &snapshot.config.server.cors_origins, headers);
        }
        response
    }

    async fn respond(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        exchange: &mut Exchange,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Result<Answer> {
        let (mut head, body) = request.into_parts();
        let is_let_in = snapshot.config.server.lets_in(client);
        if let Some(answer) = self.answer_aside(snapshot, exchange, &head, is_let_in).await? {
            return Ok(answer);
        }
        exchange.enter(&head.uri, &head.headers);
        let audit = &snapshot.config.audit;
        if audit.is_enabled {
            let bytes_max = audit.keeps_bodies.then_some(audit.body_max as usize);
            let recording = Recording::begin(&head.headers, &audit.redact, bytes_max);
            exchange.recording = Some(Box::new(recording));
        }
        exchange.place = self.activity.audit.admit().await?;
        let mut chain = Chain::begin(&snapshot.plugins);
        if chain.has(Hook::OnComplete) {
            complete::watch(&snapshot.plugins, exchange);
        }
        let endpoint = Endpoint::of(head.uri.path()).map(|(endpoint, _)| endpoint);
        exchange.endpoint = endpoint.map_or("-", Endpoint::label);
        if !is_let_in {
            return Err(Error::new(ErrorKind::Forbidden, "this gateway does not let your address in"));
        }
        if self.activity.log.keeps_tokens() {
            exchange.token = auth::credential(&head);
        }
        let mark = party::mark(&snapshot.config.limits.by, &head.headers);
        let mut caller = match snapshot.gate.recognise(&head, exchange.started_at) {
            Recognised::Account(account) => let_in(account, &mut head, exchange)?,
            recognised if chain.has(Hook::Authenticate) => {
                let tenants = &snapshot.config.tenants;
                Box::pin(authenticate(&mut chain, endpoint, &mut head, tenants, recognised, exchange)).await?
            }
            Recognised::Nobody(error) => return Err(error),
            Recognised::Anybody => auth::identify(&mut head),
        };
        caller.mark = mark;
        endpoint.map_or(Ok(()), |endpoint| caller.check_endpoint(endpoint))?;
        // What most requests pass by is boxed: a future is as large as the largest thing it may have to wait for.
        if party::has_any(&snapshot.config, &caller) {
            Box::pin(self.claim(snapshot, &caller, Asked::Entry, exchange)).await?;
        }
        let mut job = match Endpoint::of(head.uri.path()) {
            None => {
                let may_pass = !snapshot.gate.is_guarded() || caller.may_pass_through();
                let server = &snapshot.config.server;
                unknown_path_job(head, body, caller, may_pass, server, self.budget.share(), exchange)?
            }
            Some((endpoint @ (Endpoint::Models | Endpoint::Model), id)) => {
                allow_method(endpoint.methods(), &head.method)?;
                // Somebody who is nobody shall not make the gateway read its files.
                let may_reload = !snapshot.has_keys() || exchange.caller.is_some();
                return Box::pin(self.list_models(caller, may_reload, id, exchange.dialect)).await;
            }
            Some((endpoint, rest)) => {
                allow_method(endpoint.methods(), &head.method)?;
                let in_path = InPath::of(rest, head.uri.query());
                let place = (endpoint, in_path);
                self.read_job(place, head, body, caller, &snapshot.config.server, exchange).await?
            }
        };
        let mut plugins = Plugins { chain, facts: None };
        if !plugins.chain.is_empty()
            && let Some(answer) = Box::pin(plugins.on_request(&mut job, exchange)).await?
        {
            return Ok(answer.listed_for(&job));
        }
        if party::has_any(&snapshot.config, &job.caller) {
            let model = exchange.model.clone().unwrap_or_else(|| job.model.clone());
            if let Some(asked) = asked(&job, &model) {
                Box::pin(self.claim(snapshot, &job.caller, asked, exchange)).await?;
            }
        }
        self.admit(&job, snapshot, exchange).await?;
        if exchange.is_stream && snapshot.config.server.keepalive_early {
            return Ok(Answer::Later(Box::new(Later { job, plugins })));
        }
        plugins.dispatch(&mut job, snapshot, exchange).await
    }

    /// Answers what is no request for a model; who is not let in may only ask whether the gateway is alive.
    async fn answer_aside(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        exchange: &mut Exchange,
        head: &Parts,
        is_let_in: bool,
    ) -> Result<Option<Answer>> {
        let page = health::Page::of(head.uri.path());
        if !is_let_in && !matches!(page, Some(health::Page::Alive)) {
            return Ok(None);
        }
        let server = &snapshot.config.server;
        let (status, headers, body) = if cors::is_preflight(head) {
            exchange.pass_by(Aside::Preflight);
            let (status, headers) = cors::preflight(&head.headers, &server.cors_origins);
            (status, headers, Bytes::new())
        } else if let Some(page) = page {
            exchange.pass_by(Aside::Health);
            allow_method(health::METHODS, &head.method)?;
            page.render(snapshot, self)
        } else if server.metrics_on_main && head.uri.path() == "/metrics" {
            exchange.pass_by(Aside::Metrics);
            allow_method(health::METHODS, &head.method)?;
            Box::pin(metrics::answer(self, &head.headers)).await?
        } else {
            return Ok(None);
        };
        Ok(Some(Answer::Own(status, headers, body)))
    }

    /// Takes a place in the gateway, which the exchange holds to its end unless it has to wait for an upstream.
    async fn admit(&self, job: &Job, snapshot: &Snapshot, exchange: &mut Exchange) -> Result<()> {
        let (queue, limits) = (&self.activity.queue, &snapshot.config.limits);
        exchange.in_flight = queue.enter();
        if exchange.in_flight.is_none() {
            let began = Instant::now();
            let caller = queue.caller(&exchange.origin(&job.caller).as_one(&limits.by));
            let place = Box::pin(queue.admit(caller, limits)).await;
            exchange.waited += began.elapsed();
            exchange.in_flight = Some(place?);
        }
        Ok(())
    }

    /// Claims what the request asks for of what its caller may use.
    async fn claim(
        &self,
        snapshot: &Snapshot,
        caller: &Caller,
        asked: Asked<'_>,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let origin = exchange.origin(caller);
        let (mut permit, admitted) = self.limits.admit(&snapshot.config, &origin, &asked).await;
        if permit.counts_tokens() && exchange.recording.is_none() {
            // The tokens of an answer that is cut off can be estimated only from what is kept of it.
            let recording = Recording::begin(&HeaderMap::new(), &[], None);
            exchange.recording = Some(Box::new(recording));
        }
        if let Some(mut before) = exchange.permit.take() {
            permit.follow(&mut before);
        }
        exchange.permit = Some(permit);
        admitted
    }

    async fn list_models(
        self: &Arc<Self>,
        caller: Caller,
        may_reload: bool,
        id: &str,
        dialect: Dialect,
    ) -> Result<Answer> {
        if may_reload {
            self.reloader.reload_for_models(self).await;
        }
        let list = models::answer(self.snapshots.current(), caller, id, dialect).await?;
        Ok(Answer::Own(StatusCode::OK, json_headers(), list))
    }

    /// Waits for an upstream, but not longer than `keepalive` without a byte to the client.
    async fn respond_early(
        &self,
        later: Box<Later>,
        snapshot: &Arc<Snapshot>,
        mut exchange: Box<Exchange>,
    ) -> Response<Body> {
        let Later { mut job, mut plugins } = *later;
        let server = &snapshot.config.server;
        let manner = manner(snapshot, &exchange);
        let pinned = snapshot.clone();
        let mut answering = Box::pin(async move {
            let dispatched = caught(pin!(plugins.dispatch(&mut job, &pinned, &mut exchange))).await;
            (dispatched.unwrap_or_else(|| Err(defect())), exchange)
        });
        let in_time = if server.keepalive.is_zero() {
            Some(answering.as_mut().await)
        } else {
            tokio::time::timeout(server.keepalive, answering.as_mut()).await.ok()
        };
        match in_time {
            Some((Ok(Answer::Reply(reply, stages)), exchange)) => {
                reply_response(reply, stages, snapshot, exchange)
            }
            Some((Ok(Answer::Own(status, headers, body)), exchange)) => {
                own_response(status, headers, body, exchange)
            }
            Some((Ok(Answer::Later(_)), exchange)) => failed_response(defect(), snapshot, exchange),
            Some((Err(error), exchange)) => failed_response(error, snapshot, exchange),
            None => {
                let settled = async move {
                    match answering.await {
                        (Ok(Answer::Reply(reply, stages)), exchange) => {
                            let settled = reply.settled().await;
                            (settled.map(|reply| Late::Reply(Box::new(reply), stages)), exchange)
                        }
                        (Ok(Answer::Own(status, headers, body)), exchange) => {
                            (Ok(Late::Own(status, headers, body)), exchange)
                        }
                        (Ok(Answer::Later(_)), exchange) => (Err(defect()), exchange),
                        (Err(error), exchange) => (Err(error), exchange),
                    }
                };
                let mut response = Response::new(Body::early(Box::pin(settled), manner));
                *response.headers_mut() = headers::event_stream();
                response
            }
        }
    }

    /// Reads of a body what routing needs, and what an edit needs.
    async fn read_job(
        &self,
        (endpoint, in_path): (Endpoint, Option<InPath>),
        head: Parts,
        body: Incoming,
        caller: Caller,
        server: &Server,
        exchange: &mut Exchange,
    ) -> Result<Job> {
        let mut reader = BodyReader::new(body, server, self.budget.share())?;
        let began = Instant::now();
        let is_form = endpoint.is_multipart() && headers::Kind::of(&head.headers) != headers::Kind::Json;
        let (payload, model) = if is_form {
            Box::pin(read_form(&head.headers, &mut reader, exchange)).await?
        } else {
            let bytes = reader.read_to_end().await?;
            exchange.note_request(&bytes);
            let request = request::decode(endpoint, bytes, in_path)?;
            let model: Arc<str> = Arc::from(request.model());
            (exchange.is_stream, exchange.asks_usage) = (request.is_stream(), request.asks_usage());
            (Payload::Json(request), model)
        };
        exchange.waited += began.elapsed();
        exchange.model = Some(model.clone());
        let share = Arc::new(reader.share);
        if let Some(recording) = &mut exchange.recording {
            recording.hold(&share);
        }
        Ok(Job {
            method: head.method,
            endpoint: Some(endpoint),
            path: Cow::Borrowed(endpoint.upstream_path()),
            query: head.uri.query().map(str::to_owned),
            headers: upstream_headers(head.headers, exchange),
            payload,
            caller,
            known_as: model.clone(),
            model,
            id: exchange.id_of_answer(),
            created_unix_s: exchange.started_unix_s(),
            holds_answer: false,
            _share: share,
        })
    }
}

/// Lets a caller in that the gateway knows itself; the exchange names it even if it is sent away.
fn let_in(account: Arc<Account>, head: &mut Parts, exchange: &mut Exchange) -> Result<Caller> {
    exchange.caller = Some(account.name.to_string());
    exchange.key = Some(account.name.clone());
    exchange.tenant.clone_from(&account.tenant);
    // A key of the gateway's own is in no log, whatever went wrong.
    exchange.token = None;
    auth::identify(head);
    account.admit(exchange.client, exchange.started_at)?;
    Ok(Caller::of(account))
}

/// Has the plugins say who is calling, before what the client presents leaves the request.
async fn authenticate(
    chain: &mut Chain,
    endpoint: Option<Endpoint>,
    head: &mut Parts,
    tenants: &[Tenant],
    recognised: Recognised,
    exchange: &mut Exchange,
) -> Result<Caller> {
    let principal = chain.authenticate(endpoint, head, exchange.client).await;
    chain.note_in(exchange);
    let principal = principal?;
    if let (None, Recognised::Nobody(error)) = (&principal, recognised) {
        return Err(error);
    }
    let caller = auth::identify(head);
    let Some(Principal { name, tenant, key }) = principal else { return Ok(caller) };
    exchange.caller = Some(name);
    exchange.tenant.clone_from(&tenant);
    exchange.key.clone_from(&key);
    // It is a key of this gateway: neither the upstream's nor for the log.
    exchange.token = None;
    Ok(Caller::named(key, tenant, tenants))
}

impl Plugins {
    /// Shows the request to the plugins that match it; gives the answer if one of them has it.
    async fn on_request(&mut self, job: &mut Job, exchange: &mut Exchange) -> Result<Option<Answer>> {
        let facts = Arc::new(Facts {
            id: exchange.id.to_str().unwrap_or_default().to_owned(),
            tenant: job.caller.tenant.clone(),
            endpoint: job.endpoint,
            is_stream: exchange.is_stream,
            started: exchange.started(),
            credential: job.caller.credential.clone(),
        });
        self.chain.select(&facts, &job.model, job.caller.key.as_deref());
        if let (Some(bodies), Payload::Json(request)) = (&mut exchange.bodies, &job.payload) {
            bodies.note_request(request.body());
        }
        self.facts = Some(facts.clone());
        let has_text = job.endpoint.is_some_and(Endpoint::has_text);
        job.holds_answer = has_text
            && (self.chain.has(Hook::StreamText) || self.chain.has(Hook::StreamEvents))
            || self.chain.has(Hook::OnResponse);
        if !self.chain.has(Hook::OnRequest) {
            return Ok(None);
        }
        let mut view = job.lend(&facts);
        let flow = self.chain.on_request(&mut view).await;
        self.chain.note_in(exchange);
        match flow? {
            Flow::Next(_) => {
                job.take_back(view);
                Ok(None)
            }
            Flow::Respond(answer) => {
                // A plugin may know the answer, but not that the key is for this model.
                if job.endpoint.is_some() {
                    let edited = view.request.as_ref().map(request::Request::model);
                    job.caller.check_model(edited.unwrap_or(&job.model))?;
                }
                self.synthetic(view, answer, exchange).await.map(Some)
            }
            Flow::MoveOn(_) => Ok(None),
        }
    }

    /// Has an upstream answer, and puts the answer through the plugins.
    async fn dispatch(
        &mut self,
        job: &mut Job,
        snapshot: &Snapshot,
        exchange: &mut Exchange,
    ) -> Result<Answer> {
        let Some(facts) = self.facts.clone().filter(|_| !self.chain.is_empty()) else {
            return match dispatch(job, snapshot, &mut self.chain, None, exchange).await? {
                Dispatched::Reply(reply) => Ok(Answer::Reply(reply, None).listed_for(job)),
                Dispatched::Synthetic(_) => Err(defect()),
            };
        };
        Ok(Box::pin(self.dispatch_through(job, snapshot, facts, exchange)).await?.listed_for(job))
    }

    async fn dispatch_through(
        &mut self,
        job: &mut Job,
        snapshot: &Snapshot,
        facts: Arc<Facts>,
        exchange: &mut Exchange,
    ) -> Result<Answer> {
        let dispatched = dispatch(job, snapshot, &mut self.chain, Some(&facts), exchange).await;
        self.chain.note_in(exchange);
        let mut reply = match dispatched? {
            Dispatched::Reply(reply) => reply,
            Dispatched::Synthetic(answer) => {
                let view = job.lend(&facts);
                return self.synthetic(view, answer, exchange).await;
            }
        };
        let Some(endpoint) = job.endpoint.filter(|_| reply.status.is_success()) else {
            return Ok(Answer::Reply(reply, None));
        };
        let settings = &reply.upstream.settings;
        let is_translated = endpoint.at(settings.dialect, settings.has_responses) != Some(endpoint);
        // Who asked for a stream can read no other answer if it is the gateway that writes it.
        let is_framed = exchange.is_stream && (is_translated || self.chain.has(Hook::StreamEvents));
        let sees_stream = self.chain.has(Hook::StreamText) || self.chain.has(Hook::StreamEvents);
        if !(sees_stream || is_framed && matches!(reply.content, ReplyContent::Whole(_))) {
            return Ok(Answer::Reply(reply, None));
        }
        let mut view = job.lend(&facts);
        view.attempt = u32::try_from(exchange.attempts.len()).unwrap_or(u32::MAX);
        view.upstream = Some(reply.upstream.settings.name.clone());
        if let ReplyContent::Whole(answer) = &reply.content
            && is_framed
        {
            (exchange.usage, exchange.finish) = (answer.facts.usage, answer.facts.finish_reason);
            return self.deliver(view, reply.status, reply.headers, answer.body(), exchange).await;
        }
        let is_stream = matches!(reply.content, ReplyContent::Events(_));
        let mut stages = self.open(endpoint, &mut view, is_stream, exchange).await?;
        if stages.are_none() {
            return Ok(Answer::Reply(reply, None));
        }
        match &mut reply.content {
            ReplyContent::Events(_) => return Ok(Answer::Reply(reply, Some(Box::new(stages)))),
            ReplyContent::Whole(answer) => {
                let changed = stages.whole(&answer.body()).await;
                stages.note_in(exchange);
                if let Some(segments) = changed? {
                    answer.segments = segments;
                }
            }
            ReplyContent::Held(_) | ReplyContent::Opaque { .. } => {
                stages.close().await;
                stages.note_in(exchange);
                let message = "the upstream's answer is in a form that the plugins cannot read";
                return Err(Error::new(ErrorKind::UpstreamInvalid, message));
            }
        }
        Ok(Answer::Reply(reply, None))
    }

    async fn open(
        &mut self,
        endpoint: Endpoint,
        view: &mut View,
        is_stream: bool,
        exchange: &mut Exchange,
    ) -> Result<Stages> {
        let chain = std::mem::take(&mut self.chain);
        let (mut stages, opened) = Stages::open(chain, endpoint, view, is_stream).await;
        stages.note_in(exchange);
        opened.map(|()| stages)
    }

    /// An answer by a plugin: through the plugins before that one, like an upstream's.
    async fn synthetic(&mut self, view: View, answer: Synthetic, exchange: &mut Exchange) -> Result<Answer> {
        let Synthetic { status, headers, body } = answer;
        let document = Document::new(body.clone()).ok();
        let mut shown = View::new(view.facts.clone(), view.model.clone(), headers, document);
        let flow = self.chain.on_response(&mut shown, status).await;
        self.chain.note_in(exchange);
        let (status, headers, body) = match flow? {
            Flow::Respond(answer) => (answer.status, answer.headers, answer.body),
            // There is no other candidate that could be tried.
            Flow::Next(_) | Flow::MoveOn(_) => {
                (status, shown.headers, shown.document.map_or(body, Document::into_bytes))
            }
        };
        self.deliver(view, status, headers, body, exchange).await
    }

    /// A whole answer, as the client asked for it, through the plugins for its text and its events.
    async fn deliver(
        &mut self,
        mut view: View,
        status: StatusCode,
        mut headers: HeaderMap,
        mut body: Bytes,
        exchange: &mut Exchange,
    ) -> Result<Answer> {
        let endpoint = view.facts.endpoint.filter(|endpoint| status.is_success() && endpoint.has_text());
        let Some(endpoint) = endpoint else { return Ok(Answer::Own(status, headers, body)) };
        let asks_usage = view.document.as_ref().is_some_and(messages::asks_usage);
        let is_json = headers::Kind::of(&headers) == headers::Kind::Json;
        let framed = (exchange.is_stream && is_json)
            .then(|| openai::frame::events(endpoint, &body, asks_usage))
            .flatten();
        if let Some(events) = framed {
            body = events;
            headers.extend(headers::event_stream());
        }
        let is_stream = headers::Kind::of(&headers) == headers::Kind::EventStream;
        let mut stages = self.open(endpoint, &mut view, is_stream, exchange).await?;
        if stages.are_none() {
            return Ok(Answer::Own(status, headers, body));
        }
        let put = match is_stream {
            true => {
                let mut out = Vec::new();
                stages.finish(End::Complete, vec![body], &mut out).await.map(|()| out.concat().into())
            }
            false if is_json => stages
                .whole(&body)
                .await
                .map(|changed| changed.map_or(body, |segments| segments.concat().into())),
            false => {
                stages.close().await;
                let message = "a plugin's answer is in a form that other plugins cannot read";
                Err(Error::new(ErrorKind::PluginFault, message))
            }
        };
        stages.note_in(exchange);
        Ok(Answer::Own(status, headers, put?))
    }
}

/// Runs a future to its end, or to the panic that a defect causes; then there is no outcome.
pub(crate) async fn caught<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |poll| poll.map(Some))
    })
    .await
}

/// A client's body, read within the bounds.
struct BodyReader {
    /// Gone once the rest of it is passed on.
    body: Option<Incoming>,
    share: Share,
    bytes_max: u64,
    buffered_bytes_max: u64,
    len_announced: Option<u64>,
    len: u64,
    pace: Pace,
}

/// How fast a body has to arrive: each [`UPLOAD_STEP`] of it within [`UPLOAD_IDLE_MAX`].
struct Pace {
    /// By when the next step has to be taken.
    due: Instant,
    /// The length with which it is.
    step_at: u64,
}

impl Pace {
    fn begin(len: u64, now: Instant) -> Self {
        Self { due: now + UPLOAD_IDLE_MAX, step_at: len + UPLOAD_STEP }
    }

    /// So much is there now.
    fn note(&mut self, len: u64, now: Instant) {
        if len >= self.step_at {
            *self = Self::begin(len, now);
        }
    }
}

impl BodyReader {
    fn new(body: Incoming, server: &Server, share: Share) -> Result<Self> {
        let len_announced = body.size_hint().exact();
        let reader = Self {
            body: Some(body),
            share,
            bytes_max: server.request_body_max,
            buffered_bytes_max: server.buffered_bytes_max,
            len_announced,
            len: 0,
            pace: Pace::begin(0, Instant::now()),
        };
        if len_announced.is_some_and(|len| len > reader.bytes_max) {
            Err(reader.too_large())
        } else {
            Ok(reader)
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(body) = &mut self.body else { return Ok(None) };
            let frame = tokio::time::timeout_at(self.pace.due, body.frame()).await;
            let Some(frame) = frame.map_err(|_| too_slow())? else { return Ok(None) };
            let Ok(data) = frame.map_err(broken_off)?.into_data() else { continue };
            self.len += data.len() as u64;
            self.pace.note(self.len, Instant::now());
            if self.len > self.bytes_max {
                return Err(self.too_large());
            }
            if !self.share.take(data.len(), self.buffered_bytes_max) {
                let message = "the gateway holds as many bytes of requests as it may, try again";
                return Err(
                    Error::new(ErrorKind::Overloaded, message).with_retry_after(Duration::from_secs(1))
                );
            }
            return Ok(Some(data));
        }
    }

    async fn read_to_end(&mut self) -> Result<Bytes> {
        let Some(first) = self.read().await? else { return Ok(Bytes::new()) };
        if self.body.as_ref().is_none_or(Incoming::is_end_stream) {
            return Ok(first);
        }
        let capacity = self.len_announced.map_or(0, |len| len.min(BODY_RESERVED_MAX) as usize);
        let mut all = BytesMut::with_capacity(capacity.max(first.len() * 2));
        all.extend_from_slice(&first);
        while let Some(more) = self.read().await? {
            all.extend_from_slice(&more);
        }
        Ok(all.freeze())
    }

    /// Gives up what has not been read, if there is any.
    fn take_rest(&mut self) -> Option<Rest> {
        let bytes_left = self.bytes_max - self.len;
        self.body.take().filter(|body| !body.is_end_stream()).map(|body| Rest::new(body, bytes_left))
    }

    fn too_large(&self) -> Error {
        let message =
            format!("the request body is larger than {} bytes, the most this gateway takes", self.bytes_max);
        Error::new(ErrorKind::RequestTooLarge, message)
    }
}

/// Reads a form up to the part that names the model; the rest is passed on while it arrives.
///
/// Whether a form asks for a stream shows in the answer's content type; the field may come after the file.
async fn read_form(
    headers: &HeaderMap,
    reader: &mut BodyReader,
    exchange: &mut Exchange,
) -> Result<(Payload, Arc<str>)> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut form = Form::new(content_type)?;
    let mut read = BytesMut::new();
    let (model, value) = loop {
        match form.scan(&read) {
            Progress::Found { model, value } => break (model, value),
            Progress::Absent => return Err(Error::invalid("model", "the form has no field `model`")),
            Progress::More => match reader.read().await? {
                Some(data) => read.extend_from_slice(&data),
                None => return Err(Error::invalid("model", "the form broke off before a field `model`")),
            },
        }
    };
    let rest = reader.take_rest();
    exchange.request_len = reader.len_announced.unwrap_or(reader.len);
    if let Some(recording) = &mut exchange.recording {
        recording.describe_request(content_type, Some(&model));
    }
    let payload = Payload::Form { head: read.freeze(), model: Some(value), rest, len: reader.len_announced };
    Ok((payload, Arc::from(model)))
}

/// A path nobody knows, for the upstream that takes such.
fn unknown_path_job(
    head: Parts,
    body: Incoming,
    caller: Caller,
    may_pass: bool,
    server: &Server,
    share: Share,
    exchange: &mut Exchange,
) -> Result<Job> {
    let unknown = || Error::new(ErrorKind::UnknownPath, format!("there is no path `{}`", head.uri.path()));
    let path = head.uri.path().strip_prefix("/v1/").ok_or_else(unknown)?;
    if has_dots(path) {
        return Err(Error::new(ErrorKind::InvalidRequest, "the path must not hold `.` or `..` segments"));
    }
    if Endpoint::of(&plain(head.uri.path())).is_some() {
        let message = format!("there is no path `{}`, but one that is written much like it", head.uri.path());
        return Err(Error::new(ErrorKind::UnknownPath, message));
    }
    if !may_pass {
        let message = format!("there is no path `{}` that the key may use", head.uri.path());
        return Err(auth::forbidden(message));
    }
    let mut reader = BodyReader::new(body, server, share)?;
    let (rest, len) = (reader.take_rest(), reader.len_announced);
    exchange.endpoint = "passthrough";
    exchange.request_len = len.unwrap_or(0);
    if let Some(recording) = &mut exchange.recording {
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        recording.describe_request(content_type.unwrap_or(""), None);
    }
    Ok(Job {
        path: Cow::Owned(format!("/{path}")),
        method: head.method,
        endpoint: None,
        query: head.uri.query().map(str::to_owned),
        headers: upstream_headers(head.headers, exchange),
        payload: Payload::Opaque { rest, len },
        caller,
        model: Arc::from(""),
        known_as: Arc::from(""),
        id: Arc::from(""),
        created_unix_s: 0,
        holds_answer: false,
        _share: Arc::new(reader.share),
    })
}

/// What a request asks for that has tokens, which a path that is passed on has not; the model is the client's.
fn asked<'a>(job: &'a Job, model: &'a str) -> Option<Asked<'a>> {
    let endpoint = job.endpoint.filter(|endpoint| !endpoint.is_count())?;
    let request = match &job.payload {
        Payload::Json(request) => Some(request),
        Payload::Form { .. } | Payload::Opaque { .. } => None,
    };
    Some(Asked::Answer { endpoint, model, request })
}

/// Whether some server might read a path as leading upwards, however it is encoded.
fn has_dots(path: &str) -> bool {
    let plain = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain.split(['/', '\\']).any(|segment| segment == "." || segment == "..")
}

/// A path as a lenient server reads it: decoded, in lowercase, without empty segments. What such a server takes for a known
/// endpoint must not pass by what this gateway and its plugins do with that.
fn plain(path: &str) -> String {
    let text = percent::decoded(path).to_ascii_lowercase();
    let segments: Vec<&str> = text.split(['/', '\\']).filter(|segment| !segment.is_empty()).collect();
    format!("/{}", segments.join("/"))
}

fn upstream_headers(mut headers: HeaderMap, exchange: &Exchange) -> HeaderMap {
    headers::strip_for_upstream(&mut headers);
    headers.insert(REQUEST_ID, exchange.id.clone());
    headers
}

fn allow_method(allowed: &'static [Method], method: &Method) -> Result<()> {
    if allowed.contains(method) {
        return Ok(());
    }
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let message = format!("`{method}` is not allowed here, use {}", names.join(" or "));
    Err(Error::new(ErrorKind::MethodNotAllowed(allowed.to_vec()), message))
}

/// What a client is told of a defect of the gateway.
pub(crate) fn defect() -> Error {
    Error::new(ErrorKind::Internal, "the gateway failed")
}

/// An answer of the gateway's own.
pub(crate) fn own_response(
    status: StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
    mut exchange: Box<Exchange>,
) -> Response<Body> {
    exchange.answer(status, &headers);
    describe(&exchange, None, &mut headers);
    let mut response = Response::new(Body::from_bytes(body).ending(exchange));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn failed_response(error: Error, snapshot: &Snapshot, exchange: Box<Exchange>) -> Response<Body> {
    let shows_upstream = snapshot.config.server.upstream_header;
    error_response(error, snapshot.config.error_compat, shows_upstream, exchange)
}

fn reply_response(
    reply: Reply,
    stages: Option<Box<Stages>>,
    snapshot: &Snapshot,
    mut exchange: Box<Exchange>,
) -> Response<Body> {
    let Reply { status, mut headers, content, upstream, place, deadline } = reply;
    exchange.answer(status, &headers);
    if let ReplyContent::Whole(answer) = &content {
        exchange.usage = answer.facts.usage;
        exchange.finish = answer.facts.finish_reason;
    }
    if let Some(id) = headers.remove(REQUEST_ID) {
        headers.insert(X_UPSTREAM_REQUEST_ID, id);
    }
    let name = snapshot.config.server.upstream_header.then_some(&*upstream.settings.name);
    describe(&exchange, name, &mut headers);
    let manner = manner(snapshot, &exchange);
    let idle = upstream.settings.timeouts.idle;
    let body = Body::from_reply(content, stages, place, deadline, idle, manner).ending(exchange);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Who reads what the gateway has to say of an exchange.
fn audience(exchange: &Exchange, compat: ErrorCompat) -> Audience {
    Audience { dialect: exchange.dialect, endpoint: Endpoint::labelled(exchange.endpoint), compat }
}

/// How a stream is treated.
fn manner(snapshot: &Snapshot, exchange: &Exchange) -> Manner {
    let config = &snapshot.config;
    Manner { keepalive: config.server.keepalive, audience: audience(exchange, config.error_compat) }
}

/// The only place where an error becomes a response.
pub(crate) fn error_response(
    error: Error,
    compat: ErrorCompat,
    shows_upstream: bool,
    mut exchange: Box<Exchange>,
) -> Response<Body> {
    let status = openai::error_status(&error, compat);
    let mut headers = json_headers();
    if let ErrorKind::MethodNotAllowed(allowed) = &error.kind {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let value = HeaderValue::try_from(names.join(", ")).expect("method names are valid header values");
        headers.insert(header::ALLOW, value);
    }
    if error.kind == ErrorKind::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = error.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    if let ErrorKind::Rejected(refusal) = &error.kind {
        headers.extend(refusal.headers.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if matches!(error.kind, ErrorKind::RequestTooLarge | ErrorKind::RequestTimeout) {
        // The rest of the body is not going to be read.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    exchange.answer(status, &headers);
    let last = exchange.attempts.last().filter(|_| shows_upstream).map(|attempt| &*attempt.upstream);
    describe(&exchange, last, &mut headers);
    let body = audience(&exchange, compat).body(&error);
    exchange.fail(error);
    let mut response = Response::new(Body::from_bytes(body).ending(exchange));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The headers of the gateway's own JSON answers.
pub(crate) fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// Says who answered, after how many attempts, and how long the gateway itself took.
fn describe(exchange: &Exchange, upstream: Option<&str>, headers: &mut HeaderMap) {
    if let Some(Ok(name)) = upstream.map(HeaderValue::from_str) {
        headers.insert(X_UPSTREAM, name);
    }
    headers.insert(X_ATTEMPTS, HeaderValue::from(exchange.attempts.len()));
    if let Some(permit) = &exchange.permit {
        permit.describe(headers);
    }
    let own_us = exchange.overhead.as_micros();
    let timing = HeaderValue::try_from(format!("gw;dur={}.{:03}", own_us / 1000, own_us % 1000));
    headers.append(SERVER_TIMING, timing.expect("digits are a valid header value"));
    for (name, took) in exchange.plugins() {
        let us = took.as_micros();
        let timing = HeaderValue::try_from(format!("plugin-{name};dur={}.{:03}", us / 1000, us % 1000));
        headers.append(
            SERVER_TIMING,
            timing.expect("a plugin's name has lowercase letters, digits and hyphens"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_outcome_and_not_the_end() {
        assert_eq!(caught(pin!(async { 1 })).await, Some(1));
        let work = async {
            tokio::task::yield_now().await;
            panic!("a defect")
        };
        assert_eq!(caught::<()>(pin!(work)).await, None);
    }

    #[test]
    fn a_body_has_to_arrive_at_a_pace() {
        let began = Instant::now();
        let (half, end) = (began + UPLOAD_IDLE_MAX / 2, began + UPLOAD_IDLE_MAX);
        let mut pace = Pace::begin(0, began);
        for len in [1, 2, UPLOAD_STEP - 1] {
            pace.note(len, half);
            assert_eq!(pace.due, end, "{len} bytes are no reason to wait longer");
        }
        pace.note(5 * UPLOAD_STEP, half);
        assert_eq!(pace.due, half + UPLOAD_IDLE_MAX);
        pace.note(6 * UPLOAD_STEP - 1, end);
        assert_eq!(pace.due, half + UPLOAD_IDLE_MAX, "what came early does not count twice");
        pace.note(6 * UPLOAD_STEP, end);
        assert_eq!(pace.due, end + UPLOAD_IDLE_MAX);
    }

    #[test]
    fn a_known_endpoint_is_seen_however_it_is_written() {
        for path in [
            "/v1//chat/completions",
            "/v1/Chat/Completions",
            "/v1/chat%2fcompletions",
            "/v1/chat/completions/",
            "/v1/%63hat/completions",
        ] {
            assert!(Endpoint::of(&plain(path)).is_some(), "{path}");
        }
        for path in ["/v1/files", "/v1/chat", "/v1/chat%/completions"] {
            assert!(Endpoint::of(&plain(path)).is_none(), "{path}");
        }
    }

    #[test]
    fn a_path_cannot_lead_upwards_in_any_encoding() {
        for path in ["..", "a/../b", "./a", "%2e%2e/a", "..%2fadmin", "a%5c..%5Cb", ".%2E", "a/%2e"] {
            assert!(has_dots(path), "{path}");
        }
        for path in ["files/a.txt", "a..b/c", "...", "files/%2ehidden"] {
            assert!(!has_dots(path), "{path}");
        }
    }
}
