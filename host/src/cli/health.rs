//! `witgate health`: whether a gateway on this machine is ready, for containers and scripts that have no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::defaults::Defaults;
use crate::config::env::Environment;
use crate::config::{self, Overrides};

/// How long connecting, asking and reading may take together.
const TIME_MAX: Duration = Duration::from_secs(2);
/// The most of an answer that is read, in bytes; what the gateway says is a few words.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// The page that is asked for where the URL names none.
const READY: &str = "/readyz";

/// Asks a gateway whether it is ready and prints what it says, in one line.
///
/// Without a URL it asks the admin listener of the configuration that `serve` would load.
///
/// # Errors
///
/// A message when it is not ready, or did not say so within 2 s.
pub(super) fn run(config: Option<&Path>, environment: &Environment, url: Option<Uri>) -> Result<(), String> {
    let url = match url {
        Some(url) => url,
        None => own_url(admin_address(config, environment))?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot start: {error}"))?;
    let asked = runtime.block_on(async { tokio::time::timeout(TIME_MAX, ask(&url)).await });
    // A name that nobody resolves would hold the process longer than it may take.
    runtime.shutdown_background();
    let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", TIME_MAX.as_secs())));
    let (status, text) = answer.map_err(|error| format!("{url}: {error}"))?;
    let line = one_line(&text);
    if !status.is_success() {
        return Err(format!("{url}: {status}: {line}"));
    }
    println!("{line}");
    Ok(())
}

/// Where the admin listener is by the configuration.
///
/// A file with mistakes says nothing about the gateway that runs, which has refused it and serves on: then it is asked
/// where it listens by default.
fn admin_address(config: Option<&Path>, environment: &Environment) -> SocketAddr {
    let origin = config::locate(config, environment);
    match config::load(&origin, environment, &Overrides::default()) {
        Ok((config, _)) => config.server.admin,
        Err(_) => Defaults::from_environment(environment, &mut Vec::new()).server.admin,
    }
}

/// The ready page of a listener on this machine.
///
/// # Errors
///
/// The system chose its port, which cannot be known here.
fn own_url(listener: SocketAddr) -> Result<Uri, String> {
    if listener.port() == 0 {
        return Err(
            "the configuration lets the system choose the admin port; name it with `--url`".to_owned()
        );
    }
    let url = format!("http://{}{READY}", reachable(listener));
    Ok(url.parse().expect("an address makes a URL"))
}

/// An address to connect to: a listener on all addresses is on loopback too.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

async fn ask(url: &Uri) -> Result<(StatusCode, Bytes), String> {
    let target = Target::of(url)?;
    let stream = TcpStream::connect((target.host, target.port)).await;
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    exchange(stream, &target).await.map_err(|error| format!("no answer: {error}"))
}

/// What a URL asks for, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    host: &'a str,
    port: u16,
    /// The value of `host`. A gateway knows itself by this name whatever addresses its admin listener is bound to.
    name: &'a str,
    path: &'a str,
}

impl<'a> Target<'a> {
    /// # Errors
    ///
    /// The URL is not one that can be asked without TLS.
    fn of(url: &'a Uri) -> Result<Self, String> {
        let authority = url.authority().filter(|_| url.scheme() == Some(&Scheme::HTTP));
        let authority =
            authority.ok_or("give a URL such as `http://127.0.0.1:9090/readyz`; `https` is not spoken")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(80),
            name: if is_loopback { "localhost" } else { authority.as_str() },
            path: if path == "/" { READY } else { path },
        })
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(stream: TcpStream, target: &Target<'_>) -> Result<(StatusCode, Bytes), Failure> {
    let request = Request::get(target.path)
        .header(HOST, target.name)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let (mut sender, mut connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asking = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
        Ok((head.status, body.to_bytes()))
    };
    tokio::pin!(asking);
    tokio::select! {
        answer = &mut asking => answer,
        // The connection may be done with before the answer has been taken from it.
        _ = &mut connection => asking.await,
    }
}

/// What can be printed of an answer's first line.
fn one_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().next().unwrap_or("").chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_own(listener: &str, url: &str) {
        assert_eq!(own_url(listener.parse().unwrap()).unwrap(), url);
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        check_own("127.0.0.1:9090", "http://127.0.0.1:9090/readyz");
        check_own("0.0.0.0:1", "http://127.0.0.1:1/readyz");
        check_own("[::]:1", "http://[::1]:1/readyz");
        check_own("10.0.0.1:1", "http://10.0.0.1:1/readyz");
    }

    #[test]
    fn a_port_that_the_system_chooses_has_to_be_named() {
        assert!(own_url("127.0.0.1:0".parse().unwrap()).unwrap_err().contains("`--url`"));
    }

    #[track_caller]
    fn check_target(url: &str, host: &str, port: u16, name: &str, path: &str) {
        let url = url.parse().unwrap();
        assert_eq!(Target::of(&url), Ok(Target { host, port, name, path }), "{url}");
    }

    #[test]
    fn a_url_is_taken_as_it_is_but_for_what_it_leaves_out() {
        check_target("http://a.example:81/healthz?x=1", "a.example", 81, "a.example:81", "/healthz?x=1");
        check_target("http://a.example", "a.example", 80, "a.example", "/readyz");
        check_target("http://127.0.0.1:81/", "127.0.0.1", 81, "localhost", "/readyz");
        check_target("http://[::1]:81/health", "::1", 81, "localhost", "/health");
        check_target("http://[2001:db8::1]:81/health", "2001:db8::1", 81, "[2001:db8::1]:81", "/health");
    }

    #[test]
    fn what_cannot_be_asked_in_plain_text_is_refused() {
        for url in ["https://127.0.0.1:9090/readyz", "127.0.0.1:9090", "/readyz", "unix://here/readyz"] {
            assert!(Target::of(&url.parse().unwrap()).unwrap_err().contains("`https`"), "{url}");
        }
    }

    #[test]
    fn one_line_is_printed_whatever_is_answered() {
        assert_eq!(one_line(b"ready"), "ready");
        assert_eq!(one_line(b"a\x1b[31m\tb\r\nc"), "a[31mb");
        assert_eq!(one_line(b"\xff"), "\u{fffd}");
        assert_eq!(one_line(b""), "");
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    #[test]
    fn the_admin_listener_is_where_file_and_environment_say() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        let written = |text: &str| {
            std::fs::write(&file, text).unwrap();
            admin_address(Some(&file), &environment(&[("METRICS_PORT", "7")])).to_string()
        };
        let upstreams = "upstreams: [{ name: one, base_url: 'builtin:echo' }]\n";
        assert_eq!(written(&format!("server: {{ admin: 127.0.0.1:8 }}\n{upstreams}")), "127.0.0.1:8");
        assert_eq!(written(upstreams), "127.0.0.1:7");
        assert_eq!(written("not: [a configuration"), "127.0.0.1:7");
        let by_variable = environment(&[("WITGATE_CONFIG", file.to_str().unwrap())]);
        assert_eq!(admin_address(None, &by_variable).to_string(), "127.0.0.1:9090");
    }
}
