//! Which addresses are on the internet, which are inside, and which nothing should reach by accident.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How plainly a grant has to name an address before it may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// The internet: any grant will do.
    Public,
    /// Loopback, private, shared and test networks: the grant names the host.
    Internal,
    /// Link-local addresses, clouds' metadata services, and what is no host at all: the grant names the address itself.
    Special,
}

/// Metadata services outside the link-local ranges.
/// Source: Alibaba Cloud ECS, "Instance metadata"; Azure, "What is IP address 168.63.129.16?"; Oracle Cloud
/// Infrastructure Classic, "Instance metadata".
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// Networks that are not the internet.
/// Source: IANA, "IPv4 Special-Purpose Address Registry".
const INTERNAL_V4: [(Ipv4Addr, u32); 11] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
];

/// Link-local, "this network", multicast, and reserved with broadcast. Most clouds have their metadata service in the
/// first, at 169.254.169.254, and credentials of containers beside it.
/// Source: IANA, as above, and RFC 5771.
const SPECIAL_V4: [(Ipv4Addr, u32); 4] = [
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Source: Amazon EC2, "Use the Instance Metadata Service" (fd00:ec2::254, and fd00:ec2::23 of EKS beside it); Google
/// Cloud, "About VM metadata" (fd20:ce::254); RFC 4291 for the unspecified address, link-local, and multicast.
const SPECIAL_V6: [(Ipv6Addr, u32); 5] = [
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::UNSPECIFIED, 128),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// The only part of the address space that is handed out for the internet.
/// Source: IANA, "IPv6 Global Unicast Address Assignments".
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What of it is not the internet: Teredo and other protocols' own, documentation.
/// Source: IANA, "IPv6 Special-Purpose Address Registry".
const INTERNAL_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Classes an address; one that only wraps an IPv4 address is classed as that.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => match wrapped(address) {
            Some(inner) => reach_v4(inner),
            None => reach_v6(address),
        },
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let lies_in = |networks: &[(Ipv4Addr, u32)]| {
        networks.iter().any(|(network, bits)| {
            let differs = address.to_bits() ^ network.to_bits();
            differs.leading_zeros() >= *bits
        })
    };
    if METADATA_V4.contains(&address) || lies_in(&SPECIAL_V4) {
        Reach::Special
    } else if lies_in(&INTERNAL_V4) {
        Reach::Internal
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let lies_in = |networks: &[(Ipv6Addr, u32)]| {
        networks.iter().any(|(network, bits)| {
            let differs = address.to_bits() ^ network.to_bits();
            differs.leading_zeros() >= *bits
        })
    };
    if lies_in(&SPECIAL_V6) {
        Reach::Special
    } else if lies_in(&INTERNAL_V6) || !lies_in(&[GLOBAL_V6]) {
        Reach::Internal
    } else {
        Reach::Public
    }
}

/// The IPv4 address that packets to this one are delivered to, here or by a gateway on the way.
/// Source: RFC 4291, section 2.5.5 (mapped and compatible); RFC 6052 (NAT64); RFC 3056 (6to4).
fn wrapped(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        // `::` and `::1` are no wrappers.
        [0, 0, 0, 0, 0, 0] if g > 0 || h > 1 => of(g, h),
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => of(g, h),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(addresses: &[&str], expected: Reach) {
        for address in addresses {
            assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn the_internet_is_public() {
        check(
            &["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "11.0.0.1"],
            Reach::Public,
        );
        check(&["2606:4700::1111", "2001:4860:4860::8888", "3ffe::1"], Reach::Public);
    }

    #[test]
    fn own_networks_are_internal() {
        check(&["127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255"], Reach::Internal);
        check(&["192.168.1.1", "100.64.0.1", "100.127.255.255", "198.19.0.1", "192.0.2.1"], Reach::Internal);
        check(
            &["::1", "fc00::1", "fdff::1", "fec0::1", "2001:db8::1", "100::1", "64:ff9b:1::1"],
            Reach::Internal,
        );
        check(&["2001::1", "3fff::1"], Reach::Internal);
    }

    #[test]
    fn metadata_and_what_is_no_host_are_special() {
        check(&["169.254.169.254", "169.254.170.2", "169.254.0.1", "100.100.100.200"], Reach::Special);
        check(
            &["168.63.129.16", "192.0.0.192", "0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1"],
            Reach::Special,
        );
        check(&["255.255.255.255", "::", "fe80::1", "febf::1", "ff02::1"], Reach::Special);
        check(&["fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"], Reach::Special);
    }

    #[test]
    fn a_wrapper_is_what_it_wraps() {
        check(&["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"], Reach::Public);
        check(
            &["::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::1"],
            Reach::Internal,
        );
        check(&["::127.0.0.1"], Reach::Internal);
        check(&["::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::"], Reach::Special);
        check(&["::169.254.169.254", "::ffff:0.0.0.0", "::2"], Reach::Special);
    }

    proptest! {
        /// Against the standard library's own view, as far as it has one.
        #[test]
        fn no_address_of_the_inside_is_public(
            first in prop::sample::select(&[10u8, 127, 169, 172, 192, 198, 203, 224, 255][..]),
            bits: u32,
        ) {
            let address = Ipv4Addr::from_bits(u32::from(first) << 24 | bits >> 8);
            let is_inside = address.is_private() || address.is_loopback() || address.is_link_local();
            let is_no_host = address.is_multicast() || address.is_broadcast() || address.is_documentation();
            prop_assert!(!(is_inside || is_no_host) || reach(address.into()) > Reach::Public);
            prop_assert_eq!(reach(address.to_ipv6_mapped().into()), reach(address.into()));
            prop_assert_eq!(reach(address.to_ipv6_compatible().into()), reach(address.into()));
        }
    }
}
