//! The header that a proxy puts before everything else on a connection, TLS included: who is at its other end.
//!
//! Source: HAProxy, "The PROXY protocol, versions 1 & 2", 2020-03-05, sections 2.1 and 2.2.

use std::net::IpAddr;

use ppp::{v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;
/// The longest header of version 2 that is taken, with what proxies add about TLS; the protocol would allow 64 KiB.
const HEADER_BYTES_MAX: usize = 4096;
/// The part of version 2 that says how long the rest is.
const FIXED_BYTES: usize = 16;
/// How version 1 begins.
const WORD: &[u8] = b"PROXY ";
/// Version 2 and the command LOCAL: the proxy itself is asking, to see whether somebody is there.
const LOCAL: u8 = 0x20;

/// Reads the header and nothing behind it; gives the client that it names, if it names one.
///
/// # Errors
/// What is wrong with it: it is missing or broken, or the connection ended before it did.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Option<IpAddr>, String> {
    let mut header = vec![0; HEADER_BYTES_MAX];
    let mut len = 0;
    loop {
        // What follows the header must stay where it is, so it is looked at before it is taken.
        let seen = stream.peek(&mut header[len..]).await.map_err(|error| error.to_string())?;
        if seen == 0 {
            return Err("the connection ended before its PROXY header did".to_owned());
        }
        let parsed = parse(&header[..len + seen])?;
        let end = parsed.map_or(len + seen, |(end, _)| end);
        stream.read_exact(&mut header[len..end]).await.map_err(|error| error.to_string())?;
        if let Some((_, client)) = parsed {
            return Ok(client);
        }
        len = end;
    }
}

/// Reads the beginning of a connection: none where more of it is needed, else where the header ends and whom it names.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Option<IpAddr>)>, &'static str> {
    if begins(bytes, v2::PROTOCOL_PREFIX) {
        parse_binary(bytes)
    } else if begins(bytes, WORD) {
        parse_line(bytes)
    } else {
        Err("the connection does not begin with a PROXY header")
    }
}

/// Whether bytes begin with others, as far as they go.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(byte, expected)| byte == expected)
}

fn parse_line(bytes: &[u8]) -> Result<Option<(usize, Option<IpAddr>)>, &'static str> {
    const BROKEN: &str = "the PROXY header of version 1 is broken";
    // The crate is only given whole lines: it takes some that are cut for broken ones.
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_BYTES_MAX)]) else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(BROKEN) };
    };
    let line = &bytes[..=end];
    if !line.ends_with(b"\r\n") {
        return Err(BROKEN);
    }
    // Whatever else such a line says is to be ignored.
    if line.starts_with(b"PROXY UNKNOWN ") || line == b"PROXY UNKNOWN\r\n" {
        return Ok(Some((line.len(), None)));
    }
    let header = v1::Header::try_from(line).map_err(|_| BROKEN)?;
    if header.header.len() != line.len() {
        return Err(BROKEN);
    }
    let client = match header.addresses {
        v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Unknown => None,
    };
    Ok(Some((line.len(), client)))
}

fn parse_binary(bytes: &[u8]) -> Result<Option<(usize, Option<IpAddr>)>, &'static str> {
    let Some(&[.., command, _, high, low]) = bytes.get(..FIXED_BYTES) else { return Ok(None) };
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len > HEADER_BYTES_MAX {
        return Err("the PROXY header of version 2 is too long");
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    // Whatever else such a header says is to be ignored.
    if command == LOCAL {
        return Ok(Some((len, None)));
    }
    let header = v2::Header::try_from(header).map_err(|_| "the PROXY header of version 2 is broken")?;
    let client = match header.addresses {
        v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    Ok(Some((len, client)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &len, body].concat()
    }

    fn ipv4() -> Vec<u8> {
        binary(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80])
    }

    fn ipv6() -> Vec<u8> {
        let addresses = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        // A type, a length and a value behind the addresses.
        binary(0x21, 0x21, &[&addresses[..], &[0; 8], &[1, 2, 3, 4], &[0xee, 0, 1, 7]].concat())
    }

    /// Valid headers and whom they name.
    fn valid() -> Vec<(Vec<u8>, Option<&'static str>)> {
        vec![
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n".to_vec(), Some("192.0.2.1")),
            (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN a b c d e f g h\r\n".to_vec(), None),
            (ipv4(), Some("192.0.2.1")),
            (ipv6(), Some("2001:db8::7")),
            (binary(0x20, 0, &[]), None),
            (binary(0x20, 0x11, &[1, 2, 3]), None),
            (binary(0x21, 0, &[]), None),
            (binary(0x21, 0x31, &[b'/'; 216]), None),
        ]
    }

    #[test]
    fn a_header_names_the_client() {
        for (header, client) in valid() {
            let client = client.map(|client| client.parse().unwrap());
            assert_eq!(parse(&header), Ok(Some((header.len(), client))), "{}", header.escape_ascii());
        }
    }

    #[track_caller]
    fn check_broken(bytes: &[u8]) {
        assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_shows() {
        check_broken(b"G");
        check_broken(b"PROXIES");
        check_broken(b"\x16\x03\x01");
        check_broken(b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\n");
        check_broken(b"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n");
        check_broken(b"PROXY TCP4 2001:db8::7 ::1 4711 80\r\n");
        check_broken(b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80 81\r\n");
        check_broken(b"PROXY TCP4 192.0.2.1\r 10.0.0.1 4711 80\r\n");
        check_broken(b"PROXY UNKNOWNS\r\n");
        check_broken(&[b"PROXY UNKNOWN ", &[b' '; LINE_BYTES_MAX][..]].concat());
        check_broken(&binary(0x31, 0x11, &[0; 12]));
        check_broken(&binary(0x21, 0x11, &[0; 11]));
        check_broken(&[v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff]].concat());
    }

    #[tokio::test]
    async fn what_follows_a_header_is_left_for_who_comes_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (header, client) in valid() {
            let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            sender.set_nodelay(true).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let writing = async {
                // In pieces, the last of which goes beyond the header.
                let bytes = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
                for piece in bytes.chunks(header.len() - 1) {
                    sender.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(sender);
            };
            let reading = async {
                let found = read(&mut stream).await.unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                (found, rest)
            };
            let (found, rest) = tokio::join!(reading, writing).0;
            assert_eq!(found, client.map(|client| client.parse().unwrap()));
            assert_eq!(rest, b"GET / HTTP/1.1\r\n\r\n", "{}", header.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn every_cut_of_a_header_is_incomplete_and_no_tail_matters(tail: Vec<u8>) {
            for (header, _) in valid() {
                for cut in 0..header.len() {
                    prop_assert_eq!(parse(&header[..cut]), Ok(None));
                }
                prop_assert_eq!(parse(&[&header[..], &tail].concat()), parse(&header));
            }
        }

        #[test]
        fn nothing_is_taken_back_when_more_arrives(bytes in prop_oneof![
            "PROXY (TCP4|TCP6|UNKNOWN)? ?[0-9a-f.: ]{0,40}\r?\n?[a-z]{0,5}".prop_map(String::into_bytes),
            (any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 0..64))
                .prop_map(|(fixed, rest)| [v2::PROTOCOL_PREFIX, &fixed, &rest].concat()),
            any::<Vec<u8>>(),
        ]) {
            let mut outcome = Ok(None);
            for cut in 0..=bytes.len() {
                let now = parse(&bytes[..cut]);
                if outcome != Ok(None) {
                    prop_assert_eq!(now, outcome);
                }
                outcome = now;
            }
        }
    }
}
