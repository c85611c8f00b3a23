//! Where a client is, when there are proxies before this gateway.
//!
//! Anybody can write a forwarding header, so only the part of it counts that was written by proxies the operator trusts:
//! each of them adds, on the right, whom it was talking to. The walk begins at the connection's peer and goes from right
//! to left for as long as who says so is trusted. Pure.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName};

use crate::config::Networks;

/// The usual header, which is older than RFC 7239.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The most entries of a header that are looked at, empty ones included; a chain of trusted proxies is shorter.
const ENTRIES_MAX: usize = 64;
/// The longest entry that may hold an address, its parameters included, in bytes.
const ENTRY_BYTES_MAX: usize = 512;

/// Finds the client behind a connection's peer.
///
/// It is the rightmost address of `X-Forwarded-For`, or of `Forwarded` if that is absent, that is not trusted itself. An
/// entry that is no address ends the walk at who wrote it, and so do the bounds.
pub(crate) fn client_address(peer: IpAddr, trusted: &Networks, headers: &HeaderMap) -> IpAddr {
    // A listener for both families sees IPv4 as a part of IPv6.
    let peer = peer.to_canonical();
    if trusted.is_empty() || !trusted.contains(peer) {
        return peer;
    }
    if headers.contains_key(X_FORWARDED_FOR) {
        walk(peer, trusted, entries(headers, &X_FORWARDED_FOR).map(node))
    } else {
        walk(peer, trusted, entries(headers, &FORWARDED).map(forwarded_for))
    }
}

/// Goes from hop to hop, away from the gateway.
fn walk(peer: IpAddr, trusted: &Networks, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
    let mut client = peer;
    for hop in hops {
        let Some(hop) = hop else { return client };
        client = hop;
        if !trusted.contains(hop) {
            return client;
        }
    }
    client
}

/// The entries of all lines of a header from right to left, without the empty ones, which mean nothing.
///
/// Source: RFC 9110, sections 5.3 and 5.6.1.
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter().rev();
    let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    entries.take(ENTRIES_MAX).map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// Reads an address, with a port or without: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok().filter(|text| text.len() <= ENTRY_BYTES_MAX)?;
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse().ok().or_else(in_brackets).or_else(with_port)?;
    Some(address.to_canonical())
}

/// Reads the parameter `for` of an entry of `Forwarded`.
///
/// Each parameter must be whole by itself. A quoted text with a `,` or `;` in it is therefore no valid entry, and what
/// a client smuggles into one, by its Host header for example, is not either: it has a quote too few.
///
/// Source: RFC 7239, sections 4 and 6.
fn forwarded_for(entry: &[u8]) -> Option<IpAddr> {
    if entry.len() > ENTRY_BYTES_MAX {
        return None;
    }
    let mut found = None;
    for parameter in entry.split(|byte| *byte == b';') {
        let at = parameter.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (parameter[..at].trim_ascii(), unquoted(parameter[at + 1..].trim_ascii())?);
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") {
            if found.is_some() {
                return None;
            }
            found = Some(node(value)?);
        }
    }
    found
}

/// The inside of a quoted text without escapes, or a token as it is.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    match value.strip_prefix(b"\"") {
        Some(rest) => {
            let inside = rest.strip_suffix(b"\"")?;
            (!inside.iter().any(|byte| matches!(byte, b'"' | b'\\'))).then_some(inside)
        }
        // Some proxies leave the quotes out that colons and brackets ask for.
        None => {
            value.iter().all(|byte| is_token(*byte) || matches!(byte, b':' | b'[' | b']')).then_some(value)
        }
    }
}

/// Source: RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::config::check::values;

    const PEER: &str = "10.0.0.1";

    fn trusted(networks: &[&str]) -> Networks {
        networks.iter().map(|text| values::network(text).unwrap()).collect()
    }

    fn headers(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line).unwrap())).collect()
    }

    fn found(name: &HeaderName, lines: &[&[u8]]) -> String {
        let trusted = trusted(&["10.0.0.0/8", "2001:db8:1::/48"]);
        client_address(PEER.parse().unwrap(), &trusted, &headers(name, lines)).to_string()
    }

    #[track_caller]
    fn check(lines: &[&str], client: &str) {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        assert_eq!(found(&X_FORWARDED_FOR, &lines), client, "{lines:?}");
    }

    #[track_caller]
    fn check_forwarded(lines: &[&str], client: &str) {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        assert_eq!(found(&FORWARDED, &lines), client, "{lines:?}");
    }

    // parity: 132
    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_trusted() {
        check(&[], PEER);
        check(&["192.0.2.1"], "192.0.2.1");
        check(&["6.6.6.6, 192.0.2.1"], "192.0.2.1");
        check(&["6.6.6.6, 192.0.2.1, 10.1.1.1"], "192.0.2.1");
        check(&["6.6.6.6", "192.0.2.1", "10.1.1.1,10.2.2.2"], "192.0.2.1");
        check(&["192.0.2.1,, ,10.1.1.1,"], "192.0.2.1");
        check(&["10.3.3.3, 10.1.1.1"], "10.3.3.3");
        check(&["2001:db8::7, 2001:db8:1::1"], "2001:db8::7");
    }

    // parity: 132
    #[test]
    fn who_is_not_trusted_is_not_believed() {
        let claim = headers(&X_FORWARDED_FOR, &[b"6.6.6.6"]);
        let peer: IpAddr = "192.0.2.9".parse().unwrap();
        assert_eq!(client_address(peer, &trusted(&["10.0.0.0/8"]), &claim), peer);
        assert_eq!(client_address(PEER.parse().unwrap(), &Networks::default(), &claim).to_string(), PEER);
    }

    #[test]
    fn addresses_come_in_many_forms() {
        check(&["192.0.2.1:4711"], "192.0.2.1");
        check(&["[2001:db8::7]"], "2001:db8::7");
        check(&["[2001:db8::7]:443"], "2001:db8::7");
        check(&["::ffff:192.0.2.1"], "192.0.2.1");
        check(&["[::ffff:10.1.1.1]:80"], "10.1.1.1");
        check(&["192.0.2.1, ::ffff:10.1.1.1"], "192.0.2.1");
    }

    #[test]
    fn an_ipv4_peer_on_a_listener_for_both_families_is_known() {
        let peer = "::ffff:10.0.0.1".parse().unwrap();
        let claim = headers(&X_FORWARDED_FOR, &[b"192.0.2.1"]);
        assert_eq!(client_address(peer, &trusted(&["10.0.0.1"]), &claim).to_string(), "192.0.2.1");
        assert_eq!(client_address(peer, &Networks::default(), &claim).to_string(), PEER);
    }

    #[test]
    fn garbage_ends_the_walk_at_who_wrote_it() {
        check(&["unknown"], PEER);
        check(&["192.0.2.1, unknown"], PEER);
        check(&["192.0.2.1, _hidden, 10.1.1.1"], "10.1.1.1");
        check(&["192.0.2.1 10.1.1.1"], PEER);
        check(&["fe80::1%eth0"], PEER);
        check(&["192.0.2.1:99999"], PEER);
        check(&["[192.0.2.1]"], PEER);
        check(&["0x7f.1"], PEER);
        check(&[&"1".repeat(600)], PEER);
    }

    #[test]
    fn the_work_on_a_header_is_bounded() {
        check(&[&format!("192.0.2.1{}", ", 10.1.1.1".repeat(ENTRIES_MAX))], "10.1.1.1");
        check(&[&format!("192.0.2.1{}", ",".repeat(ENTRIES_MAX))], PEER);
    }

    #[test]
    fn forwarded_is_read_where_there_is_no_x_forwarded_for() {
        check_forwarded(&["for=192.0.2.1"], "192.0.2.1");
        check_forwarded(&["For=192.0.2.1;Proto=https;by=10.9.9.9"], "192.0.2.1");
        check_forwarded(&["for=6.6.6.6, proto=http ; for=\"[2001:db8::7]:4711\""], "2001:db8::7");
        check_forwarded(&["for=192.0.2.1", "for=10.1.1.1, for=\"10.2.2.2:80\""], "192.0.2.1");
        check_forwarded(&["for=192.0.2.1:80"], "192.0.2.1");
        let mut both = headers(&FORWARDED, &[b"for=192.0.2.1"]);
        both.extend(headers(&X_FORWARDED_FOR, &[b"192.0.2.2"]));
        let trusted = trusted(&["10.0.0.0/8"]);
        assert_eq!(client_address(PEER.parse().unwrap(), &trusted, &both).to_string(), "192.0.2.2");
    }

    #[test]
    fn what_is_smuggled_into_forwarded_ends_the_walk() {
        check_forwarded(&["for=_hidden"], PEER);
        check_forwarded(&["for=unknown"], PEER);
        check_forwarded(&["proto=https"], PEER);
        check_forwarded(&["for=192.0.2.1;for=192.0.2.2"], PEER);
        check_forwarded(&["for=192.0.2.1;host=\"x, for=6.6.6.6\""], PEER);
        check_forwarded(&["for=192.0.2.1;host=\"x, for=6.6.6.6;a=b\""], PEER);
        check_forwarded(&["for=192.0.2.1;host=\"x, for=\\\"6.6.6.6\\\"\""], PEER);
        check_forwarded(&["for=192.0.2.1;host=\"x, for=6.6.6.6, \""], PEER);
        check_forwarded(&["for=\"x, for=10.1.1.1"], "10.1.1.1");
        check_forwarded(&["for=192.0.2.1;", "for"], PEER);
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![prop::sample::select(b"0123456789.,:;[]=\" forFOR".to_vec()), 0x20..=0x7e_u8];
        prop::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn nothing_a_client_writes_changes_what_a_proxy_says(written in line(), is_new_line: bool) {
            for (name, said) in [(X_FORWARDED_FOR, "192.0.2.1, 10.1.1.1"), (FORWARDED, "for=192.0.2.1,for=10.1.1.1")] {
                let joined = [&written[..], b", ", said.as_bytes()].concat();
                let lines: &[&[u8]] = if is_new_line { &[&written, said.as_bytes()] } else { &[&joined] };
                prop_assert_eq!(found(&name, lines), "192.0.2.1");
            }
        }

        #[test]
        fn lines_and_commas_are_the_same(parts in prop::collection::vec(line(), 0..6)) {
            for name in [X_FORWARDED_FOR, FORWARDED] {
                let lines: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                let joined = parts.join(&b","[..]);
                let joined: &[&[u8]] = if lines.is_empty() { &[] } else { &[&joined] };
                prop_assert_eq!(found(&name, &lines), found(&name, joined));
            }
        }
    }
}
