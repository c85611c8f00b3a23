//! What happened: searches of the audit, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::admin::parameters::Query;
use crate::audit::query::{self, Filter, Location, Source};
use crate::config::Audit;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::defect;

/// Searches at once: each keeps a thread and a disk busy.
const SEARCHES_MAX: usize = 2;
/// How long a search waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a search may take.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(30);

/// The places of searches.
pub(crate) struct Searches {
    places: Arc<Semaphore>,
    wait_max: Duration,
}

impl Searches {
    /// All places are free.
    pub(crate) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(SEARCHES_MAX)), wait_max: WAIT_MAX }
    }

    /// Finds exchanges, the newest first; gives a page of them as JSON.
    ///
    /// # Errors
    ///
    /// `InvalidRequest` for a filter that does not exist or makes no sense, and those of a search.
    pub(super) async fn list(&self, audit: &Audit, query: Query) -> Result<Bytes> {
        let filter = Filter::parse(query.into_pairs())
            .map_err(|message| Error::new(ErrorKind::InvalidRequest, message))?;
        self.search(audit, move |source| query::list(source, &filter).and_then(|page| encode(&page))).await
    }

    /// Finds one exchange by its number or its request's id; gives all of it as JSON.
    ///
    /// # Errors
    ///
    /// `UnknownPath` when there is none, and those of a search.
    pub(super) async fn get(&self, audit: &Audit, id: String) -> Result<Bytes> {
        let unknown = Error::new(ErrorKind::UnknownPath, format!("there is no exchange `{id}`"));
        let found = self
            .search(audit, move |source| match query::get(source, &id)? {
                Some(exchange) => encode(&exchange).map(Some),
                None => Ok(None),
            })
            .await?;
        found.ok_or(unknown)
    }

    /// Reads the record on a thread that may block. What takes too long, or whose asker has left, ends soon.
    ///
    /// # Errors
    ///
    /// `UnknownPath` when nothing is recorded, `Overloaded` when it waited or took too long, `Internal` with what is
    /// wrong with the record.
    async fn search<T: Send + 'static>(
        &self,
        audit: &Audit,
        work: impl FnOnce(Source<'_>) -> Result<T, String> + Send + 'static,
    ) -> Result<T> {
        if !audit.is_enabled {
            let message = "the audit is off; set `audit.enabled` to have exchanges recorded";
            return Err(Error::new(ErrorKind::UnknownPath, message));
        }
        let waiting = tokio::time::timeout(self.wait_max, self.places.clone().acquire_owned());
        let Ok(Ok(place)) = waiting.await else {
            let message = format!("{SEARCHES_MAX} searches run already, try again");
            return Err(Error::new(ErrorKind::Overloaded, message).with_retry_after(self.wait_max));
        };
        let location = Location::of(audit);
        let stop = CancellationToken::new();
        // However this ends, the thread and its place are free again.
        let _stopping = stop.clone().drop_guard();
        let task = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(Source::until(&location, &stop))
        });
        match tokio::time::timeout(SEARCH_TIME_MAX, task).await {
            Ok(Ok(found)) => found.map_err(|message| Error::new(ErrorKind::Internal, message)),
            Ok(Err(_)) => Err(defect()),
            Err(_) => {
                let message = "the search takes too long; ask for a shorter time, or not for a text";
                Err(Error::new(ErrorKind::Overloaded, message))
            }
        }
    }
}

fn encode(document: &impl Serialize) -> Result<Bytes, String> {
    let bytes = serde_json::to_vec(document);
    bytes.map(Bytes::from).map_err(|error| format!("what was found cannot be shown: {error}"))
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::sync::{Mutex, mpsc};
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_search_too_many_waits_and_is_refused() {
        let searches = Searches { wait_max: Duration::from_millis(1), ..Searches::new() };
        let audit = Audit::default();
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let mut running = pin!(searches.search(&audit, move |_| Ok(held.lock().unwrap().recv().is_ok())));
        let polled = poll_fn(|context| Poll::Ready(running.as_mut().poll(context).is_pending())).await;
        assert!(polled, "it is at work");
        let _other = searches.places.clone().acquire_many_owned(SEARCHES_MAX as u32 - 1).await.unwrap();
        let refused = searches.search(&audit, |_| Ok(())).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Overloaded);
        assert_eq!(refused.retry_after, Some(Duration::from_millis(1)));
        release.send(()).unwrap();
        assert!(running.await.unwrap());
        searches.search(&audit, |_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn a_search_ends_when_its_asker_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let searches = Searches::new();
        let audit = Audit { path: folder.path().join("record.db"), ..Audit::default() };
        let (begun, has_begun) = mpsc::channel();
        let endless = move |source: Source<'_>| {
            begun.send(()).unwrap();
            while query::list(source, &Filter::default()).is_ok() {}
            Ok(())
        };
        {
            let mut running = pin!(searches.search(&audit, endless));
            let polled = poll_fn(|context| Poll::Ready(running.as_mut().poll(context).is_pending())).await;
            assert!(polled, "it is at work");
            has_begun.recv().unwrap();
        }
        let all = searches.places.acquire_many(SEARCHES_MAX as u32);
        let all = tokio::time::timeout(Duration::from_secs(20), all).await;
        assert!(all.is_ok_and(|places| places.is_ok()), "its place is free");
    }

    #[tokio::test]
    async fn what_is_wrong_is_told() {
        let (searches, mut audit) = (Searches::new(), Audit::default());
        let broken = searches.search(&audit, |_| Err::<(), _>("the file is broken".to_owned())).await;
        assert_eq!(broken.unwrap_err().message, "the file is broken");
        let query = Query::parse(Some("colour=red")).unwrap();
        assert!(searches.list(&audit, query).await.unwrap_err().message.contains("`colour`"));
        audit.is_enabled = false;
        let off = searches.search(&audit, |_| Ok(())).await.unwrap_err();
        assert!(off.message.contains("`audit.enabled`"));
    }
}
