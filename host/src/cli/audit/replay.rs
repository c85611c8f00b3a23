//! `witgate audit replay`: a stored request, sent again.

mod client;
mod comparison;
mod stored;
mod trial;

use std::io::{IsTerminal, Write};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use self::comparison::{Comparison, differences};
use self::stored::Stored;
use super::output::{End, Output, VisibleStream, visible, visible_line};
use super::{ReplayArguments, Source, the_one};
use crate::cli::serve;
use crate::config::Config;
use crate::headers::Kind;

/// The variable with the key to send a request with.
const KEY_VARIABLE: &str = "WITGATE_REPLAY_KEY";

/// The largest answer that is compared, in bytes.
const COMPARED_BYTES_MAX: usize = 64 << 20;

/// Sends the request and prints the answer, and to standard error how it differs from the stored one; or shows what
/// other plugins make of both.
///
/// # Errors
///
/// When there is no such exchange, its request was not stored whole, or the gateway does not answer.
pub(super) fn run(arguments: &ReplayArguments, source: &Source<'_>, out: &mut Output) -> Result<(), End> {
    let to = arguments.to.as_deref().map(client::Place::parse).transpose().map_err(End::Misused)?;
    let key = arguments.key.as_deref().or_else(|| source.environment.filled(KEY_VARIABLE));
    let row = the_one(&source.location(&arguments.place)?, &arguments.id)?;
    let stored = Stored::of(&row)?;
    if let Some(file) = &arguments.plugins {
        let shown = serve::runtime()?.block_on(trial::differences(file, &stored, key, source.environment))?;
        return Ok(write!(out, "{}", visible(&shown))?);
    }
    let place = to.map_or_else(|| configured(&source.config()?), Ok)?;
    let uri = place.uri(&stored.target)?;
    let request = stored.request(uri, key)?;
    serve::runtime()?.block_on(send(&place, request, &stored, out))
}

/// The gateway of a configuration, as it is reached from this machine.
fn configured(config: &Config) -> Result<client::Place, String> {
    let mut address = config.server.listen;
    if address.port() == 0 {
        return Err(
            "the configuration leaves the port open: say where the gateway is with `--to URL`".to_owned()
        );
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(client::Place::own(address, config.server.tls.is_some()))
}

async fn send(
    place: &client::Place,
    request: Request<Full<Bytes>>,
    stored: &Stored,
    out: &mut Output,
) -> Result<(), End> {
    let uri = request.uri().clone();
    eprintln!("request: {} {}", request.method(), visible_line(&shown(place, &uri)));
    let answer = place.send(request).await?;
    eprintln!(
        "answer: {} (was {})",
        answer.status(),
        stored.status.map_or_else(|| "none".to_owned(), |status| status.to_string())
    );
    let kind = Kind::of(answer.headers());
    let body = print(answer, out).await?;
    out.flush()?;
    let Some(body) = body else {
        eprintln!("the answer is too long to be compared");
        return Ok(());
    };
    match &stored.answer {
        Err(why) => eprintln!("{why}: nothing to compare with"),
        Ok(before) => {
            let (endpoint, with_usage) = (stored.endpoint, kind != Kind::EventStream);
            let stored_kind = stored.answer_kind();
            let before = Comparison { endpoint, body: before.as_bytes(), kind: stored_kind, with_usage };
            let after = Comparison { endpoint, body: &body, kind, with_usage };
            match differences("stored", &before.text(), "now", &after.text()) {
                Some(shown) => eprint!("{}", visible(&shown)),
                None => eprintln!("the answer is the stored one"),
            }
        }
    }
    Ok(())
}

fn shown(place: &client::Place, uri: &Uri) -> String {
    format!("{place}{}", uri.path_and_query().map_or("/", |target| target.as_str()))
}

/// Prints an answer as it comes. Returns it, unless it is too long.
async fn print(answer: Response<Incoming>, out: &mut Output) -> Result<Option<Bytes>, End> {
    let content_type = answer.headers().get(http::header::CONTENT_TYPE).cloned();
    let content_type = content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let is_text = Kind::of(answer.headers()) != Kind::Other || content_type.starts_with("text/");
    // A program is given the very bytes.
    let mut visible = std::io::stdout().is_terminal().then(VisibleStream::default);
    let mut body = answer.into_body();
    let (mut kept, mut len) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
        let Some(data) = frame.data_ref() else { continue };
        len += data.len();
        if len <= COMPARED_BYTES_MAX {
            kept.extend_from_slice(data);
        }
        match &mut visible {
            None => out.write_all(data)?,
            Some(stream) if is_text => out.write_all(stream.push(data).as_bytes())?,
            Some(_) => {}
        }
        out.flush()?;
    }
    if let Some(stream) = visible {
        if is_text {
            writeln!(out, "{}", stream.finish())?;
        } else {
            let content_type = visible_line(&content_type);
            eprintln!("{len} bytes of `{content_type}` are not shown: redirect them to a file");
        }
    }
    Ok((len <= COMPARED_BYTES_MAX).then(|| kept.into()))
}
