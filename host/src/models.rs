//! The list of models: every upstream's own, filtered by what it is asked for, merged, and kept for a while.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::Caller;
use crate::budget::Budget;
use crate::config::ModelMatch;
use crate::error::{Error, ErrorKind, Result, Timer};
use crate::percent;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use crate::upstream::dispatch::ask;
use crate::upstream::job::{Job, Payload};
use crate::upstream::reply::ReplyContent;
use crate::wire::openai::models::{self as list, Model};
use crate::wire::{Dialect, Endpoint, anthropic, gemini};

/// How long one upstream may take to say what it has.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);
/// How many pages of one upstream's list are read. They are asked for with a thousand models each.
const PAGES_MAX: usize = 20;
/// How long a list is kept that an upstream is missing from.
const PARTIAL_TTL: Duration = Duration::from_secs(5);
/// How many callers' lists are kept at once.
const LISTS_MAX: usize = 1024;

/// The lists of one configuration, by what its upstreams would be asked with.
pub(crate) struct ModelsCache {
    ttl: Duration,
    lists: Mutex<HashMap<u64, Entry>>,
    hasher: RandomState,
}

#[derive(Clone)]
struct Entry {
    began: Instant,
    /// None while the list is being fetched.
    list: watch::Receiver<Option<Fetched>>,
}

/// A list, or what kept every upstream from giving one.
type Fetched = Result<Listed, Arc<str>>;

#[derive(Clone)]
struct Listed {
    offers: Arc<[Offer]>,
    /// Whether every upstream said what it has.
    is_complete: bool,
}

/// What one upstream says it has.
struct Own {
    models: Vec<Model>,
    /// Whether it said all of it.
    is_complete: bool,
}

/// One model of one upstream. Several upstreams may have the same; which of them a caller may use decides what it sees.
struct Offer {
    upstream: Arc<str>,
    model: Model,
}

impl Entry {
    /// Whether the list may still be given out, or is yet to come.
    fn is_fresh(&self, ttl: Duration) -> bool {
        match &*self.list.borrow() {
            None => true,
            Some(Ok(listed)) => self.began.elapsed() < listed.ttl(ttl),
            Some(Err(_)) => false,
        }
    }
}

impl Listed {
    /// How long the list is kept where a complete one is kept for `ttl`.
    fn ttl(&self, ttl: Duration) -> Duration {
        if self.is_complete { ttl } else { ttl.min(PARTIAL_TTL) }
    }
}

impl ModelsCache {
    /// An empty cache that keeps lists for `ttl`; zero keeps them only while they are fetched.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, lists: Mutex::default(), hasher: RandomState::new() }
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.lists.lock().expect("no code panics while it holds this lock")
    }

    /// The entry for a caller, and the other end of it if somebody has to fetch the list.
    fn entry(&self, key: u64) -> (Entry, Option<watch::Sender<Option<Fetched>>>) {
        let mut lists = self.lists();
        if let Some(entry) = lists.get(&key)
            && entry.is_fresh(self.ttl)
        {
            return (entry.clone(), None);
        }
        if lists.len() >= LISTS_MAX {
            lists.retain(|_, entry| entry.is_fresh(self.ttl));
        }
        let (sender, receiver) = watch::channel(None);
        let entry = Entry { began: Instant::now(), list: receiver };
        if lists.len() < LISTS_MAX {
            lists.insert(key, entry.clone());
        }
        (entry, Some(sender))
    }
}

/// Answers `GET /v1/models`, or `GET /v1/models/{id}` where `id` is not empty, in the words of a dialect.
///
/// `id` is as it stands in the path: names with a slash arrive as `org%2Fname`.
///
/// # Errors
///
/// `UpstreamUnreachable` when no upstream gave a list, `ModelNotFound` for an id that is not in it.
pub(crate) async fn answer(
    snapshot: Arc<Snapshot>,
    caller: Caller,
    id: &str,
    dialect: Dialect,
) -> Result<Bytes> {
    let offers = aggregated(snapshot, &caller).await?;
    let may_use =
        |offer: &&Offer| caller.may_use_upstream(&offer.upstream) && caller.may_use_model(&offer.model.id);
    let mut models = offers.iter().filter(may_use).map(|offer| &offer.model);
    if id.is_empty() {
        let mut seen = HashSet::new();
        let models = models.filter(|model| seen.insert(&*model.id));
        return Ok(match dialect {
            Dialect::OpenAi => list::encode_list(models),
            Dialect::Anthropic => anthropic::models::encode_list(models.map(|model| &*model.id)),
            Dialect::Gemini => gemini::models::encode_list(models.map(|model| &*model.id)),
        });
    }
    let id = &*percent::decoded(id);
    let missing = || Error::new(ErrorKind::ModelNotFound, format!("The model `{id}` does not exist."));
    let model = models.find(|model| model.id == id).ok_or_else(missing)?;
    Ok(match dialect {
        Dialect::OpenAi => model.raw.clone(),
        Dialect::Anthropic => anthropic::models::encode_model(&model.id),
        Dialect::Gemini => gemini::models::encode(&model.id),
    })
}

async fn aggregated(snapshot: Arc<Snapshot>, caller: &Caller) -> Result<Arc<[Offer]>> {
    let key = caller.credential.as_ref().map_or(0, |key| snapshot.models.hasher.hash_one(key.expose()));
    let (mut entry, sender) = snapshot.models.entry(key);
    if let Some(sender) = sender {
        let caller = Arc::new(caller.clone());
        // A task of its own: the one who asked first may leave without taking the list from the others. It is
        // bounded by FETCH_TIME_MAX, so a drain need not wait for it.
        tokio::spawn(async move {
            let fetched = fetch_all(&snapshot, caller).await;
            if fetched.is_err() || snapshot.models.ttl.is_zero() {
                snapshot.models.lists().remove(&key);
            }
            sender.send_replace(Some(fetched));
        });
    }
    let fetched = entry.list.wait_for(Option::is_some).await.ok().and_then(|list| list.clone());
    match fetched {
        Some(Ok(listed)) => Ok(listed.offers),
        Some(Err(message)) => Err(Error::new(ErrorKind::UpstreamUnreachable, &*message)),
        None => Err(Error::new(ErrorKind::Internal, "the list of models could not be fetched")),
    }
}

async fn fetch_all(snapshot: &Snapshot, caller: Arc<Caller>) -> Fetched {
    let enabled = snapshot.upstreams.iter().filter(|upstream| upstream.settings.is_enabled);
    let fetching: Vec<_> = enabled
        .map(|upstream| {
            let (task, caller, has_keys) = (upstream.clone(), caller.clone(), snapshot.has_keys());
            (upstream, tokio::spawn(async move { fetch(&task, &caller, has_keys).await }))
        })
        .collect();
    let mut offers = Vec::new();
    let mut is_any_known = fetching.is_empty();
    let mut is_complete = true;
    for (upstream, task) in fetching {
        let listed = task.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a defect")));
        is_any_known |= listed.is_ok() || !configured(upstream).is_empty();
        let own = listed.unwrap_or_else(|error| {
            note_failure(upstream, &error);
            Own { models: Vec::new(), is_complete: false }
        });
        is_complete &= own.is_complete;
        let routable = own.models.into_iter().filter(|model| upstream.settings.accepts(&model.id));
        let all = routable.chain(configured(upstream));
        offers.extend(all.map(|model| Offer { upstream: upstream.settings.name.clone(), model }));
    }
    if !is_any_known {
        return Err(Arc::from("no upstream gave a list of models"));
    }
    Ok(Listed { offers: offers.into(), is_complete })
}

fn note_failure(upstream: &Upstream, error: &Error) {
    let upstream = &*upstream.settings.name;
    tracing::debug!(upstream, error = error.message, cause = ?error.source, "no list of models");
}

/// The models whose full names the configuration tells: exact matches and the client's names of aliases.
fn configured(upstream: &Upstream) -> Vec<Model> {
    let settings = &upstream.settings;
    let exact: &[String] = match &settings.model_match {
        ModelMatch::Exact(names) => names,
        _ => &[],
    };
    let aliases = settings.models.iter().map(|(name, _)| name);
    exact.iter().chain(aliases).map(|name| Model::configured(name, &settings.name)).collect()
}

/// All models of an upstream: the first page, and those that follow.
///
/// # Errors
///
/// Those of the first page. Where a further one fails, the list has what came before it, and says that it is not all.
async fn fetch(upstream: &Arc<Upstream>, caller: &Caller, has_keys: bool) -> Result<Own> {
    let until = Instant::now() + FETCH_TIME_MAX;
    let mut own = Own { models: Vec::new(), is_complete: true };
    let mut after: Option<String> = None;
    for number in 0..PAGES_MAX {
        let asking = fetch_page(upstream, caller, has_keys, after.as_deref());
        let page = tokio::time::timeout_at(until, asking).await;
        let late = || Err(Error::new(ErrorKind::UpstreamTimeout(Timer::Total), "no list in time"));
        match page.unwrap_or_else(|_| late()) {
            Ok((models, next)) => {
                own.models.extend(models);
                after = next;
            }
            Err(error) if number == 0 => return Err(error),
            Err(error) => {
                note_failure(upstream, &error);
                own.is_complete = false;
                return Ok(own);
            }
        }
        if after.is_none() {
            return Ok(own);
        }
    }
    tracing::warn!(
        upstream = &*upstream.settings.name,
        pages = PAGES_MAX,
        "a list of models has too many pages"
    );
    Ok(own)
}

/// One page: the models, and what the next one is asked for with.
async fn fetch_page(
    upstream: &Arc<Upstream>,
    caller: &Caller,
    has_keys: bool,
    after: Option<&str>,
) -> Result<(Vec<Model>, Option<String>)> {
    let job = Job {
        method: Method::GET,
        endpoint: Some(Endpoint::Models),
        path: Cow::Borrowed(Endpoint::Models.upstream_path()),
        query: match upstream.settings.dialect {
            Dialect::OpenAi => None,
            Dialect::Anthropic => Some(anthropic::models::page_query(after)),
            Dialect::Gemini => Some(gemini::models::page_query(after)),
        },
        headers: HeaderMap::new(),
        payload: Payload::Opaque { rest: None, len: None },
        caller: caller.clone(),
        model: Arc::from(""),
        known_as: Arc::from(""),
        id: Arc::from(""),
        created_unix_s: 0,
        holds_answer: false,
        _share: Arc::new(Budget::new().share()),
    };
    let reply = ask(&job, upstream, has_keys).await?;
    match reply.content {
        ReplyContent::Whole(answer) if reply.status.is_success() => {
            let owner = &*upstream.settings.name;
            let body: Bytes = answer.segments.concat().into();
            let page = match upstream.settings.dialect {
                Dialect::OpenAi => return Ok((list::decode_list(&body)?, None)),
                Dialect::Anthropic => anthropic::models::decode_page(&body)?,
                Dialect::Gemini => gemini::models::decode_page(&body)?,
            };
            Ok((page.ids.iter().map(|id| Model::configured(id, owner)).collect(), page.next))
        }
        _ => Err(Error::new(ErrorKind::UpstreamInvalid, format!("status {}", reply.status))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_escaped_name_is_the_name() {
        // parity: 10
        for (segment, name) in [
            ("gpt-4o", "gpt-4o"),
            ("org%2Fname", "org/name"),
            ("org%2fname%20x", "org/name x"),
            ("a%25b", "a%b"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz%+1", "%zz%+1"),
            ("%e2%82%ac", "\u{20ac}"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(percent::decoded(segment), name, "{segment}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in any::<String>(), raw in any::<String>()) {
            let escaped: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(&*percent::decoded(&escaped), &*name);
            // Nothing panics.
            percent::decoded(&raw);
        }
    }

    #[test]
    fn a_list_that_an_upstream_is_missing_from_is_asked_for_again_soon() {
        let ttl = |is_complete, ttl_s| {
            let listed = Listed { offers: Arc::new([]), is_complete };
            listed.ttl(Duration::from_secs(ttl_s)).as_secs()
        };
        assert_eq!(ttl(true, 600), 600);
        assert_eq!(ttl(false, 600), 5);
        assert_eq!(ttl(false, 2), 2);
    }
}
