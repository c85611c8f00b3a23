//! Which upstreams another gateway has found to be down.
//!
//! A gateway that tells it does so once: the others that run hear it at once, and those that connect later read it, until
//! its time is over. A hint that is lost costs the others what it cost the first to find out.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::str;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::{Script, ScriptInvocation};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::shared::connection::{CHANNEL, Condition, Connection};
use crate::shared::script;

/// The upstreams that are down, by when that is over.
const KEY: &str = "witgate:down";
/// Upstreams that the server keeps, and that are read from it.
const UPSTREAMS_MAX: u64 = 1000;
/// Hints that wait to be sent.
const WAITING_MAX: usize = 1000;
/// What is heard of an upstream holds at most so long: a mistake of another gateway passes.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// What gateways tell each other of upstreams.
pub(crate) struct Hints {
    connection: Arc<Connection>,
    gateway: Arc<str>,
    outgoing: mpsc::Sender<Hint>,
    listener: Arc<Listener>,
}

/// An upstream is down.
struct Hint {
    upstream: String,
    until: Instant,
}

/// Who wants to know, once somebody does.
type Listener = OnceLock<Box<dyn Fn(&str, Duration) + Send + Sync>>;

impl Hints {
    /// Hints by this connection; the task that sends and reads them is added to `tasks`.
    pub(super) fn new(connection: Arc<Connection>, tasks: &mut JoinSet<()>) -> Self {
        let (outgoing, waiting) = mpsc::channel(WAITING_MAX);
        let gateway: Arc<str> = format!("{:016x}", RandomState::new().hash_one("witgate")).into();
        let listener = Arc::<Listener>::default();
        tasks.spawn(send(connection.clone(), gateway.clone(), waiting));
        tasks.spawn(read_known(connection.clone(), listener.clone()));
        Self { connection, gateway, outgoing, listener }
    }

    /// Tells the other gateways that an upstream is down for so long. Does not wait; while the server is lost a bounded
    /// number of hints is kept, and what is over by then is not told.
    pub(crate) fn tell(&self, upstream: &str, time: Duration) {
        let hint = Hint { upstream: upstream.to_owned(), until: Instant::now() + time.min(TIME_MAX) };
        // Nothing is owed to the others.
        let _ = self.outgoing.try_send(hint);
    }

    /// Lets `heard` know of upstreams that are down for so long, also of those that other gateways told of before. The
    /// first caller alone is heeded; `heard` must not block, and may hear of an upstream more than once.
    pub(crate) fn listen(&self, heard: impl Fn(&str, Duration) + Send + Sync + 'static) {
        if self.listener.set(Box::new(heard)).is_err() {
            return;
        }
        let (own, listener) = (self.gateway.clone(), self.listener.clone());
        self.connection.on_message(move |message| {
            if let Some((gateway, upstream, time)) = read(message)
                && gateway != &*own
                && let Some(heard) = listener.get()
            {
                heard(upstream, time);
            }
        });
        // What is known already is read by the task at the next change; this is one.
        self.connection.announce();
    }
}

/// Reads a message: who tells, of which upstream, for how long.
fn read(message: &[u8]) -> Option<(&str, &str, Duration)> {
    let (gateway, rest) = str::from_utf8(message).ok()?.split_once(' ')?;
    let (ms, upstream) = rest.split_once(' ')?;
    let time = Duration::from_millis(ms.parse().ok()?).min(TIME_MAX);
    (!upstream.is_empty() && !time.is_zero()).then_some((gateway, upstream, time))
}

async fn send(connection: Arc<Connection>, gateway: Arc<str>, mut waiting: mpsc::Receiver<Hint>) {
    let tell = script::new(include_str!("tell.lua"));
    let mut changes = connection.changes();
    while let Some(Hint { upstream, until }) = waiting.recv().await {
        if changes.wait_for(|condition| *condition == Condition::Connected).await.is_err() {
            return;
        }
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            // One that is not answered is not repeated: the others find out by themselves.
            let _ = connection.run::<i64>(&tell_call(&tell, &gateway, &upstream, left)).await;
        }
    }
}

fn tell_call<'script>(
    tell: &'script Script,
    gateway: &str,
    upstream: &str,
    left: Duration,
) -> ScriptInvocation<'script> {
    // A part of a millisecond would be none.
    let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut call = tell.prepare_invoke();
    call.key(KEY).arg(script::time(None)).arg(CHANNEL).arg(gateway).arg(ms).arg(upstream).arg(UPSTREAMS_MAX);
    call
}

/// Reads what was told before, every time that the server has been connected.
async fn read_known(connection: Arc<Connection>, listener: Arc<Listener>) {
    let known = script::new(include_str!("known.lua"));
    let mut changes = connection.changes();
    loop {
        if let Some(heard) = listener.get().filter(|_| connection.condition() == Condition::Connected) {
            let mut call = known.prepare_invoke();
            call.key(KEY).arg(script::time(None));
            let answer = connection.run::<Vec<(String, u64)>>(&call).await.unwrap_or_default();
            for (upstream, ms) in answer.iter().filter(|(_, ms)| *ms > 0) {
                heard(upstream, Duration::from_millis(*ms).min(TIME_MAX));
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(message: &str, expected: Option<(&str, &str, u64)>) {
        let read = read(message.as_bytes()).map(|(from, upstream, time)| (from, upstream, time.as_millis()));
        assert_eq!(read, expected.map(|(from, upstream, ms)| (from, upstream, u128::from(ms))), "{message}");
    }

    #[test]
    fn a_message_is_a_gateway_a_time_and_an_upstream() {
        check("one 1000 a", Some(("one", "a", 1000)));
        check("one 1000 a b", Some(("one", "a b", 1000)));
        check("one 99999999999 a", Some(("one", "a", 3_600_000)));
        check("one 0 a", None);
        check("one -1 a", None);
        check("one 1000 ", None);
        check("one 1000", None);
        check("", None);
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(message in proptest::collection::vec(any::<u8>(), 0..60)) {
            let time = read(&message).map(|(_, _, time)| time);
            prop_assert!(time.is_none_or(|time| time <= TIME_MAX));
        }
    }
}
