//! The origins that a plugin may reach, `allow.http`, and what a request's address is by the same reading.
//!
//! There is one parser for what the operator writes and what a plugin asks for, so that no spelling means one thing
//! here and another there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::Uri;

use crate::plugin::outbound::address::{Reach, reach};

/// Bytes of a host's name. Source: RFC 1035, section 2.3.4, without the lengths of the encoding.
const NAME_BYTES_MAX: usize = 253;

/// Bytes of one label of it. Source: the same.
const LABEL_BYTES_MAX: usize = 63;

/// The origins of one plugin; none refuses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    origins: Vec<Origin>,
}

/// One entry of `allow.http`: `https://host`, `http://host:8080`, `https://*.example.com`.
///
/// A wildcard stands for one label or more, and does not name the hosts it stands for: they must have public addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: Scheme,
    host: Pattern,
    port: u16,
}

/// Where a request that was granted goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// With or without TLS.
    pub(crate) scheme: Scheme,
    /// The host.
    pub(crate) host: Host,
    /// The port, the scheme's own if none was named.
    pub(crate) port: u16,
    /// How plainly the grant named the host.
    reach: Reach,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its address cannot be read, or only in more ways than one.
    Invalid(&'static str),
    /// Its origin is not among those of the grant.
    NotGranted,
}

/// The protocols there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

/// A host in its one canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// In lowercase, without a dot at the end.
    Name(String),
    /// An address that was written as such; one of IPv4 that was wrapped in IPv6 is unwrapped.
    Address(IpAddr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(Host),
    /// Every name that ends in this, which begins with a dot.
    Below(String),
}

impl Policy {
    /// What the entries of `allow.http` grant together.
    pub(crate) fn new(origins: Vec<Origin>) -> Self {
        Self { origins }
    }

    /// Says where a request for this address goes, if it may.
    ///
    /// # Errors
    ///
    /// The refusal. The destination's addresses have to be asked for too: [`Destination::permits`].
    pub(crate) fn check(&self, uri: &Uri) -> Result<Destination, Refusal> {
        let scheme = uri.scheme_str().and_then(Scheme::named);
        let scheme = scheme.ok_or(Refusal::Invalid("the scheme is neither `http` nor `https`"))?;
        let authority = uri.authority().ok_or(Refusal::Invalid("there is no host"))?.as_str();
        let (host, port) = split(authority).map_err(Refusal::Invalid)?;
        let host = Host::parse(host).map_err(Refusal::Invalid)?;
        let port = scheme.port(port).map_err(Refusal::Invalid)?;
        let granted = self.origins.iter().filter(|origin| origin.scheme == scheme && origin.port == port);
        let reach = granted.filter_map(|origin| origin.host.reach(&host)).max().ok_or(Refusal::NotGranted)?;
        Ok(Destination { scheme, host, port, reach })
    }
}

impl Destination {
    /// Whether this address, which the host's name was resolved to, may be connected to.
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        match &self.host {
            Host::Address(literal) => *literal == address.to_canonical(),
            Host::Name(_) => reach(address) <= self.reach,
        }
    }

    /// What the `Host` header says.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.own_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Pattern {
    /// How plainly it names this host, if it does.
    fn reach(&self, host: &Host) -> Option<Reach> {
        match (self, host) {
            (Self::Exactly(named @ Host::Name(_)), _) if named == host => Some(Reach::Internal),
            (Self::Exactly(named @ Host::Address(_)), _) if named == host => Some(Reach::Special),
            (Self::Below(end), Host::Name(name)) if name.ends_with(end) => Some(Reach::Public),
            _ => None,
        }
    }
}

impl FromStr for Origin {
    type Err = String;

    /// # Errors
    ///
    /// A message for the operator that says what is wrong with the entry.
    fn from_str(text: &str) -> Result<Self, String> {
        let complain = |reason: &str| format!("origin `{text}`: {reason}");
        let Some((scheme, authority)) = text.split_once("://") else {
            return Err(complain("write `https://host` or `http://host:port`"));
        };
        let scheme =
            Scheme::named(scheme).ok_or_else(|| complain("the scheme is neither `http` nor `https`"))?;
        if authority.contains(['/', '?', '#']) {
            return Err(complain("an origin ends with its host or port: leave out what follows"));
        }
        let (host, port) = split(authority).map_err(complain)?;
        let host = match host.strip_prefix("*.") {
            None if host == "*" => {
                return Err(complain("`*` alone would be every host: write `*.example.com`"));
            }
            None => Pattern::Exactly(Host::parse(host).map_err(complain)?),
            Some(domain) => match Host::parse(domain).map_err(complain)? {
                Host::Name(name) => Pattern::Below(format!(".{name}")),
                Host::Address(_) => return Err(complain("an address has no names below it: leave out `*.`")),
            },
        };
        let port = scheme.port(port).map_err(complain)?;
        Ok(Self { scheme, host, port })
    }
}

impl Scheme {
    fn named(name: &str) -> Option<Self> {
        let known = [("http", Self::Http), ("https", Self::Https)];
        known.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, scheme)| scheme)
    }

    fn own_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn port(self, written: Option<&str>) -> Result<u16, &'static str> {
        let Some(digits) = written else { return Ok(self.own_port()) };
        // `u16` would take a sign too.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let port = digits.parse().ok().filter(|port| is_number && *port > 0);
        port.ok_or("the port is not a number from 1 to 65535")
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr =
                address.parse().map_err(|_| "there is no IPv6 address in the brackets")?;
            return Ok(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if !name.split('.').all(is_label) || name.len() > NAME_BYTES_MAX {
            return Err("the host is not a name (write international ones in their `xn--` form)");
        }
        // Resolvers read `127.1`, `0x7f.1` and `2130706433` as addresses.
        // Source: WHATWG URL, "ends in a number checker"; inet_aton(3).
        let last = name.rsplit('.').next().unwrap_or(name);
        let is_hexadecimal = last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
        if is_hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("the host ends in a number: write an IPv4 address as four decimal numbers");
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Host and port of an authority, as they are written.
fn split(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if authority.contains('@') {
        return Err("a user's name and password cannot be part of it");
    }
    let host_len = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or("the bracket is not closed")? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_len);
    if rest.is_empty() {
        return Ok((host, None));
    }
    let port = rest.strip_prefix(':').ok_or("only a port can follow the bracket")?;
    Ok((host, Some(port)))
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(formatter),
            Self::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Pattern::Exactly(host) => write!(formatter, "{}://{host}", self.scheme)?,
            Pattern::Below(end) => write!(formatter, "{}://*{end}", self.scheme)?,
        }
        if self.port == self.scheme.own_port() { Ok(()) } else { write!(formatter, ":{}", self.port) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Invalid(reason) => reason,
            Self::NotGranted => "its origin is not in `allow.http`",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_origin(text: &str, shown: &str) {
        assert_eq!(text.parse::<Origin>().map(|origin| origin.to_string()), Ok(shown.to_owned()));
    }

    #[test]
    fn an_origin_has_one_spelling() {
        check_origin("https://dlp.internal:8443", "https://dlp.internal:8443");
        check_origin("HTTPS://Example.COM.:443", "https://example.com");
        check_origin("http://localhost:80", "http://localhost");
        check_origin("https://*.example.com", "https://*.example.com");
        check_origin("https://*.internal:8443", "https://*.internal:8443");
        check_origin("http://127.0.0.1:8080", "http://127.0.0.1:8080");
        check_origin("http://[0:0:0:0:0:0:0:1]:8080", "http://[::1]:8080");
        check_origin("http://[::ffff:10.0.0.1]", "http://10.0.0.1");
        check_origin("http://my_host", "http://my_host");
    }

    #[track_caller]
    fn check_complaint(text: &str, part: &str) {
        let message = text.parse::<Origin>().unwrap_err();
        assert!(message.starts_with(&format!("origin `{text}`: ")) && message.contains(part), "{message}");
    }

    #[test]
    fn what_is_no_origin_is_refused_with_a_reason() {
        check_complaint("example.com", "write `https://host`");
        check_complaint("", "write `https://host`");
        check_complaint("ftp://example.com", "neither `http` nor `https`");
        check_complaint("https://", "the host is not a name");
        check_complaint("https://example.com/", "leave out what follows");
        check_complaint("https://example.com/v1", "leave out what follows");
        check_complaint("https://a@example.com", "a user's name");
        check_complaint("https://*", "every host");
        check_complaint("https://*.", "the host is not a name");
        check_complaint("https://a.*.com", "the host is not a name");
        check_complaint("https://*a.com", "the host is not a name");
        check_complaint("https://*.10.0.0.1", "leave out `*.`");
        check_complaint("https://*.[::1]", "the host is not a name");
        check_complaint("https://münchen.de", "`xn--` form");
        check_complaint("https://a..b", "the host is not a name");
        check_complaint("https://a.b..", "the host is not a name");
        check_complaint(&format!("https://{}.com", "a".repeat(64)), "the host is not a name");
        check_complaint("https://a:0", "the port");
        check_complaint("https://a:65536", "the port");
        check_complaint("https://a:+1", "the port");
        check_complaint("https://a:", "the port");
        check_complaint("https://a:1:2", "the port");
        check_complaint("http://[::1", "not closed");
        check_complaint("http://[::1]x", "only a port");
        check_complaint("http://[fe80::1%25eth0]", "no IPv6 address");
        check_complaint("http://127.1", "four decimal numbers");
        check_complaint("http://2130706433", "four decimal numbers");
        check_complaint("http://0x7f.0x1", "four decimal numbers");
        check_complaint("http://127.0.0.01", "four decimal numbers");
    }

    fn policy(origins: &[&str]) -> Policy {
        Policy::new(origins.iter().map(|origin| origin.parse().unwrap()).collect())
    }

    #[track_caller]
    fn check(origins: &[&str], uri: &str, authority: Result<&str, Refusal>) {
        let checked = policy(origins).check(&uri.parse().unwrap());
        assert_eq!(checked.map(|destination| destination.authority()), authority.map(str::to_owned));
    }

    #[test]
    fn only_granted_origins_are_reached() {
        let none = Err(Refusal::NotGranted);
        check(&[], "https://example.com/", none);
        check(&["https://example.com"], "https://example.com/a?b", Ok("example.com"));
        check(&["https://example.com"], "https://EXAMPLE.com.:443/", Ok("example.com"));
        check(&["https://example.com"], "https://example.com:444/", none);
        check(&["https://example.com"], "http://example.com/", none);
        check(&["https://example.com"], "http://example.com:443/", none);
        check(&["https://example.com"], "https://a.example.com/", none);
        check(&["https://example.com"], "https://example.com.evil.org/", none);
        check(&["https://example.com:8443"], "https://example.com:8443", Ok("example.com:8443"));
        check(&["http://127.0.0.1:8080"], "http://127.0.0.1:8080/", Ok("127.0.0.1:8080"));
        check(&["http://127.0.0.1:8080"], "http://[::ffff:7f00:1]:8080/", Ok("127.0.0.1:8080"));
        check(&["http://[::1]"], "http://[0::1]/", Ok("[::1]"));
        check(&["http://localhost"], "http://127.0.0.1/", none);
    }

    #[test]
    fn a_wildcard_stands_for_names_below_and_nothing_else() {
        let none = Err(Refusal::NotGranted);
        check(&["https://*.example.com"], "https://a.example.com/", Ok("a.example.com"));
        check(&["https://*.example.com"], "https://a.b.EXAMPLE.com/", Ok("a.b.example.com"));
        check(&["https://*.example.com"], "https://example.com/", none);
        check(&["https://*.example.com"], "https://evilexample.com/", none);
        check(&["https://*.example.com"], "https://a.example.com:444/", none);
        check(&["https://*.example.com"], "https://a.example.com.evil.org/", none);
    }

    #[track_caller]
    fn check_invalid(uri: &str) {
        let checked = policy(&["http://evil.org", "http://127.0.0.1", "https://example.com"])
            .check(&uri.parse().unwrap());
        assert!(matches!(checked, Err(Refusal::Invalid(_))), "{checked:?}");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        check_invalid("https://example.com@evil.org/");
        check_invalid("https://evil.org@example.com/");
        check_invalid("https://user:password@example.com/");
        check_invalid("https://example.com:99999/");
        check_invalid("http://2130706433/");
        check_invalid("http://0x7f000001/");
        check_invalid("http://127.1/");
        check_invalid("http://0177.0.0.1/");
        check_invalid("https://example.com../");
        check_invalid("ftp://example.com/");
        check_invalid("/only/a/path");
    }

    #[track_caller]
    fn check_permits(origins: &[&str], uri: &str, addresses: &[&str], expected: bool) {
        let destination = policy(origins).check(&uri.parse().unwrap()).unwrap();
        for address in addresses {
            assert_eq!(destination.permits(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn the_inside_is_reached_only_by_name_and_metadata_only_by_address() {
        let wild = &["https://*.example.com"];
        check_permits(wild, "https://a.example.com", &["1.1.1.1", "2606:4700::1111"], true);
        let inside = &["127.0.0.1", "10.0.0.1", "100.64.0.1", "::1", "fc00::1", "::ffff:10.0.0.1"];
        check_permits(wild, "https://a.example.com", inside, false);
        let exact = &["https://a.example.com", "https://*.example.com"];
        check_permits(exact, "https://a.example.com", inside, true);
        check_permits(exact, "https://b.example.com", inside, false);
        check_permits(&["http://localhost"], "http://localhost", &["127.0.0.1", "::1"], true);
        let special = &["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "0.0.0.0", "224.0.0.1"];
        check_permits(exact, "https://a.example.com", special, false);
        let literal = &["http://169.254.169.254", "http://[fd00:ec2::254]"];
        check_permits(
            literal,
            "http://169.254.169.254",
            &["169.254.169.254", "::ffff:169.254.169.254"],
            true,
        );
        check_permits(literal, "http://169.254.169.254", &["169.254.169.253", "1.1.1.1"], false);
        check_permits(literal, "http://[fd00:ec2::254]", &["fd00:ec2::254"], true);
    }

    proptest! {
        #[test]
        fn any_text_is_an_origin_in_its_one_spelling_or_refused(
            text in "(https?://)?(\\*\\.)?[\\[\\]:@a-zA-Z0-9._*%-]{0,30}|.{0,40}",
        ) {
            if let Ok(origin) = text.parse::<Origin>() {
                prop_assert_eq!(origin.to_string().parse::<Origin>(), Ok(origin));
            }
        }

        /// What this reads and what the HTTP library reads is the same host, so that nothing slips through between.
        #[test]
        fn the_host_is_the_one_that_the_library_reads(authority in "[\\[\\]:@a-zA-Z0-9._%-]{1,30}") {
            let Ok(uri) = format!("http://{authority}/").parse::<Uri>() else { return Ok(()) };
            let Ok((host, _)) = split(uri.authority().unwrap().as_str()) else { return Ok(()) };
            if let Ok(parsed) = Host::parse(host) {
                prop_assert_eq!(Host::parse(uri.host().unwrap()), Ok(parsed));
                let _ = policy(&["http://a"]).check(&uri);
            }
        }

        #[test]
        fn an_origin_grants_itself(name in "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}", port in 1u16..) {
            let origin = format!("https://{name}:{port}");
            let destination = policy(&[&origin]).check(&format!("{origin}/x").parse().unwrap()).unwrap();
            prop_assert_eq!((destination.host, destination.port), (Host::Name(name), port));
        }
    }
}
