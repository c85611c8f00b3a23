//! Requests by `wasi:http`.

use std::time::Duration;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

use super::{Error, RESPONSE_BYTES_MAX, Request, Response, Target};

/// How much `blocking-write-and-flush` takes at once. Source: wasi:io/streams@0.2, `output-stream`.
const WRITE_BYTES_MAX: usize = 4096;

/// How much is read at once.
const READ_BYTES_MAX: u64 = 64 << 10;

pub(super) fn send(request: &Request, target: &Target<'_>) -> Result<Response, Error> {
    let outgoing = OutgoingRequest::new(fields(request)?);
    outgoing.set_method(&method(&request.method)).map_err(|()| wrong("method", &request.method))?;
    let scheme = if target.is_tls { Scheme::Https } else { Scheme::Http };
    outgoing.set_scheme(Some(&scheme)).map_err(|()| wrong("URL", &request.url))?;
    outgoing.set_authority(Some(target.authority)).map_err(|()| wrong("URL", &request.url))?;
    outgoing.set_path_with_query(Some(&target.path_and_query)).map_err(|()| wrong("URL", &request.url))?;
    let body = outgoing.body().map_err(|()| wrong("body", ""))?;
    let answer = handle(outgoing, Some(options(request.timeout)))?;
    write(body, &request.body);
    read(wait(&answer)?)
}

fn wrong(what: &str, value: &str) -> Error {
    Error::Request(format!("`{value}` is no {what}"))
}

fn fields(request: &Request) -> Result<Fields, Error> {
    let fields = Fields::new();
    for (name, value) in &request.headers {
        fields.append(name, value.as_bytes()).map_err(|_| wrong("header", name))?;
    }
    let sends_body = !request.body.is_empty() || !matches!(request.method.as_str(), "GET" | "HEAD");
    if sends_body && !fields.has("content-length") {
        let len = request.body.len().to_string();
        fields.append("content-length", len.as_bytes()).map_err(|_| wrong("header", "content-length"))?;
    }
    Ok(fields)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn options(timeout: Option<Duration>) -> RequestOptions {
    let options = RequestOptions::new();
    let nanoseconds = timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    // A host that does not support one of them says so; its own bounds hold then.
    let _ = options.set_connect_timeout(nanoseconds);
    let _ = options.set_first_byte_timeout(nanoseconds);
    let _ = options.set_between_bytes_timeout(nanoseconds);
    options
}

/// Writes the body. A server may answer before it has read all of it, so that its answer tells whether that mattered.
fn write(body: OutgoingBody, bytes: &[u8]) {
    if let Ok(stream) = body.write() {
        let _ = bytes.chunks(WRITE_BYTES_MAX).try_for_each(|chunk| stream.blocking_write_and_flush(chunk));
    }
    let _ = OutgoingBody::finish(body, None);
}

fn wait(answer: &FutureIncomingResponse) -> Result<IncomingResponse, Error> {
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(response)) => Ok(response?),
        _ => Err(Error::Response("the host has none".to_owned())),
    }
}

fn read(response: IncomingResponse) -> Result<Response, Error> {
    let status = response.status();
    let entries = response.headers().entries();
    let headers = entries
        .into_iter()
        .filter_map(|(name, value)| Some((name, String::from_utf8(value).ok()?)))
        .collect();
    let incoming = response.consume().map_err(|()| Error::Response("it has no body".to_owned()))?;
    let stream = incoming.stream().map_err(|()| Error::Response("it has no body".to_owned()))?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES_MAX) {
            Ok(bytes) if body.len() + bytes.len() > RESPONSE_BYTES_MAX => return Err(Error::TooLarge),
            Ok(bytes) if body.is_empty() => body = bytes,
            Ok(bytes) => body.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return Ok(Response { status, headers, body }),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(match wasip2::http::types::http_error_code(&error) {
                    Some(code) => code.into(),
                    None => Error::Response(error.to_debug_string()),
                });
            }
        }
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Self::Denied,
            ErrorCode::DnsTimeout
            | ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::HttpResponseTimeout => Self::Timeout,
            ErrorCode::HttpResponseBodySize(_) => Self::TooLarge,
            ErrorCode::DnsError(_)
            | ErrorCode::DestinationNotFound
            | ErrorCode::DestinationUnavailable
            | ErrorCode::DestinationIpUnroutable
            | ErrorCode::ConnectionRefused
            | ErrorCode::ConnectionTerminated
            | ErrorCode::ConnectionLimitReached
            | ErrorCode::TlsProtocolError
            | ErrorCode::TlsCertificateError
            | ErrorCode::TlsAlertReceived(_) => Self::Connect(name(&code)),
            ErrorCode::HttpRequestLengthRequired
            | ErrorCode::HttpRequestBodySize(_)
            | ErrorCode::HttpRequestMethodInvalid
            | ErrorCode::HttpRequestUriInvalid
            | ErrorCode::HttpRequestUriTooLong
            | ErrorCode::HttpRequestHeaderSectionSize(_)
            | ErrorCode::HttpRequestHeaderSize(_)
            | ErrorCode::HttpRequestTrailerSectionSize(_)
            | ErrorCode::HttpRequestTrailerSize(_) => Self::Request(name(&code)),
            ErrorCode::InternalError(Some(reason)) => Self::Response(reason),
            _ => Self::Response(name(&code)),
        }
    }
}

/// The name of a code, e.g. `ConnectionRefused`.
fn name(code: &ErrorCode) -> String {
    let text = format!("{code:?}");
    text.strip_prefix("ErrorCode::").unwrap_or(&text).to_owned()
}
