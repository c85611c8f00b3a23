//! A plugin's memory, wherever it is: on the server that gateways share, or in this process.
//!
//! While the server is lost the plugin goes on with a store of this process alone, which begins empty each time: what
//! was in it the last time would be out of date. Once the server is back its values hold again.

mod remote;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::plugin::kv::{Error, Store, Usage};
use crate::plugin::memory::remote::Remote;
use crate::shared::connection::{Connection, Unavailable};

/// The memory of one plugin. What its operations do is said of [`Store`].
pub(crate) struct Memory {
    local: Store,
    remote: Option<Remote>,
    /// How often the server had been lost when the local store was used last.
    losses: AtomicU64,
}

impl Memory {
    /// A memory for `bytes_max` bytes, on the server if there is one.
    pub(crate) fn new(plugin: &str, bytes_max: u64, shared: Option<&Arc<Connection>>) -> Self {
        Self {
            local: Store::new(bytes_max),
            remote: shared.map(|connection| Remote::new(plugin, connection.clone())),
            losses: AtomicU64::new(0),
        }
    }

    /// Changes the grant, after a reload. Entries that are over a smaller one stay, but nothing can grow.
    pub(crate) fn set_bytes_max(&self, bytes_max: u64) {
        self.local.set_bytes_max(bytes_max);
    }

    /// The value of a key whose time is not over.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let bytes_max = self.bytes_max();
        match self.remotely(|remote| remote.get(key, bytes_max)).await {
            Some(answer) => answer,
            None => Ok(self.local().get(key, Instant::now())),
        }
    }

    /// Sets a value, for `ttl` or for ever.
    ///
    /// # Errors
    ///
    /// `TooLarge` and `Unavailable`.
    pub(crate) async fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Error> {
        let (bytes_max, new) = (self.bytes_max(), &value);
        match self.remotely(|remote| remote.set(key, new, ttl, bytes_max)).await {
            Some(answer) => answer,
            None => self.local().set(key, value, ttl, Instant::now()),
        }
    }

    /// Deletes a key; it need not exist.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), Error> {
        let bytes_max = self.bytes_max();
        match self.remotely(|remote| remote.delete(key, bytes_max)).await {
            Some(answer) => answer,
            None => {
                self.local().delete(key, Instant::now());
                Ok(())
            }
        }
    }

    /// Adds to the decimal number that a key has, and returns the sum.
    ///
    /// # Errors
    ///
    /// `NotANumber`, `TooLarge` and `Unavailable`.
    pub(crate) async fn add(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64, Error> {
        let bytes_max = self.bytes_max();
        match self.remotely(|remote| remote.add(key, delta, ttl, bytes_max)).await {
            Some(answer) => answer,
            None => self.local().add(key, delta, ttl, Instant::now()),
        }
    }

    /// Sets a value if the key has the `expected` one, or does not exist if none is; says whether it did.
    ///
    /// # Errors
    ///
    /// `TooLarge` and `Unavailable`.
    pub(crate) async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
    ) -> Result<bool, Error> {
        let (bytes_max, new) = (self.bytes_max(), &value);
        match self.remotely(|remote| remote.compare_and_set(key, expected, new, bytes_max)).await {
            Some(answer) => answer,
            None => self.local().compare_and_set(key, expected, value, Instant::now()),
        }
    }

    /// How full it is; on the server, as far as its last answer tells.
    pub(crate) fn usage(&self) -> Usage {
        let local = self.local.usage();
        match self.remote.as_ref().filter(|remote| remote.is_up()) {
            Some(remote) => remote.usage(local.bytes_max),
            None => local,
        }
    }

    fn bytes_max(&self) -> u64 {
        self.local.usage().bytes_max
    }

    /// Asks the server; none where there is none, or it is lost and nothing was sent.
    async fn remotely<'a, T, F>(&'a self, ask: impl FnOnce(&'a Remote) -> F) -> Option<Result<T, Error>>
    where
        F: Future<Output = Result<Result<T, Error>, Unavailable>>,
    {
        match ask(self.remote.as_ref()?).await {
            Ok(answer) => Some(answer),
            Err(Unavailable::NoAnswer) => Some(Err(Error::Unavailable)),
            Err(Unavailable::Lost) => None,
        }
    }

    /// The store of this process.
    fn local(&self) -> &Store {
        if let Some(remote) = &self.remote {
            let losses = remote.losses();
            if self.losses.swap(losses, Ordering::Relaxed) != losses {
                self.local.clear();
            }
        }
        &self.local
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::connection::Condition;
    use crate::shared::tests::{Server, connected, until};

    #[tokio::test]
    async fn a_lost_server_is_replaced_by_a_store_of_its_own_until_it_is_back() {
        let Some(mut server) = Server::start() else { return };
        let connection = connected(&server).await;
        let memory = Memory::new("a", 1000, Some(&connection));
        assert_eq!(memory.add("n", 5, None).await, Ok(5));
        for _ in 0..2 {
            server.kill();
            until(&connection, Condition::Lost).await;
            assert_eq!(memory.get("n").await, Ok(None), "what was there the last time is out of date");
            assert_eq!(memory.add("n", 1, None).await, Ok(1));
            assert_eq!(memory.usage().entries, 1);
            server.restart();
            until(&connection, Condition::Connected).await;
            // The server of the tests keeps nothing over its end.
            assert_eq!(memory.get("n").await, Ok(None));
            assert_eq!(memory.set("n", b"9".to_vec(), None).await, Ok(()));
        }
    }
}
