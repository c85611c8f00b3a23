//! A plugin's memory on the server that gateways share: as [`Store`](crate::plugin::kv::Store), for all gateways at once.
//!
//! A plugin's values, deadlines and bytes are three keys; each operation is one step of a script.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Script, ScriptInvocation};

use crate::plugin::kv::{ENTRY_BYTES, Error, Usage};
use crate::shared::connection::{Connection, Unavailable};
use crate::shared::script;

/// A time to live that is longer is for ever: the server counts milliseconds in doubles.
const LIFE_MS_MAX: u64 = 1 << 52;

/// The memory of one plugin on the server.
pub(super) struct Remote {
    connection: Arc<Connection>,
    script: Script,
    keys: [String; 3],
    /// The time that a test goes by, in milliseconds since 1970; none is the server's.
    now_ms: Option<u64>,
    seen: Seen,
}

/// What the answers said last.
#[derive(Default)]
struct Seen {
    entries: AtomicU64,
    bytes: AtomicU64,
    expired: AtomicU64,
    refused: AtomicU64,
}

/// What the script answers: how it went, the value, entries, bytes, and entries that were found expired.
type Answer = (u8, Option<Vec<u8>>, u64, u64, u64);

/// What an operation comes to: outer, the server did not answer; inner, it refused.
type Outcome<T> = Result<Result<T, Error>, Unavailable>;

// How it went, by the script.
const DONE: u8 = 0;
const TOO_LARGE: u8 = 1;
const NOT_A_NUMBER: u8 = 2;
const OTHER_VALUE: u8 = 3;

impl Remote {
    /// The memory of the plugin of this name.
    pub(super) fn new(plugin: &str, connection: Arc<Connection>) -> Self {
        let keys = ["values", "deadlines", "bytes"].map(|part| format!("witgate:kv:{{{plugin}}}:{part}"));
        let script = script::new(include_str!("remote.lua"));
        Self { connection, script, keys, now_ms: None, seen: Seen::default() }
    }

    /// Whether the server can be reached.
    pub(super) fn is_up(&self) -> bool {
        self.connection.health().is_up
    }

    /// How often it was lost.
    pub(super) fn losses(&self) -> u64 {
        self.connection.health().lost
    }

    /// How full it was when the server answered last; what expired and was refused is what this process was told.
    pub(super) fn usage(&self, bytes_max: u64) -> Usage {
        let Seen { entries, bytes, expired, refused } = &self.seen;
        Usage {
            entries: usize::try_from(entries.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
            bytes: bytes.load(Ordering::Relaxed),
            bytes_max,
            expired: expired.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
        }
    }

    pub(super) async fn get(&self, key: &str, bytes_max: u64) -> Outcome<Option<Vec<u8>>> {
        self.ask(&self.call("get", key, bytes_max), bytes_max).await.map(|done| done.map(|(_, value)| value))
    }

    pub(super) async fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        bytes_max: u64,
    ) -> Outcome<()> {
        let mut call = self.call("set", key, bytes_max);
        call.arg(value).arg(life(ttl));
        self.ask(&call, bytes_max).await.map(|done| done.map(drop))
    }

    pub(super) async fn delete(&self, key: &str, bytes_max: u64) -> Outcome<()> {
        self.ask(&self.call("delete", key, bytes_max), bytes_max).await.map(|done| done.map(drop))
    }

    pub(super) async fn add(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<Duration>,
        bytes_max: u64,
    ) -> Outcome<i64> {
        let mut call = self.call("add", key, bytes_max);
        call.arg(delta).arg(life(ttl));
        let sum = |value: Option<Vec<u8>>| str::from_utf8(&value?).ok()?.parse().ok();
        match self.ask(&call, bytes_max).await? {
            Ok((_, value)) => sum(value).map(Ok).ok_or(Unavailable::NoAnswer),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(super) async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        bytes_max: u64,
    ) -> Outcome<bool> {
        let mut call = self.call("compare-and-set", key, bytes_max);
        call.arg(value).arg(u8::from(expected.is_some())).arg(expected.unwrap_or_default());
        self.ask(&call, bytes_max).await.map(|done| done.map(|(is_same, _)| is_same))
    }

    fn call(&self, operation: &str, key: &str, bytes_max: u64) -> ScriptInvocation<'_> {
        let mut call = self.script.prepare_invoke();
        self.keys.iter().for_each(|key| {
            call.key(key);
        });
        call.arg(script::time(self.now_ms)).arg(operation).arg(bytes_max).arg(ENTRY_BYTES).arg(key);
        call
    }

    /// Runs an operation: whether the value was the expected one, and the value.
    async fn ask(&self, call: &ScriptInvocation<'_>, bytes_max: u64) -> Outcome<(bool, Option<Vec<u8>>)> {
        let (state, value, entries, bytes, expired): Answer = self.connection.run(call).await?;
        self.seen.entries.store(entries, Ordering::Relaxed);
        self.seen.bytes.store(bytes, Ordering::Relaxed);
        self.seen.expired.fetch_add(expired, Ordering::Relaxed);
        match state {
            DONE => Ok(Ok((true, value))),
            OTHER_VALUE => Ok(Ok((false, None))),
            TOO_LARGE => {
                self.seen.refused.fetch_add(1, Ordering::Relaxed);
                Ok(Err(Error::TooLarge { bytes_max }))
            }
            NOT_A_NUMBER => Ok(Err(Error::NotANumber)),
            _ => Err(Unavailable::NoAnswer),
        }
    }
}

/// A time to live in milliseconds; -1 is for ever.
fn life(ttl: Option<Duration>) -> i64 {
    let ms = ttl.and_then(|ttl| u64::try_from(ttl.as_millis()).ok()).filter(|ms| *ms <= LIFE_MS_MAX);
    ms.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::plugin::kv::Store;
    use crate::shared::tests::{Server, connected, property};

    /// What an operation came to, to be compared.
    #[derive(Debug, PartialEq)]
    enum Came {
        Value(Option<Vec<u8>>),
        Done(Result<(), Error>),
        Sum(Result<i64, Error>),
        Was(Result<bool, Error>),
    }

    #[derive(Clone, Debug)]
    enum Step {
        Get,
        Set(Vec<u8>, Option<u64>),
        Delete,
        Add(i64, Option<u64>),
        /// The value, and whether what is there is expected.
        Swap(Vec<u8>, bool),
    }

    const BYTES_MAX: u64 = 600;

    fn value() -> impl Strategy<Value = Vec<u8>> {
        let numbers = ["0", "7", "-7", "007", "+5", "-0", "-", "", " 1", "1.0", "9223372036854775807"];
        let more = ["-9223372036854775808", "9223372036854775808", "00000000000000000000012", "1e3"];
        let texts = proptest::sample::select([numbers.as_slice(), more.as_slice()].concat());
        prop_oneof![
            texts.prop_map(|text| text.as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..300),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        let life = || proptest::option::of(0_u64..2000);
        let delta = prop_oneof![-3_i64..3, Just(i64::MAX), Just(i64::MIN)];
        prop_oneof![
            Just(Step::Get),
            (value(), life()).prop_map(|(value, life)| Step::Set(value, life)),
            Just(Step::Delete),
            (delta, life()).prop_map(|(delta, life)| Step::Add(delta, life)),
            (value(), any::<bool>()).prop_map(|(value, is_expected)| Step::Swap(value, is_expected)),
        ]
    }

    async fn there(remote: &Remote, key: &str, step: &Step, expected: Option<&[u8]>) -> Came {
        let life = |ms: &Option<u64>| ms.map(Duration::from_millis);
        let answered = "the server answers";
        match step {
            Step::Get => Came::Value(remote.get(key, BYTES_MAX).await.expect(answered).expect("it is read")),
            Step::Set(value, ms) => {
                Came::Done(remote.set(key, value, life(ms), BYTES_MAX).await.expect(answered))
            }
            Step::Delete => Came::Done(remote.delete(key, BYTES_MAX).await.expect(answered)),
            Step::Add(delta, ms) => {
                Came::Sum(remote.add(key, *delta, life(ms), BYTES_MAX).await.expect(answered))
            }
            Step::Swap(value, _) => {
                Came::Was(remote.compare_and_set(key, expected, value, BYTES_MAX).await.expect(answered))
            }
        }
    }

    fn here(store: &Store, key: &str, step: &Step, expected: Option<&[u8]>, now: Instant) -> Came {
        let life = |ms: &Option<u64>| ms.map(Duration::from_millis);
        match step {
            Step::Get => Came::Value(store.get(key, now)),
            Step::Set(value, ms) => Came::Done(store.set(key, value.clone(), life(ms), now)),
            Step::Delete => {
                store.delete(key, now);
                Came::Done(Ok(()))
            }
            Step::Add(delta, ms) => Came::Sum(store.add(key, *delta, life(ms), now)),
            Step::Swap(value, _) => Came::Was(store.compare_and_set(key, expected, value.clone(), now)),
        }
    }

    #[tokio::test]
    async fn memory_on_the_server_does_what_memory_of_the_process_does() {
        let Some(server) = Server::start() else { return };
        let connection = connected(&server).await;
        let steps = proptest::collection::vec((0_u8..4, step(), 0_u64..700), 1..40);
        property(40, &steps, async |case, steps| {
            let mut remote = Remote::new(&format!("case-{case}"), connection.clone());
            let (store, start) = (Store::new(BYTES_MAX), Instant::now());
            let mut now_ms = 0;
            for (key, step, passed_ms) in steps {
                now_ms += passed_ms;
                remote.now_ms = Some(1_700_000_000_000 + now_ms);
                let now = start + Duration::from_millis(now_ms);
                let key = format!("k{key}");
                let current = store.get(&key, now);
                let expected = match &step {
                    Step::Swap(_, true) => current.as_deref(),
                    _ => None,
                };
                let (there, here) =
                    (there(&remote, &key, &step, expected).await, here(&store, &key, &step, expected, now));
                assert_eq!(there, here, "{step:?} of {key} at {now_ms}");
                let usage = remote.usage(BYTES_MAX);
                assert!(usage.bytes <= BYTES_MAX && (usage.bytes == 0) == (usage.entries == 0), "{usage:?}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn gateways_that_add_at_once_lose_nothing() {
        let Some(server) = Server::start() else { return };
        let one = Remote::new("a", connected(&server).await);
        let two = Remote::new("a", connected(&server).await);
        for _ in 0..50 {
            let (left, right) = tokio::join!(one.add("n", 1, None, 1000), two.add("n", 1, None, 1000));
            assert!(matches!((&left, &right), (Ok(Ok(_)), Ok(Ok(_)))), "{left:?} {right:?}");
        }
        assert_eq!(one.get("n", 1000).await, Ok(Ok(Some(b"100".to_vec()))));
        let other = Remote::new("b", connected(&server).await);
        assert_eq!(other.get("n", 1000).await, Ok(Ok(None)), "another plugin's memory is its own");
    }
}
