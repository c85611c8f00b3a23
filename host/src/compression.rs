//! Answers in JSON made smaller for clients that ask for it, where the operator wants that. Event streams never are: an
//! event must not wait for others.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::headers::Kind;

/// What is shorter gains nothing worth its time. Source: `gzip_min_length` as most sites set it, and the Python proxy.
const BYTES_MIN: u64 = 1000;
/// What is longer would keep a thread from other requests for too long: this much takes some milliseconds.
const BYTES_MAX: u64 = 256 << 10;

/// Marks an answer whose body is to be compressed.
#[derive(Clone, Copy)]
pub(crate) struct Gzip;

/// Whether a client takes gzip.
///
/// Source: RFC 9110, section 12.5.3.
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|list| list.to_str().ok());
    let mut any = false;
    for coding in lists.flat_map(|list| list.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_wanted = !parts.any(is_weight_of_nothing);
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return is_wanted;
        }
        any |= name == "*" && is_wanted;
    }
    any
}

/// Whether a parameter is a weight of zero.
fn is_weight_of_nothing(parameter: &str) -> bool {
    let weight = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weight.is_some_and(|(_, weight)| weight.trim().parse() == Ok(0.0_f32))
}

/// Has an answer compressed if that is worth it: JSON of a known length, neither small nor large, not compressed yet.
pub(crate) fn prepare<B: Body>(response: &mut Response<B>) {
    let headers = response.headers();
    let is_changeable = !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.get_all(header::CACHE_CONTROL).iter().any(forbids_change)
        && response.status() != StatusCode::PARTIAL_CONTENT
        && Kind::of(headers) == Kind::Json;
    let len = response.body().size_hint().exact();
    if !is_changeable || !len.is_some_and(|len| (BYTES_MIN..=BYTES_MAX).contains(&len)) {
        return;
    }
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    // It names other bytes.
    headers.remove(header::ETAG);
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    response.extensions_mut().insert(Gzip);
}

/// Source: RFC 9111, section 5.2.2.6.
fn forbids_change(control: &HeaderValue) -> bool {
    control.to_str().is_ok_and(|control| control.to_ascii_lowercase().contains("no-transform"))
}

/// A body, compressed or as it is.
pub(crate) struct Compressed<B> {
    body: B,
    /// Gone at the end of a body that is compressed.
    encoder: Option<Box<GzEncoder<Vec<u8>>>>,
}

impl<B> Compressed<B> {
    /// The body of an answer that went through [`prepare`], or did not.
    pub(crate) fn of(response: Response<B>) -> Response<Self> {
        let (mut parts, body) = response.into_parts();
        let encoder = parts
            .extensions
            .remove::<Gzip>()
            .map(|Gzip| Box::new(GzEncoder::new(Vec::new(), Compression::fast())));
        Response::from_parts(parts, Self { body, encoder })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Compressed<B>
where
    B::Error: From<std::io::Error>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        loop {
            let polled = Pin::new(&mut this.body).poll_frame(context);
            let Some(encoder) = &mut this.encoder else { return polled };
            let out = match ready!(polled) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    encoder.write_all(&data)?;
                    std::mem::take(encoder.get_mut())
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => match this.encoder.take() {
                    Some(encoder) => encoder.finish()?,
                    None => return Poll::Ready(None),
                },
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.encoder.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Read;

    use http_body_util::{BodyExt, Full};

    use super::*;

    #[track_caller]
    fn check_accepted(lists: &[&'static str], accepted: bool) {
        let lists = lists.iter().map(|list| (header::ACCEPT_ENCODING, HeaderValue::from_static(list)));
        assert_eq!(is_accepted(&lists.collect()), accepted);
    }

    #[test]
    fn only_who_asks_for_gzip_is_sent_it() {
        check_accepted(&[], false);
        check_accepted(&["identity"], false);
        check_accepted(&["br, deflate"], false);
        check_accepted(&["gzip"], true);
        check_accepted(&["deflate, GZIP;q=0.5"], true);
        check_accepted(&["br", "x-gzip"], true);
        check_accepted(&["*"], true);
        check_accepted(&["*;q=0"], false);
        check_accepted(&["*, gzip; q=0.0"], false);
    }

    /// Whether an answer with such a content type and length is compressed.
    #[track_caller]
    fn check(kind: &'static str, len: usize, header: Option<(&'static str, &'static str)>, compressed: bool) {
        let mut builder = Response::builder().header(header::CONTENT_TYPE, kind);
        if let Some((name, value)) = header {
            builder = builder.header(name, value);
        }
        let mut response = builder.body(Full::new(Bytes::from(vec![b'a'; len]))).unwrap();
        prepare(&mut response);
        let is_marked = response.extensions().get::<Gzip>().is_some();
        assert_eq!(is_marked, compressed, "{kind} {len} {header:?}");
        assert_eq!(response.headers().get(header::VARY).is_some(), compressed);
    }

    #[test]
    fn only_json_that_is_worth_it_is_compressed() {
        check("application/json", 1000, None, true);
        check("application/json; charset=utf-8", 256 << 10, None, true);
        check("application/json", 999, None, false);
        check("application/json", (256 << 10) + 1, None, false);
        check("text/event-stream", 2000, None, false);
        check("audio/mpeg", 2000, None, false);
        check("application/json", 2000, Some(("content-encoding", "br")), false);
        check("application/json", 2000, Some(("cache-control", "no-store, no-transform")), false);
        check("application/json", 2000, Some(("cache-control", "no-store")), true);
    }

    /// A body in pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[tokio::test]
    async fn what_is_compressed_comes_back_whole() {
        let text: String = (0..500).map(|n| format!("{n},")).collect();
        let mut response =
            Response::new(Pieces(text.as_bytes().chunks(100).map(Bytes::copy_from_slice).collect()));
        response.extensions_mut().insert(Gzip);
        let sent = Compressed::of(response).into_body().collect().await.unwrap().to_bytes();
        let mut read = String::new();
        flate2::read::GzDecoder::new(&sent[..]).read_to_string(&mut read).unwrap();
        assert!(read == text && sent.len() < text.len());
    }
}
