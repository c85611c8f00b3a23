//! The `traceparent` header: which trace a request belongs to.
//!
//! Source: W3C Trace Context, Level 2, sections 3.2 and 4.3.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId};

/// Which trace a request belongs to, and what of it is its parent.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems on the way note for themselves.
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// What a caller's `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// Whether the caller records its part of the trace.
    pub(super) is_sampled: bool,
}

impl Parent {
    /// What the headers say; none where they say nothing valid.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        // Who sends several belongs to no trace.
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (value, rest) = value.split_at_checked(55)?;
        let version = digits::<1>(&value[..2])?[0];
        let is_shaped = value[2] == b'-' && value[35] == b'-' && value[52] == b'-';
        // Later versions may add to it, but only behind a hyphen.
        let is_over = rest.is_empty() || version > 0 && rest[0] == b'-';
        if !is_shaped || !is_over || version == 0xff {
            return None;
        }
        let trace = TraceId::from_bytes(digits(&value[3..35])?);
        let span = SpanId::from_bytes(digits(&value[36..52])?);
        let flags = digits::<1>(&value[53..])?[0];
        let is_valid = trace != TraceId::INVALID && span != SpanId::INVALID;
        is_valid.then_some(Self { trace, span, is_sampled: flags & SAMPLED != 0 })
    }

    /// As a header.
    pub(super) fn header(self) -> HeaderValue {
        let flags = u8::from(self.is_sampled) * SAMPLED;
        let value = format!("00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span);
        HeaderValue::try_from(value).expect("hexadecimal digits and hyphens are a valid header value")
    }
}

/// Reads pairs of hexadecimal digits; capital ones are not valid here.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[track_caller]
    fn check(value: &str, is_sampled: Option<bool>) {
        let read = Parent::parse(value.as_bytes());
        assert_eq!(read.map(|parent| parent.is_sampled), is_sampled, "{value}");
        if let Some(parent) = read {
            assert_eq!(parent.header().to_str().unwrap()[3..53], value[3..53]);
        }
    }

    #[test]
    fn a_caller_names_its_trace() {
        check(VALID, Some(true));
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some(false));
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", Some(true));
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(true));
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", Some(true));
    }

    #[test]
    fn what_is_not_valid_is_no_parent() {
        check("", None);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", None);
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", None);
        check("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None);
        check("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None);
        check("00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", None);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x", None);
        check("00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None);
    }

    #[test]
    fn who_names_two_traces_belongs_to_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(VALID));
        assert!(Parent::of(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(VALID));
        assert_eq!(Parent::of(&headers), None);
        assert_eq!(Parent::of(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace in 1_u128.., span in 1_u64.., is_sampled: bool) {
            let parent = Parent {
                trace: TraceId::from_bytes(trace.to_be_bytes()),
                span: SpanId::from_bytes(span.to_be_bytes()),
                is_sampled,
            };
            prop_assert_eq!(Parent::parse(parent.header().as_bytes()), Some(parent));
        }

        #[test]
        fn nothing_panics(value in proptest::collection::vec(any::<u8>(), 0..80), at in 0_usize..55, byte: u8) {
            Parent::parse(&value);
            let mut nearly = VALID.as_bytes().to_vec();
            nearly[at] = byte;
            Parent::parse(&nearly);
        }
    }
}
