//! The end of the gateway, as the writer learns of it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long one thing may take once the end has begun: short enough that another try fits in before the last call.
const TRY_TIME_MAX: Duration = Duration::from_secs(4);

/// The end of the gateway. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct End {
    begun: CancellationToken,
    last_call: CancellationToken,
}

impl End {
    /// Has the writer write what there is without waiting for more.
    pub(super) fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Has the writer break off what it waits for and put aside what is not written.
    pub(super) fn call_last(&self) {
        self.last_call.cancel();
    }

    /// Whether what is not written is to be put aside.
    pub(super) fn is_last(&self) -> bool {
        self.last_call.is_cancelled()
    }

    /// Comes back when something has taken too long: after `time_max`, and sooner while the gateway ends.
    pub(super) async fn patience(&self, time_max: Duration) {
        let hurried = async {
            self.begun.cancelled().await;
            tokio::time::sleep(TRY_TIME_MAX).await;
        };
        tokio::select! {
            () = tokio::time::sleep(time_max) => {}
            () = hurried => {}
            () = self.last_call.cancelled() => {}
        }
    }
}
