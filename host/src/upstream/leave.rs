//! Leave to ask an upstream once, and what the answer means for the breakers that gave it.
//!
//! Where an upstream has several keys, a key that is refused rests, and the upstream does not; with one key, or none of its
//! own, the upstream rests when it asks for that and somebody else can answer; who has nobody else asks it all the same.
//! What a caller did wrong means nothing, nor what a caller's own key is refused for. 401 and 403 may be that: a key is
//! at fault only if the same request was taken with another one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::calendar::day_number;
use crate::config;
use crate::error::{Blame, Error, ErrorKind, Result};
use crate::upstream::Upstream;
use crate::upstream::breaker::{Pass, Ticket};
use crate::upstream::keys::KeyPass;
use crate::upstream::reply::{Reply, ReplyContent};

/// The statuses of a server that has too much to do for now.
///
/// Source: RFC 9110, section 15.6.4; Anthropic, API reference, "Errors", for 529.
const BUSY: [u16; 2] = [503, 529];

/// Leave for one attempt at an upstream. Dropped without a word, because the client left, it is as if it had never been
/// given.
pub(super) struct Leave<'a> {
    upstream: &'a Upstream,
    pass: Pass<'a>,
    /// None where there are not several keys.
    key: Option<KeyPass<'a>>,
    /// Keys with which the request was forbidden, and how long they are to rest if it was them.
    suspects: Vec<(KeyPass<'a>, Option<Duration>)>,
}

/// What an attempt says of an upstream and of the key it was asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// It works.
    Alive,
    /// It does not.
    Failing,
    /// It forbids the request, and may forbid it with this key only; for so long if it said how long.
    Forbidden(Option<Duration>),
    /// It has had too much, of this key, and says how long if it knows.
    Limited(Option<Duration>),
    /// It has too much to do, and says for how long.
    Busy(Duration),
    /// Nothing.
    Nothing,
}

/// What an upstream is told of a stream after its first content: that it was well, unless it [broke](Self::broken).
pub(crate) struct Verdict {
    upstream: Arc<Upstream>,
    ticket: Ticket,
    is_broken: bool,
}

impl Upstream {
    /// Leave for one attempt, with a key if there are several.
    ///
    /// `is_alone` says whether there is nobody else to ask; it is asked only where that matters.
    ///
    /// # Errors
    ///
    /// When to ask again, at the earliest: the upstream is left alone, or all its keys rest.
    pub(super) fn leave(&self, is_alone: impl FnOnce() -> bool) -> Result<Leave<'_>, Instant> {
        let pass = self
            .breaker
            .ask(&self.settings.breaker)
            .or_else(|until| self.breaker.ask_nevertheless().filter(|_| is_alone()).ok_or(until))?;
        let key = self.keys.next()?;
        Ok(Leave { upstream: self, pass, key, suspects: Vec::new() })
    }

    /// The key for what is no attempt and so tells its breakers nothing.
    pub(super) fn credential(&self) -> Option<&HeaderValue> {
        self.keys.first()
    }
}

impl<'a> Leave<'a> {
    /// What the request carries as `Authorization`, if the upstream has a key of its own.
    pub(super) fn credential(&self) -> Option<&'a HeaderValue> {
        self.key.as_ref().map_or_else(|| self.upstream.keys.first(), |key| Some(key.credential()))
    }

    /// Takes what the attempt came to; gives leave for the next one if another key may do better.
    ///
    /// `may_rest` says whether the upstream may be left alone because it asks for that; it is asked only where that
    /// matters. Of a stream, which has only begun, the rest is learnt at its end.
    pub(super) fn learn(self, outcome: &mut Result<Reply>, may_rest: impl FnOnce() -> bool) -> Option<Self> {
        let finding = match outcome {
            Ok(Reply { content: ReplyContent::Events(begun), upstream, .. }) => {
                let ticket = self.begun();
                begun.verdict =
                    ticket.map(|ticket| Verdict { upstream: upstream.clone(), ticket, is_broken: false });
                return None;
            }
            Ok(reply) => Finding::of_answer(reply.status, &reply.headers),
            Err(error) => Finding::of_error(error),
        };
        self.take(finding, may_rest)
    }

    fn begun(self) -> Option<Ticket> {
        let Self { upstream, pass, key, suspects } = self;
        accept(upstream, key, suspects);
        pass.begun(&upstream.settings.name)
    }

    fn take(self, finding: Finding, may_rest: impl FnOnce() -> bool) -> Option<Self> {
        let Self { upstream, pass, key, mut suspects } = self;
        let (name, settings) = (&upstream.settings.name, &upstream.settings.breaker);
        let wish = match finding {
            Finding::Limited(wait) if key.is_none() => wait,
            Finding::Busy(wait) => Some(wait),
            _ => None,
        };
        if let Some(wait) = wish.filter(|_| may_rest()) {
            pass.refused(name, Some(wait), settings, "the upstream asked for a rest");
            return None;
        }
        match (finding, key) {
            (Finding::Nothing, _) => return None,
            (Finding::Failing | Finding::Busy(_), _) => {
                pass.failed(name, settings);
                return None;
            }
            (Finding::Forbidden(wait), Some(key)) => suspects.push((key, wait)),
            (Finding::Limited(wait), Some(key)) => key.refused(name, wait, &upstream.keys),
            (Finding::Alive | Finding::Forbidden(_) | Finding::Limited(_), key) => {
                accept(upstream, key, suspects);
                pass.succeeded(name);
                return None;
            }
        }
        match upstream.keys.next_but(&suspects) {
            Some(key) => Some(Self { upstream, pass, key: Some(key), suspects }),
            None => {
                pass.succeeded(name);
                None
            }
        }
    }
}

/// The request was taken with this key: those that were refused before it are at fault.
fn accept<'a>(upstream: &Upstream, key: Option<KeyPass<'a>>, suspects: Vec<(KeyPass<'a>, Option<Duration>)>) {
    let Some(key) = key else { return };
    let name = &upstream.settings.name;
    key.accepted(name);
    for (suspect, wait) in suspects {
        suspect.refused(name, wait, &upstream.keys);
    }
}

impl Verdict {
    /// The upstream broke its stream.
    pub(crate) fn broken(mut self) {
        self.is_broken = true;
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        let config::Upstream { name, breaker: settings, .. } = &self.upstream.settings;
        let pass = self.upstream.breaker.resume(self.ticket);
        if self.is_broken {
            pass.failed(name, settings);
        } else {
            pass.succeeded(name);
        }
    }
}

impl Finding {
    fn of_answer(status: StatusCode, headers: &HeaderMap) -> Self {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Forbidden(retry_after(headers)),
            StatusCode::TOO_MANY_REQUESTS => Self::Limited(retry_after(headers)),
            status if status.is_server_error() => match retry_after(headers) {
                Some(wait) if BUSY.contains(&status.as_u16()) => Self::Busy(wait),
                _ => Self::Failing,
            },
            _ => Self::Alive,
        }
    }

    fn of_error(error: &Error) -> Self {
        if error.kind.blame() == Blame::Upstream { Self::Failing } else { Self::Nothing }
    }
}

/// How long an upstream wants to be left alone; none if it does not say, or no time at all.
///
/// Source: RFC 9110, section 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().ok()?
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        date(value)?.saturating_sub(now.as_secs())
    };
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// The seconds since 1970 of a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Source: RFC 9110, section 5.6.7; the two older forms must not be sent, and are not read.
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, text) = text.split_once(", ")?;
    let mut parts = text.split(' ');
    let number =
        |part: Option<&str>, max: i64| part?.parse().ok().filter(|number: &i64| (0..=max).contains(number));
    let day = number(parts.next(), 31)?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|known| *known == name)? as i64 + 1;
    let year = number(parts.next(), 9999)?;
    let mut clock = parts.next()?.split(':');
    let (hour, minute, second) =
        (number(clock.next(), 23)?, number(clock.next(), 59)?, number(clock.next(), 60)?);
    let is_whole = parts.next() == Some("GMT") && parts.next().is_none() && clock.next().is_none();
    let seconds = day_number(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    u64::try_from(seconds).ok().filter(|_| is_whole)
}

/// What the client is told when everybody who could answer is left alone until then, or longer.
pub(super) fn nobody_until(until: Instant) -> Error {
    let message = "every upstream for this model is left alone for a while because it failed, try again";
    // The header has whole seconds; one too few would be too early.
    let wait = Duration::from_secs((until - Instant::now()).as_secs() + 1);
    Error::new(ErrorKind::UpstreamUnavailable, message).with_retry_after(wait)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(status: u16, retry_after: &str, expected: Finding) {
        let value = HeaderValue::try_from(retry_after).unwrap();
        let headers: HeaderMap =
            (!retry_after.is_empty()).then_some((header::RETRY_AFTER, value)).into_iter().collect();
        assert_eq!(Finding::of_answer(StatusCode::from_u16(status).unwrap(), &headers), expected);
    }

    // parity: 121
    #[test]
    fn only_what_the_upstream_did_wrong_is_its_failure() {
        for status in [200, 204, 302, 400, 404, 408, 409, 413, 422] {
            check(status, "7", Finding::Alive);
        }
        for status in [500, 501, 502, 503, 504, 529] {
            check(status, "", Finding::Failing);
        }
        for status in [500, 501, 502, 504] {
            check(status, "7", Finding::Failing);
        }
        check(401, "", Finding::Forbidden(None));
        check(403, "7", Finding::Forbidden(Some(Duration::from_secs(7))));
        check(429, "", Finding::Limited(None));
        check(429, "60", Finding::Limited(Some(Duration::from_secs(60))));
    }

    #[test]
    fn who_is_busy_may_say_for_how_long() {
        for status in [503, 529] {
            check(status, "7", Finding::Busy(Duration::from_secs(7)));
            check(status, "0", Finding::Failing);
        }
    }

    #[test]
    fn a_wish_that_is_none_is_none() {
        for text in ["0", "soon", "-1", "1.5", "99999999999999999999", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            check(429, text, Finding::Limited(None));
        }
    }

    #[test]
    fn errors_count_by_who_is_to_blame() {
        let of = |kind| Finding::of_error(&Error::new(kind, ""));
        for kind in [
            ErrorKind::UpstreamUnreachable,
            ErrorKind::UpstreamTimeout(crate::error::Timer::FirstByte),
            ErrorKind::UpstreamInvalid,
            ErrorKind::UpstreamEmpty,
        ] {
            assert_eq!(of(kind), Finding::Failing);
        }
        for kind in
            [ErrorKind::Cancelled, ErrorKind::RequestTimeout, ErrorKind::InvalidRequest, ErrorKind::Internal]
        {
            assert_eq!(of(kind), Finding::Nothing);
        }
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for text in [
            "",
            "Sun, 06 Nov 1994",
            "06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 24:00:00 GMT",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(text in "\\PC{0,40}") {
            date(&text);
            if let Ok(value) = HeaderValue::try_from(text) {
                let name: HeaderName = header::RETRY_AFTER;
                retry_after(&HeaderMap::from_iter([(name, value)]));
            }
        }
    }
}
