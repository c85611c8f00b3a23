//! What single values mean: durations, sizes, rates, model patterns, URLs. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::Uri;
use ipnet::{IpNet, Ipv4Net};

use crate::config::file::MARKDOWN_LINK;

/// Reads `10s`, `100ms`, `5m`, `1h`, `1d`; zero may go without a unit.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (count, unit) = split_unit(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        "m" => count.checked_mul(60).map(Duration::from_secs),
        "h" => count.checked_mul(3_600).map(Duration::from_secs),
        "d" => count.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
    // Beyond a hundred years it is a slip, and adding it to a clock could overflow.
    .filter(|duration| duration.as_secs() <= 100 * 366 * 86_400)
}

/// Reads seconds with an optional fraction, as the earlier systems' variables have them.
pub fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok().filter(|seconds: &f64| (0.0..=1e9).contains(seconds))?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads `64MiB`, `1GiB`, `512KiB`, `100B` or a number of bytes.
pub fn size(text: &str) -> Option<u64> {
    let (count, unit) = split_unit(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    count.checked_mul(1 << shift).filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// Reads `20%`.
pub fn percent(text: &str) -> Option<f64> {
    text.strip_suffix('%')?.trim_end().parse().ok().filter(|percent| (0.0..=100.0).contains(percent))
}

/// Reads `100/1m` (a count in a window) or `0` for no bound.
pub fn rate(text: &str) -> Option<(u64, Duration)> {
    if text == "0" {
        return Some((0, Duration::ZERO));
    }
    let (count, window) = text.split_once('/')?;
    let window = duration(window.trim()).filter(|window| !window.is_zero())?;
    Some((count.trim().parse().ok()?, window))
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

/// Reads `127.0.0.1:8000`, `[::]:8000`, `localhost:8000` or `:8000` (every address).
pub fn address(text: &str) -> Option<SocketAddr> {
    if let Some(port) = text.strip_prefix(':') {
        return Some(SocketAddr::new(IpAddr::from([0; 16]), port.parse().ok()?));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return Some(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port.parse().ok()?));
    }
    text.parse().ok()
}

/// Reads a network such as `10.0.0.0/8` or a single address; one of IPv4 that is written as IPv6 becomes one of IPv4.
pub fn network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = text.parse().ok()?;
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(MAPPED_BITS)) {
        (IpAddr::V4(address), Some(len)) if network.addr().is_ipv6() => {
            Ipv4Net::new(address, len).ok().map(|network| IpNet::V4(network.trunc()))
        }
        _ => Some(network.trunc()),
    }
}

/// The bits of `::ffff:0:0/96`, below which IPv6 holds the addresses of IPv4.
///
/// Source: RFC 4291, section 2.5.5.2.
const MAPPED_BITS: u8 = 96;

/// Why a text is no base URL: what is wrong, and the way out.
pub type UrlFault = (&'static str, &'static str);

/// Reads a base URL, without its trailing slashes.
///
/// # Errors
/// It is not an absolute HTTP URL that paths can be put behind.
pub fn base_url(text: &str) -> Result<Uri, UrlFault> {
    const EXAMPLE: &str = "write it like `https://api.openai.com/v1`";
    if text.contains("](") {
        return Err(("is not a URL", MARKDOWN_LINK));
    }
    let text = text.trim_end_matches('/');
    if text.contains('#') {
        return Err(("has a fragment", "remove `#` and what follows"));
    }
    let uri: Uri = text.parse().map_err(|_| ("is not a URL", EXAMPLE))?;
    let is_http = uri.scheme_str().is_some_and(|scheme| scheme == "http" || scheme == "https");
    if !is_http {
        return Err(("must begin with `http://` or `https://`", EXAMPLE));
    }
    let authority = uri.authority().ok_or(("has no host", EXAMPLE))?;
    if authority.as_str().contains('@') {
        return Err(("must not hold a user or password", "write the credential as `api_key`"));
    }
    // A port that is no number, or none behind the colon, is accepted by the parser of the http crate.
    let has_bad_port =
        uri.port().is_none() && !authority.as_str().ends_with(']') && authority.as_str().contains(':');
    if authority.host().is_empty() || has_bad_port || uri.port_u16() == Some(0) {
        return Err(("has no usable host and port", EXAMPLE));
    }
    if uri.query().is_some() {
        return Err(("has a query", "remove `?` and what follows; paths are put behind this URL"));
    }
    for tail in ["/chat/completions", "/completions", "/embeddings"] {
        if uri.path().ends_with(tail) {
            return Err((
                "is the address of one endpoint",
                "end it before the endpoint's path, mostly at `/v1`",
            ));
        }
    }
    Ok(uri)
}

/// Checks an origin that a plugin may reach: `https://host`, `http://host:8080`, `https://*.example.com`.
///
/// # Errors
/// What is wrong with it, and the way out.
pub fn origin(text: &str) -> Result<(), UrlFault> {
    const EXAMPLE: &str = "write it like `https://dlp.internal:8443`";
    let (scheme, authority) = text.split_once("://").ok_or(("has no scheme", EXAMPLE))?;
    if !["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Err(("must begin with `http://` or `https://`", EXAMPLE));
    }
    if authority.contains(['/', '?', '#']) {
        return Err(("goes on behind its host", "end it after the host or port"));
    }
    if authority.contains('@') {
        return Err(("must not hold a user or password", "hand it to the plugin in `allow.secrets`"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_some_and(|port| !is_digits(port) || !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(("has no usable port", "ports are numbers from 1 to 65535"));
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address
            .parse::<Ipv6Addr>()
            .map(drop)
            .map_err(|_| ("has no IPv6 address in its brackets", EXAMPLE));
    }
    if host == "*" {
        return Err(("is every host", "name the hosts; `*.example.com` is those below a domain"));
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(is_plain)
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    if !bare.split('.').all(is_label) || bare.len() > 253 {
        return Err(("has no usable host", EXAMPLE));
    }
    // Resolvers read `127.1`, `0x7f.1` and `2130706433` as addresses, so only the usual form is one.
    let last = bare.rsplit('.').next().unwrap_or(bare);
    let is_number = is_digits(last) || last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    if is_number && (name != host || name.parse::<Ipv4Addr>().is_err()) {
        return Err(("has a host that ends in a number", "write an address as four decimal numbers"));
    }
    Ok(())
}

/// The known name that somebody most likely meant.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .map(|name| (distance(word, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits (insert, remove, replace, swap neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            let is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            rows[i][j] = if is_swap { best.min(rows[i - 2][j - 2] + 1) } else { best };
        }
    }
    rows[a.len()][b.len()]
}
