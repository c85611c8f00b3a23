//! witgate: a language-model gateway that operators extend with WebAssembly components.
//!
//! This page is the architecture. The library holds everything; the binary is a page.
//!
//! # The path of a request
//!
//! ```text
//! server    accepts within bounds, TLS, HTTP/1.1 or HTTP/2, first head in time
//! gateway   handle: one exchange begins; every error and every panic becomes a response here
//!           respond, top to bottom:
//!             cors, health     what is answered without an upstream
//!             auth             the gateway's keys, tokens and plugins say who is calling; the credential leaves the headers
//!             claim            the request itself, and its place among its caller's, are claimed of the caller's limits
//!             wire::Endpoint   path -> endpoint; an unknown path goes to the default upstream or is a 404
//!             models           the merged list of models
//!             read_job         the body, within the limits; wire reads it once: routing view and places to edit
//!             on-request       the plugins that match, in order: they edit, answer or refuse
//!             claim            the tokens that it is expected to use, and what they cost, are claimed too
//!             admit            a place in the gateway, which the exchange holds to its end, or a fair wait for one
//!             dispatch         route ranks the candidates, plugins may reorder them; one attempt after another until one
//!                              has answered, each shown to the plugins before and after
//!             stages           plugins say whether they want the text or the events of the answer
//! stream    the body of the response: upstream bytes -> events -> plugins -> client bytes; owns the exchange to its end
//! exchange  is dropped, whatever happened: that is the end, once: counted, logged, traced, told to the plugins that want
//!           to know, and handed to the audit
//! ```
//!
//! # Code map, in reading order
//!
//! | module | what it is |
//! |---|---|
//! | `cli` | one file a subcommand, thin |
//! | `server` | listeners, connections, drain |
//! | `gateway` | the life of one request; the only module that knows all others |
//! | `stream` | bodies of responses |
//! | `exchange` | the facts of one request |
//! | `recording` | what of an exchange is kept for its record: headers without secrets, the request, the answer |
//! | `audit` | the record of every exchange: queue, writer, files, and how they are read |
//! | `metrics` | what is counted of everything, and the page that tells it |
//! | `log`, `traces` | the log, the access log and their files; spans for a collector |
//! | `snapshot`, `reload` | everything built from one configuration, and how it is replaced while serving |
//! | [`route`] | model and prompt -> ranked upstreams; pure |
//! | `limit` | what callers may use and have used: windows, budgets, places |
//! | `auth`, `cors`, `headers`, `health`, `models`, `admin`, `tls` | what their names say |
//! | `upstream` | one upstream: pool and connections; a `job` to be sent, its `translation` for one that speaks another dialect, the `reply` to it, and `dispatch`, the attempts of one request, with `commit`, up to where a stream may still be given up, and `hedge`, two at once; `breaker`, `keys`, `health` and `retries` say who may be asked at all |
//! | `shared` | what several gateways share through one Redis server |
//! | `plugin` | components: engine, instances, hooks, grants, faults; its page says more |
//! | [`wire`] | dialects: endpoints, the JSON scanner, requests, answers, event streams, `convert` between them; pure |
//! | [`chat`] | the hub: the neutral vocabulary between dialects |
//! | [`config`] | text -> checked configuration, every problem at once; pure |
//! | [`error`] | the one error of the request path |
//! | `client_address` | where a client is behind trusted proxies; pure |
//! | `compression` | answers made smaller for who asks for it |
//! | `calendar`, `moment`, `percent` | dates and days; points in time as people write them; percent-encoding undone |
//! | [`builtin`] | the first-party plugins, compiled by the build script |
//!
//! # What is deliberately absent
//!
//! Nothing outside `plugin` names a type of wasmtime, and `plugin` knows no upstream.
//! `wire`, `chat`, `route` and `config` import no tokio, no hyper and no clock: bytes and values in, values out.
//! Nothing outside `wire` names a vendor's JSON field. `exchange` is written by many and read by none of the logic.
//! There is no global state but the tracing subscriber, and no `unsafe`.
//!
//! # Decisions
//!
//! **Bodies are spliced, not rebuilt.** One pass over a request's bytes validates them and notes where the few edits
//! go that a configuration can ask for; what is sent upstream is the client's bytes around small inserts, without a
//! copy. Answers and events are treated the same way, which is what keeps number text, key order and unknown fields.
//!
//! **What differs in dialect goes through one hub** ([`chat`]): each dialect is read into it and written from it, so that a
//! further one costs its own words and no pairs. It is our vocabulary and no vendor's; what it has no word for rides along for the
//! surface it came from. A request is put into an upstream's words for each attempt and then edited as a native one, so that what an
//! operator configures is spliced in one place; a stream is watched in the upstream's words before it is converted, so that the
//! commit point, usage and breakers know one grammar a dialect. What a target cannot say is a row of its table, and the code that
//! leaves it out asks the table.
//!
//! **A vendor's proofs travel through foreign clients under the vendor's name.** Signatures of thinking are `SURFACE#value` to a client
//! of another dialect, so that a conversation that moves between upstreams never shows one vendor another's.
//!
//! **The exchange drives its upstream connection.** An HTTP/1.1 connection has no task of its own: the task that serves
//! the client polls it. Nothing is handed between tasks for each event, everything readable is joined before the
//! client is written to, and dropping the exchange closes the connection, so a client's departure reaches the
//! upstream in the same moment. An idle connection that its peer has closed is noticed when it is taken.
//!
//! **The pool is ours, not hyper-util's**, because it has to know whether a byte of a request was sent: only what was
//! certainly not sent is ever sent again to the same upstream, or what it refused because of the key it came with.
//!
//! **A stream is the client's from its first content on.** Until then its pieces are held, as they will be sent, and an error,
//! an end or a silence in it is a failure that another candidate can mend; the filter that looks for content is the one
//! that goes on with the stream. An error in the place of an answer is the answer its codes stand for.
//!
//! **What a client does wrong while it uploads is the client's fault**, though it shows as a broken connection to the
//! upstream: the part of a body that is passed on while it arrives remembers it, and no upstream is marked for it.
//!
//! **Futures are kept small.** A future is as large as the largest thing it may ever wait for, and it is moved and
//! zeroed and cached whole. What most requests pass by (connecting, forms, lists) is boxed where it begins.
//!
//! **Changes of files are found by content**, five times a second, not by file events: rename, rewrite in place, swapped
//! symbolic links and mounted single files are then the same case, and a half-written file is never read. A file over a
//! mebibyte, which only a plugin is, would take too long to read that often: it is known by its inode, length and times.
//!
//! **A hook borrows the exchange.** What a hook may see and edit is moved into the plugin's store for the time of the call
//! and out again after; the first edit keeps what was before, so that a fault leaves no trace. Documents are edited by
//! splicing: an edit costs one copy of the bytes, a reading none.
//!
//! **Text goes through plugins once.** Neighbouring plugins for text share one pass: the text of all events of a read is
//! taken out as one batch, shown to each that is awake, and put back into the events it came from; where nobody changed
//! anything the very bytes go on. What ends an answer waits until the plugins have finished, so that text they withheld
//! stands before it.
//!
//! **Time in a plugin is counted in ticks** of a millisecond that it really ran, by an epoch callback which also lets other
//! tasks of the thread run; a wall clock beside it bounds what it waits for. The ticker sleeps when nothing is called.
//!
//! **An instance is poisoned until proven clean.** A call that did not return leaves a store unusable, whatever the cause;
//! only after a return may the instance be called, or kept, again.
//!
//! **A body that is dropped tells its plugins.** A client that leaves drops the response in the middle; the plugins'
//! `finish` and the end of the exchange then happen in a task of their own.
//!
//! **A caller's key is hashed once and looked up**, whatever the number of keys. What is compared are HMACs under a secret that
//! callers do not know, in constant time besides, so that no answer tells how near a guess was; and a stolen configuration
//! lets nobody in. A token's algorithm follows from the key that its issuer published, never from the token alone.
//!
//! **A place in the audit's queue is taken before a request is dispatched**, so that ending an exchange never waits and
//! nothing is lost: whoever would overflow the queue waits in front of the upstream, where nothing has been spent yet.
//! The queue is ours: rows and bytes are counted, a batch is taken whole, and one thread writes it.
//!
//! **A place is counted without a lock, and waited for with one.** Who finds a place pays two atomic steps; only who finds
//! none stands in the line, under one lock for the gateway and all upstreams, so that a request can wait for several
//! upstreams and take the first; while it does, its place in the gateway is for others. Callers take turns, and in a full line the one with the most makes room for others.
//!
//! **A stream's answer is put together for the record as it goes**, in steps of 16 KiB: a copy of the bytes is all that the
//! stream itself pays for each event, and a thousand long streams do not hold their events twice.
//!
//! **A row's key is its time.** Microseconds of the start and a running number make one integer, known before anything is
//! written: rows of a period are a range of keys, labels that come later find their row and its file by it.
//!
//! **Limits are claimed before and settled after.** A request claims its prompt and the most its answer may be, so that a
//! hundred requests at once cannot each take the last token; at the end the claim becomes what was used. Claims on all
//! meters of a request are one step, under one lock that is held for a few look-ups.
//!
//! **Metrics are counted by handles of our own** and written by prometheus-client: its families lock at every step. What can
//! be derived is derived when it is asked for: the names of earlier systems, the state of upstreams, plugins and the audit.
//!
//! **What an operator says of an upstream at run time makes a snapshot of its own**: routing asks nothing per request, and a
//! reload of the file keeps it until it is taken back.
//!
//! **Gateways share by scripts on the server.** A set of claims, an operation of a plugin's memory and a hint are one script
//! each, which goes by the server's clock: gateways cannot get between each other, and their clocks need not agree. Every
//! step has a tenth of a second; a server that does not answer is lost, and a lost one costs a request nothing.
//!
//! **The YAML tree is built from parser events** (saphyr-parser) and not through serde: positions, quoting and all
//! problems at once need the tree.

mod admin;
mod audit;
mod auth;
mod budget;
pub mod builtin;
mod calendar;
pub mod chat;
pub mod cli;
mod client_address;
mod compression;
pub mod config;
mod cors;
pub mod error;
mod exchange;
mod gateway;
mod headers;
mod health;
mod limit;
mod log;
mod metrics;
mod models;
mod moment;
mod percent;
mod plugin;
mod recording;
mod reload;
pub mod route;
mod server;
mod shared;
mod snapshot;
mod stream;
mod tls;
mod traces;
mod upstream;
pub mod wire;

#[doc(hidden)]
pub use crate::metrics::recording as metrics_recording;
