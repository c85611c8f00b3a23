//! One connection for everything, kept open: watched while it is there, opened again with growing pauses when it is lost.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult, Script, ScriptInvocation, Value,
};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::shared::script;

/// How long anything may wait for an answer: so much and no more a slow server holds up a request.
const RESPONSE_TIME_MAX: Duration = Duration::from_millis(100);
/// So much longer it may take to hand on an answer that is there: a process that was given no processor for a while finds
/// the time over and the answer at the same moment.
const HANDOVER_TIME_MAX: Duration = Duration::from_millis(5);
/// How long an answer is waited for that holds nobody up any more.
const LATE_TIME_MAX: Duration = Duration::from_secs(300);
/// How long connecting may take, TLS and the first answers included.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// So many steps in a row without a good answer, and the connection counts as lost: one may be an accident.
const MISSES_MAX: u32 = 3;
/// How often the server is asked whether it is there.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The pause before the first try to connect again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A connection that lived so long was good: the next pause is short again.
const STEADY_TIME: Duration = Duration::from_secs(10);
/// Steps that wait to be written; more wait in their own tasks.
const WRITTEN_AHEAD_MAX: usize = 1024;
/// Where gateways tell each other something.
pub(crate) const CHANNEL: &str = "witgate:hints";
/// What the probe writes.
const PROBE_KEY: &str = "witgate:probe";
/// How long that stays, in milliseconds.
const PROBE_LIFE_MS: u64 = 10_000;

/// The way to the server.
pub(crate) struct Connection {
    client: Client,
    link: ArcSwapOption<Link>,
    condition: watch::Sender<Condition>,
    probe: Script,
    heard: Arc<OnceLock<Listener>>,
    connected: AtomicU64,
    lost: AtomicU64,
    failures: AtomicU64,
}

/// Is told what other gateways say in [`CHANNEL`]; it must not block.
type Listener = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Whether the server can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nobody has tried to the end yet.
    Unknown,
    /// It can.
    Connected,
    /// It cannot.
    Lost,
}

/// Why a step was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// The server is not connected: nothing was sent.
    Lost,
    /// The server did not answer in time or with an error: whether the step was done is not known.
    NoAnswer,
}

/// How the connection has fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether the server can be reached.
    pub(crate) is_up: bool,
    /// Times that it was connected.
    pub(crate) connected: u64,
    /// Times that it was lost, the first try to connect included if that failed.
    pub(crate) lost: u64,
    /// Steps that it did not answer well.
    pub(crate) failures: u64,
}

/// One connection while it lives.
struct Link {
    commands: MultiplexedConnection,
    /// Steps in a row without a good answer.
    misses: AtomicU32,
    /// It is of no more use.
    broken: CancellationToken,
}

impl Connection {
    /// A way to the server of this URL, not connected yet.
    ///
    /// # Errors
    ///
    /// A message when the URL cannot be used.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let unusable = |error: RedisError| format!("`state` cannot be used: {error}");
        let info = url.into_connection_info().map_err(unusable)?;
        // The third version of the protocol lets messages of other gateways come by the same connection.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = TcpSettings::default().set_nodelay(true);
        let client =
            Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp)).map_err(unusable)?;
        Ok(Self {
            client,
            link: ArcSwapOption::empty(),
            condition: watch::Sender::new(Condition::Unknown),
            probe: script::new(include_str!("probe.lua")),
            heard: Arc::default(),
            connected: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// Lets `heard` know what comes by [`CHANNEL`]; the first caller alone is heeded.
    pub(super) fn on_message(&self, heard: impl Fn(&[u8]) + Send + Sync + 'static) {
        let _ = self.heard.set(Box::new(heard));
    }

    /// Runs a script on the server.
    ///
    /// Takes at most a tenth of a second, and no time while the server is lost. Dropping the future does not take back
    /// what was sent.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub(crate) async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, Unavailable> {
        let link = self.link()?;
        self.judge(link.run(call).await)
    }

    /// Runs a script to its end: an answer that nobody waits for any more, because it comes too late or because the future
    /// was dropped, is given to `read` all the same, and what that makes of it is dropped.
    ///
    /// # Errors
    ///
    /// Why there is no answer yet.
    pub(super) async fn run_to_end<T, U>(
        &self,
        call: ScriptInvocation<'static>,
        read: impl FnOnce(RedisResult<T>) -> RedisResult<U> + Send + 'static,
    ) -> Result<U, Unavailable>
    where
        T: FromRedisValue + Send + 'static,
        U: Send + 'static,
    {
        let link = self.link()?;
        self.judge(link.run_to_end(call, read).await)
    }

    fn link(&self) -> Result<Arc<Link>, Unavailable> {
        self.link.load_full().filter(|link| !link.broken.is_cancelled()).ok_or(Unavailable::Lost)
    }

    fn judge<T>(&self, answered: Result<T, String>) -> Result<T, Unavailable> {
        answered.map_err(|fault| {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(fault, "a step on the shared state was not answered");
            Unavailable::NoAnswer
        })
    }

    /// How it has fared.
    pub(crate) fn health(&self) -> Health {
        Health {
            is_up: self.condition() == Condition::Connected,
            connected: self.connected.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Whether the server can be reached.
    pub(crate) fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    /// Tells every change of that.
    pub(super) fn changes(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// Lets those who wait for a change look again.
    pub(super) fn announce(&self) {
        self.condition.send_modify(|_| {});
    }

    /// Waits until the first try to connect is over.
    pub(super) async fn tried(&self) {
        // It holds the sender itself, so that it cannot end.
        let _ = self.changes().wait_for(|condition| *condition != Condition::Unknown).await;
    }

    /// Keeps the connection open, for ever. Dropping the future leaves it as it is.
    pub(super) async fn keep(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.open().await {
                Ok(link) => {
                    let since = Instant::now();
                    let broken = link.broken.clone();
                    let link = Arc::new(link);
                    self.link.store(Some(link.clone()));
                    self.enter(Condition::Connected, "");
                    let fault = self.watch(&link).await;
                    broken.cancel();
                    self.link.store(None);
                    self.enter(Condition::Lost, &fault);
                    if since.elapsed() >= STEADY_TIME {
                        pause = PAUSE_MIN;
                    }
                }
                Err(fault) => self.enter(Condition::Lost, &fault),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Notes a change, and logs it if it is one.
    fn enter(&self, next: Condition, fault: &str) {
        if self.condition() == next {
            return;
        }
        match next {
            Condition::Unknown => {}
            Condition::Connected => {
                self.connected.fetch_add(1, Ordering::Relaxed);
                tracing::info!("the shared state is connected");
            }
            Condition::Lost => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    fault,
                    "the shared state cannot be reached: this gateway goes on by itself, and its limits hold for it alone"
                );
            }
        }
        // Last: who waits for a change finds it counted.
        self.condition.send_replace(next);
    }

    /// Connects, listens, and tries whether everything can be done that will be wanted.
    async fn open(&self) -> Result<Link, String> {
        let opened = tokio::time::timeout(CONNECT_TIME_MAX, self.open_link()).await;
        opened.map_err(|_| "it took too long to connect".to_owned())?.map_err(|error| error.to_string())
    }

    async fn open_link(&self) -> RedisResult<Link> {
        let broken = CancellationToken::new();
        let (heard, ended) = (self.heard.clone(), broken.clone());
        let told = move |push: PushInfo| {
            tell(&heard, &ended, &push);
            Ok::<(), ()>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIME_MAX))
            // Steps have their own time.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WRITTEN_AHEAD_MAX)
            .set_push_sender(told);
        let mut commands = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        commands.subscribe(CHANNEL).await?;
        self.probe_call().invoke_async::<i64>(&mut commands).await?;
        Ok(Link { commands, misses: AtomicU32::new(0), broken })
    }

    /// Waits until a connection is of no more use, and says why.
    async fn watch(&self, link: &Link) -> String {
        let mut fault = "the connection was closed".to_owned();
        loop {
            tokio::select! {
                () = link.broken.cancelled() => return fault,
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
            }
            if let Err(missed) = link.run::<i64>(&self.probe_call()).await {
                self.failures.fetch_add(1, Ordering::Relaxed);
                fault = missed;
            }
        }
    }

    fn probe_call(&self) -> ScriptInvocation<'_> {
        let mut call = self.probe.prepare_invoke();
        call.key(PROBE_KEY).arg(script::time(None)).arg(PROBE_LIFE_MS);
        call
    }
}

impl Link {
    async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, String> {
        let mut commands = self.commands.clone();
        self.judge(in_time(call.invoke_async(&mut commands)).await)
    }

    async fn run_to_end<T, U>(
        &self,
        call: ScriptInvocation<'static>,
        read: impl FnOnce(RedisResult<T>) -> RedisResult<U> + Send + 'static,
    ) -> Result<U, String>
    where
        T: FromRedisValue + Send + 'static,
        U: Send + 'static,
    {
        let mut commands = self.commands.clone();
        let (sender, answer) = oneshot::channel();
        tokio::spawn(async move {
            let answered = tokio::time::timeout(LATE_TIME_MAX, call.invoke_async(&mut commands)).await;
            let answered = answered.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            // It comes back where nobody waits for it, and goes with the channel where somebody has just left.
            drop(sender.send(read(answered)));
        });
        // A task that is gone gives no answer.
        self.judge(in_time(answer).await.and_then(Result::ok))
    }

    /// Notes whether there was a good answer.
    fn judge<T>(&self, answered: Option<RedisResult<T>>) -> Result<T, String> {
        let fault = match answered {
            Some(Ok(value)) => {
                self.misses.store(0, Ordering::Relaxed);
                return Ok(value);
            }
            Some(Err(error)) => {
                if error.is_unrecoverable_error() {
                    self.broken.cancel();
                }
                error.to_string()
            }
            None => format!("no answer within {RESPONSE_TIME_MAX:?}"),
        };
        if self.misses.fetch_add(1, Ordering::Relaxed) + 1 >= MISSES_MAX {
            self.broken.cancel();
        }
        Err(fault)
    }
}

/// An answer; none if it does not come in time.
async fn in_time<F: Future>(answer: F) -> Option<F::Output> {
    let mut answer = pin!(answer);
    if let Ok(answered) = tokio::time::timeout(RESPONSE_TIME_MAX, answer.as_mut()).await {
        return Some(answered);
    }
    tokio::time::timeout(HANDOVER_TIME_MAX, answer).await.ok()
}

/// Passes on what the server says by itself.
fn tell(heard: &OnceLock<Listener>, ended: &CancellationToken, push: &PushInfo) {
    match (&push.kind, push.data.as_slice()) {
        (PushKind::Disconnection, _) => ended.cancel(),
        (PushKind::Message, [Value::BulkString(_), Value::BulkString(message)]) => {
            if let Some(heard) = heard.get() {
                heard(message);
            }
        }
        _ => {}
    }
}
