//! The facts of one exchange that become its row, taken when it ends so that the rest can happen elsewhere and later.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};

use crate::chat::{StopReason, Usage};
use crate::error::{Error, ErrorKind};
use crate::exchange::{Attempt, Exchange, Outcome};
use crate::recording::Recording;

/// What a row costs in memory besides its texts: the record, its place in the queue, allocations. In bytes.
const ROW_BYTES: u64 = 768;

/// What an attempt costs in memory besides its texts, in bytes.
const ATTEMPT_BYTES: usize = size_of::<Tried>();

/// The longest message of what went wrong that is kept, in bytes: it may repeat what a client or an upstream said.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// What a message ends with that was cut.
const CUT: &str = "…";

/// What is known of an exchange that is over.
pub(super) struct Record {
    pub(super) number: i64,
    pub(super) request_id: HeaderValue,
    pub(super) caller: Option<String>,
    pub(super) key: Option<Arc<str>>,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) client: IpAddr,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) endpoint: &'static str,
    pub(super) model: Option<Arc<str>>,
    pub(super) is_stream: bool,
    pub(super) status: Option<StatusCode>,
    pub(super) outcome: &'static str,
    pub(super) fault: Option<Fault>,
    pub(super) finish: Option<StopReason>,
    pub(super) usage: Option<Usage>,
    pub(super) first_token: Option<Duration>,
    pub(super) duration: Duration,
    pub(super) overhead: Duration,
    pub(super) request_len: u64,
    pub(super) response_len: u64,
    pub(super) labels: Vec<(String, String)>,
    pub(super) plugins: Vec<(Arc<str>, Duration)>,
    pub(super) recording: Option<Box<Recording>>,
    pub(super) attempts: Vec<Tried>,
}

/// What went wrong, in words.
pub(super) struct Fault {
    pub(super) kind: String,
    /// The message and its cause.
    pub(super) message: String,
}

/// One attempt.
pub(super) struct Tried {
    pub(super) upstream: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) status: Option<StatusCode>,
    pub(super) fault: Option<Fault>,
    pub(super) began: Duration,
    pub(super) took: Duration,
}

impl Record {
    /// Takes the facts of an exchange that is over. Its recording is gone then, the rest is still there.
    pub(super) fn of(exchange: &mut Exchange) -> Self {
        let (status, fault) = match exchange.outcome() {
            // Of what was broken off before there was a status, the record says that the client closed it.
            Outcome::Cancelled => {
                (exchange.status.or(Some(ErrorKind::Cancelled.status())), Some(Fault::cancelled()))
            }
            Outcome::Failed(error) => (exchange.status, Some(Fault::of(error))),
            Outcome::Complete => (exchange.status, None),
        };
        Self {
            number: exchange.number,
            request_id: exchange.id.clone(),
            caller: exchange.caller.clone(),
            key: exchange.key.clone(),
            tenant: exchange.tenant.clone(),
            client: exchange.client,
            method: exchange.method.clone(),
            target: exchange.target.clone(),
            endpoint: exchange.endpoint,
            model: exchange.model.clone(),
            is_stream: exchange.is_stream,
            status,
            outcome: exchange.outcome_word(),
            fault,
            finish: exchange.finish,
            usage: exchange.usage,
            first_token: exchange.first_token,
            duration: exchange.elapsed(),
            overhead: exchange.overhead,
            request_len: exchange.request_len,
            response_len: exchange.response_len,
            labels: exchange.tags.iter().cloned().collect(),
            plugins: exchange.plugins().cloned().collect(),
            recording: exchange.recording.take(),
            attempts: exchange.attempts.iter().map(Tried::of).collect(),
        }
    }

    /// Puts the pieces of its answer together, where that holds nobody up. If it panics, the answer is missing.
    pub(super) fn settle(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.settle(self.usage);
        }
    }

    /// The memory it takes, in bytes. What it shares with others counts, too: they may be gone before it is written.
    pub(super) fn bytes(&self) -> u64 {
        let text = |text: Option<&str>| text.map_or(0, str::len);
        let names = [
            text(self.caller.as_deref()),
            text(self.key.as_deref()),
            text(self.tenant.as_deref()),
            text(self.model.as_deref()),
            self.request_id.len(),
            self.target.len(),
        ];
        let labels: usize = self.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        let plugins: usize = self.plugins.iter().map(|(name, _)| name.len()).sum();
        let attempts: usize = self.attempts.iter().map(Tried::bytes).sum();
        let fault = self.fault.as_ref().map_or(0, Fault::bytes);
        let recording = self.recording.as_deref().map_or(0, Recording::bytes);
        ROW_BYTES + (names.iter().sum::<usize>() + labels + plugins + attempts + fault + recording) as u64
    }
}

impl Fault {
    fn cancelled() -> Self {
        Self {
            kind: ErrorKind::Cancelled.code().to_owned(),
            message: "the client left before the end".to_owned(),
        }
    }

    /// Longer messages than [`MESSAGE_BYTES_MAX`] are cut.
    fn of(error: &Error) -> Self {
        let mut message = match &error.source {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX - CUT.len()));
            message.push_str(CUT);
            message.shrink_to_fit();
        }
        Self { kind: error.kind.code().to_owned(), message }
    }

    fn bytes(&self) -> usize {
        self.kind.len() + self.message.len()
    }
}

impl Tried {
    fn of(attempt: &Attempt) -> Self {
        Self {
            upstream: attempt.upstream.clone(),
            model: attempt.model.clone(),
            status: attempt.status,
            fault: attempt.error.as_ref().map(Fault::of),
            began: attempt.began,
            took: attempt.took,
        }
    }

    fn bytes(&self) -> usize {
        let fault = self.fault.as_ref().map_or(0, Fault::bytes);
        ATTEMPT_BYTES + self.upstream.len() + self.model.len() + fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, kept: usize) {
        let fault = Fault::of(&Error::new(ErrorKind::ModelNotFound, message.to_owned()));
        let is_cut = kept < message.len();
        assert_eq!(fault.message, format!("{}{}", &message[..kept], if is_cut { CUT } else { "" }));
        assert!(fault.message.len() <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn a_message_is_kept_up_to_its_bound() {
        check("short", 5);
        check(&"x".repeat(MESSAGE_BYTES_MAX), MESSAGE_BYTES_MAX);
        check(&"x".repeat(20 << 20), MESSAGE_BYTES_MAX - CUT.len());
        // Not in the middle of a character.
        check(&"é".repeat(MESSAGE_BYTES_MAX), MESSAGE_BYTES_MAX - CUT.len() - 1);
    }
}
