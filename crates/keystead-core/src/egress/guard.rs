//! Which addresses may be connected to.
//!
//! What always holds here: an address is permitted because it is global unicast, by a positive
//! definition, or because the operator's allow-list names it. IPv6 outside 2000::/3 is never global;
//! the ranges below are the exceptions inside, from the IANA special-purpose address registries
//! (<https://www.iana.org/assignments/iana-ipv4-special-registry>) and from clouds.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Decides about addresses. The default allows global unicast and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: Vec<IpNet>,
}

/// An address that may not be connected to, and the range that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In its canonical form: IPv4 if it was mapped into IPv6.
    pub address: IpAddr,
    /// What the range is for.
    pub range: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not a public address ({})",
            self.address, self.range
        )
    }
}

impl std::error::Error for Refusal {}

impl Guard {
    /// Global unicast, and what `allow` names (IPv4 as IPv4, not mapped into IPv6).
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow }
    }

    /// Whether `address` may be connected to.
    ///
    /// # Errors
    /// [`Refusal`], which names the range.
    pub fn permits(&self, address: IpAddr) -> Result<(), Refusal> {
        // `::ffff:10.0.0.1` reaches the same host as `10.0.0.1`, and so is the same address here.
        let address = address.to_canonical();
        let range = match address {
            IpAddr::V4(v4) => special_v4(v4),
            IpAddr::V6(v6) => special_v6(v6),
        };
        match range {
            None => Ok(()),
            Some(_) if self.allow.iter().any(|net| net.contains(&address)) => Ok(()),
            Some(range) => Err(Refusal { address, range }),
        }
    }
}

const SPECIAL_V4: [(Ipv4Addr, u32, &str); 20] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private use"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared address space"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (
        Ipv4Addr::new(168, 63, 129, 16),
        32,
        "cloud platform service",
    ),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private use"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "AS112 service"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "multicast tunnelling"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private use"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "AS112 service"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

const fn v6(a: u16, b: u16, c: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)
}

const SPECIAL_V6: [(Ipv6Addr, u32, &str); 13] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (v6(0x64, 0xff9b, 1), 48, "local-use NAT64"),
    (v6(0xfc00, 0, 0), 7, "unique local"),
    (v6(0xfe80, 0, 0), 10, "link local"),
    (v6(0xfec0, 0, 0), 10, "site local"),
    (v6(0xff00, 0, 0), 8, "multicast"),
    (v6(0x2001, 0, 0), 32, "Teredo"),
    (v6(0x2001, 0, 0), 23, "protocol assignments"),
    (v6(0x2001, 0xdb8, 0), 32, "documentation"),
    (v6(0x2002, 0, 0), 16, "6to4"),
    (v6(0x2620, 0x4f, 0x8000), 48, "AS112 service"),
    (v6(0x3fff, 0, 0), 20, "documentation"),
];

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    SPECIAL_V4
        .iter()
        .find(|(net, length, _)| (bits ^ net.to_bits()) >> (32 - length) == 0)
        .map(|&(_, _, range)| range)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    // A DNS64 network reaches every IPv4 host through this prefix, so the IPv4 address decides; but
    // an allow-list entry for that IPv4 address does not, for the translator stands elsewhere.
    const NAT64: u128 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).to_bits();
    if bits >> 32 == NAT64 >> 32 {
        return special_v4(Ipv4Addr::from_bits(bits as u32));
    }
    let named = SPECIAL_V6
        .iter()
        .find(|(net, length, _)| (bits ^ net.to_bits()) >> (128 - length) == 0)
        .map(|&(_, _, range)| range);
    named.or(if bits >> 125 == 0b001 {
        None
    } else {
        Some("not global unicast")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vectors {
        refused: Vec<(String, String)>,
        permitted: Vec<String>,
    }

    #[test]
    fn the_address_vectors_hold() {
        let text = include_str!("../../../../vectors/hosts/addresses.json");
        let vectors: Vectors = serde_json::from_str(text).unwrap();
        let guard = Guard::default();
        for (address, range) in vectors.refused {
            let parsed: IpAddr = address.parse().unwrap();
            let refusal = guard.permits(parsed).expect_err(&address);
            assert_eq!(refusal.range, range, "{address}");
        }
        for address in vectors.permitted {
            assert_eq!(guard.permits(address.parse().unwrap()), Ok(()), "{address}");
        }
    }

    #[test]
    fn an_allow_net_names_the_canonical_address_and_nothing_beside_it() {
        let guard = Guard::new(vec![
            "127.0.0.1/32".parse().unwrap(),
            "fd00::/64".parse().unwrap(),
        ]);
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "fd00::5"] {
            assert_eq!(guard.permits(address.parse().unwrap()), Ok(()), "{address}");
        }
        for address in [
            "127.0.0.2",
            "::1",
            "::127.0.0.1",
            "fd00:0:0:1::5",
            "64:ff9b::7f00:1",
        ] {
            assert!(
                guard.permits(address.parse().unwrap()).is_err(),
                "{address}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_refused_as_ipv4_is_refused_in_every_ipv6_dress(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let guard = Guard::default();
            let plain = guard.permits(IpAddr::V4(v4));
            prop_assert_eq!(guard.permits(IpAddr::V6(v4.to_ipv6_mapped())), plain);
            let wide = u128::from(bits);
            let nat64 = Ipv6Addr::from_bits((0x0064_ff9b_u128 << 96) | wide);
            prop_assert_eq!(guard.permits(IpAddr::V6(nat64)).is_ok(), plain.is_ok());
            for bits in [
                wide,
                (0x2002_u128 << 112) | (wide << 80),
                (0x2001_0000_u128 << 96) | u128::from(!bits),
                (0x0064_ff9b_0001_u128 << 80) | wide,
                (0xffff_0000_u128 << 32) | wide,
            ] {
                prop_assert!(guard.permits(IpAddr::V6(Ipv6Addr::from_bits(bits))).is_err());
            }
        }

        #[test]
        fn nothing_outside_2000_3_is_permitted_but_ipv4_in_disguise(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            prop_assume!(bits >> 125 != 1);
            let nat64 = bits >> 32 == 0x0064_ff9b_u128 << 64;
            prop_assume!(address.to_ipv4_mapped().is_none() && !nat64);
            prop_assert!(Guard::default().permits(IpAddr::V6(address)).is_err());
        }
    }
}
