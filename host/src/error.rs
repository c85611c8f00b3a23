//! The one error of the request path.
//!
//! An error carries a `kind` that decides what happens next (status, retry, blame), a `message` that a client
//! may read, and a `source` that only the log may show. `wire::encode_error` turns it into a body, and nobody but
//! `gateway` calls that.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

/// A boxed cause, for the log only.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// The result of a step in the request path.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with one request or one attempt of it.
#[derive(Debug)]
pub struct Error {
    /// What kind of failure this is; decides status, retry and blame.
    pub kind: ErrorKind,
    /// What the client may read: lowercase, names in backticks, no upstream's name, address or key.
    pub message: String,
    /// The cause, for the log only.
    pub source: Option<Source>,
    /// How long the client should wait before it tries again.
    pub retry_after: Option<Duration>,
    /// The request's field the message is about, in OpenAI's `param`.
    pub param: Option<Cow<'static, str>>,
}

/// The failures that somebody (client, retry, metric, operator) treats differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is not valid: bad JSON, a missing field, a wrong type.
    InvalidRequest,
    /// The request says something that the upstream's dialect has no words for; it is not sent.
    Inexpressible,
    /// No upstream serves the model.
    ModelNotFound,
    /// No such path.
    UnknownPath,
    /// The path exists, the method does not; carries the methods that do.
    MethodNotAllowed(Vec<Method>),
    /// The request body is over `server.request_body_max`.
    RequestTooLarge,
    /// The client did not finish sending its body in time.
    RequestTimeout,
    /// The Host header names somebody else (admin listener only).
    Misdirected,
    /// A credential is missing or wrong.
    Unauthenticated,
    /// The caller may not do this, or not from there.
    Forbidden,
    /// The caller has used what it may within a window, or has too many requests running.
    RateLimited(Limited),
    /// The caller has used what it may in a day or a month.
    BudgetUsedUp,
    /// The gateway or every usable upstream is full, disabled or draining.
    Overloaded,
    /// The upstream could not be reached: DNS, connect or TLS.
    UpstreamUnreachable,
    /// Every upstream that takes the model is left alone for a while, because it failed or asked for that.
    UpstreamUnavailable,
    /// One of the upstream's timers ran out before the client had been sent anything.
    UpstreamTimeout(Timer),
    /// The upstream answered something that is not valid HTTP or JSON, or closed in the middle.
    UpstreamInvalid,
    /// The upstream ended a successful answer without a byte of it.
    UpstreamEmpty,
    /// The upstream broke off, or one of its timers ran out, after the client had been sent a part of the answer.
    StreamBroken(Option<Timer>),
    /// The client left.
    Cancelled,
    /// A plugin's deliberate no.
    Rejected(Box<Refusal>),
    /// A plugin broke, and its `on_fault` is `reject`.
    PluginFault,
    /// Every instance that a plugin may have is in use.
    PluginCapacity,
    /// A plugin broke too often and is not called for a while.
    PluginQuarantined,
    /// A defect of the gateway.
    Internal,
}

/// What a caller has used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Requests, within a window or at once.
    Requests,
    /// Tokens within a window.
    Tokens,
}

/// The timers of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// `timeouts.connect`.
    Connect,
    /// `timeouts.first_byte`.
    FirstByte,
    /// `timeouts.first_token`.
    FirstToken,
    /// `timeouts.idle`.
    Idle,
    /// `timeouts.total`.
    Total,
}

/// What a plugin refuses a request with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status, 400 to 599.
    pub status: StatusCode,
    /// The code of the error body.
    pub code: String,
    /// Further headers of the answer.
    pub headers: HeaderMap,
}

/// Who caused a failure; a metric label and the log level follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller's request.
    Client,
    /// The upstream or the way to it.
    Upstream,
    /// A plugin.
    Plugin,
    /// This program or its configuration.
    Gateway,
}

impl Error {
    /// Makes an error that the client reads as `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, retry_after: None, param: None }
    }

    /// Makes a 400 about one field of the request.
    pub fn invalid(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(ErrorKind::InvalidRequest, message) }
    }

    /// Adds the cause for the log.
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds how long the client should wait.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl ErrorKind {
    /// The HTTP status the client is sent.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest | Self::Inexpressible => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::ModelNotFound | Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::RateLimited(_) | Self::BudgetUsedUp => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::UpstreamUnavailable | Self::PluginCapacity | Self::PluginQuarantined => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Rejected(refusal) => refusal.status,
            Self::UpstreamUnreachable
            | Self::UpstreamInvalid
            | Self::UpstreamEmpty
            | Self::StreamBroken(_) => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            // nginx's code for it; it is written to records, never to a client.
            Self::Cancelled => StatusCode::from_u16(499).expect("499 is a valid status"),
            Self::PluginFault | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The machine-readable code of the error body.
    pub fn code(&self) -> &str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Inexpressible => "unsupported_parameter",
            Self::Unauthenticated => "invalid_api_key",
            Self::Forbidden => "forbidden",
            Self::ModelNotFound => "model_not_found",
            Self::UnknownPath => "unknown_path",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::RequestTooLarge => "request_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::Misdirected => "misdirected_request",
            Self::RateLimited(_) => "rate_limit_exceeded",
            Self::BudgetUsedUp => "insufficient_quota",
            Self::Overloaded => "overloaded",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::UpstreamTimeout(_) => "upstream_timeout",
            Self::UpstreamInvalid => "upstream_invalid",
            Self::UpstreamEmpty => "upstream_empty",
            Self::StreamBroken(_) => "upstream_stream_broken",
            Self::Cancelled => "cancelled",
            Self::Rejected(refusal) => &refusal.code,
            Self::PluginFault => "plugin_error",
            Self::PluginCapacity => "plugin_capacity",
            Self::PluginQuarantined => "plugin_quarantined",
            Self::Internal => "internal_error",
        }
    }

    /// Its name in the metrics: the code, but for timers, each of which has a name of its own.
    pub fn label(&self) -> &str {
        match self {
            Self::UpstreamTimeout(timer) | Self::StreamBroken(Some(timer)) => match timer {
                Timer::Connect => "upstream_connect_timeout",
                Timer::FirstByte => "upstream_first_byte_timeout",
                Timer::FirstToken => "upstream_first_token_timeout",
                Timer::Idle => "upstream_idle_timeout",
                Timer::Total => "upstream_total_timeout",
            },
            _ => self.code(),
        }
    }

    /// OpenAI's error class, the `type` of the error body.
    ///
    /// Source: for limits, the answers of OpenAI's API, whose clients tell them apart by `requests`, `tokens` and
    /// `insufficient_quota`.
    pub fn class(&self) -> &'static str {
        match self {
            Self::InvalidRequest
            | Self::Inexpressible
            | Self::ModelNotFound
            | Self::UnknownPath
            | Self::MethodNotAllowed(_)
            | Self::RequestTooLarge
            | Self::RequestTimeout
            | Self::Misdirected
            | Self::Cancelled => "invalid_request_error",
            Self::Unauthenticated => "authentication_error",
            Self::Forbidden => "permission_error",
            Self::Rejected(refusal) => class_of(refusal.status),
            Self::PluginFault => "api_error",
            Self::RateLimited(Limited::Requests) => "requests",
            Self::RateLimited(Limited::Tokens) => "tokens",
            Self::BudgetUsedUp => "insufficient_quota",
            Self::Overloaded | Self::PluginCapacity | Self::PluginQuarantined => "overloaded_error",
            Self::UpstreamUnreachable
            | Self::UpstreamUnavailable
            | Self::UpstreamTimeout(_)
            | Self::UpstreamInvalid
            | Self::UpstreamEmpty
            | Self::StreamBroken(_) => "upstream_error",
            Self::Internal => "internal_error",
        }
    }

    /// Who caused it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::InvalidRequest
            | Self::Inexpressible
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::ModelNotFound
            | Self::UnknownPath
            | Self::MethodNotAllowed(_)
            | Self::RequestTooLarge
            | Self::RequestTimeout
            | Self::Misdirected
            | Self::RateLimited(_)
            | Self::BudgetUsedUp
            | Self::Rejected(_)
            | Self::Cancelled => Blame::Client,
            Self::UpstreamUnreachable
            | Self::UpstreamUnavailable
            | Self::UpstreamTimeout(_)
            | Self::UpstreamInvalid
            | Self::UpstreamEmpty
            | Self::StreamBroken(_) => Blame::Upstream,
            Self::PluginFault | Self::PluginCapacity | Self::PluginQuarantined => Blame::Plugin,
            Self::Overloaded | Self::Internal => Blame::Gateway,
        }
    }
}

impl Timer {
    /// What a client is told when it has run out.
    pub fn message(self) -> &'static str {
        match self {
            Self::Connect => "the upstream did not accept a connection in time",
            Self::FirstByte => "the upstream did not answer in time",
            Self::FirstToken => "the upstream's stream had no content in time",
            Self::Idle => "the upstream went silent",
            Self::Total => "the upstream took too long in total",
        }
    }

    /// The error of an attempt that it ended.
    pub fn error(self) -> Error {
        Error::new(ErrorKind::UpstreamTimeout(self), self.message())
    }

    /// The error of a stream that it ended, of which the client has had a part.
    pub fn broken(self) -> Error {
        Error::new(ErrorKind::StreamBroken(Some(self)), self.message())
    }
}

/// OpenAI's error class for a status.
///
/// Source: OpenAI, API reference, "Error codes".
fn class_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
