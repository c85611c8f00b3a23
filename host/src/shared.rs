//! What several gateways share through one Redis server, or one with its protocol and scripts, so that they act as one.
//!
//! ```text
//! connection  one connection for everything: kept open, watched, opened again
//! counts      how much of each limit has been used
//! hints       which upstreams another gateway has found to be down
//! script      what runs on the server, and the clock it runs by
//! ```
//!
//! Plugins' memory is shared by [`crate::plugin`]. Nothing here is needed to serve: while the server is lost every
//! gateway goes on by itself, and with the others again when it is back. All keys begin with `witgate:`. The keys of one
//! step are not in one slot of a cluster: it has to be a single server (with replicas, if that is wanted).

pub(crate) mod connection;
pub(crate) mod counts;
pub(crate) mod hints;
pub(crate) mod script;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::config::State;
use crate::shared::connection::Connection;
use crate::shared::counts::Counts;
use crate::shared::hints::Hints;

/// What gateways share. Dropping it ends the connection.
pub(crate) struct Shared {
    /// The way to the server.
    pub(crate) connection: Arc<Connection>,
    /// How much of each limit has been used.
    pub(crate) counts: Counts,
    /// Which upstreams are known to be down.
    pub(crate) hints: Hints,
    /// What keeps all of it going. Nobody waits for it: what must not be lost goes by [`Shared::flush`].
    _tasks: JoinSet<()>,
}

impl Shared {
    /// Connects to the server that the configuration names; none if it names none.
    ///
    /// Returns when the first try to connect is over, however it ended: a server that is down is tried again and again,
    /// and nothing waits for it.
    ///
    /// # Errors
    ///
    /// A message when the URL cannot be used.
    pub(crate) async fn start(state: &State) -> Result<Option<Arc<Self>>, String> {
        let State::Redis(url) = state else { return Ok(None) };
        let connection = Arc::new(Connection::new(url.expose())?);
        let mut tasks = JoinSet::new();
        let counts = Counts::new(connection.clone(), &mut tasks);
        let hints = Hints::new(connection.clone(), &mut tasks);
        let kept = connection.clone();
        tasks.spawn(async move { kept.keep().await });
        connection.tried().await;
        Ok(Some(Arc::new(Self { connection, counts, hints, _tasks: tasks })))
    }

    /// Waits until what was corrected has been sent, as long as the server can be reached.
    pub(crate) async fn flush(&self, time_max: Duration) {
        if self.connection.health().is_up {
            let _ = tokio::time::timeout(time_max, self.counts.flush()).await;
        }
    }
}
