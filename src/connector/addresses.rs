//! Which addresses may be connected to. A customers file names URLs, so without this it could make kigen talk to anything
//! inside the house.
//!
//! Invariant: what a name resolves to is judged at the moment it is connected to, not before (names can be rebound).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why an address is refused, and what to do.
#[must_use]
pub fn refused_text(host: &str) -> String {
    format!(
        "{host} is at a private or loopback address, which is refused; if the admin tool really is there, set \
         scan.allow_private_hosts = true"
    )
}

/// The name resolved to addresses that we refuse.
#[derive(Debug, thiserror::Error)]
#[error("{}", refused_text(.0))]
pub struct PrivateAddress(String);

/// The name did not resolve.
#[derive(Debug, thiserror::Error)]
#[error("the name {0} could not be resolved")]
pub struct Unresolved(String);

/// Resolves names, and leaves out the addresses that we refuse.
pub struct Guarded {
    /// `scan.allow_private_hosts`
    pub allow_private: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let Ok(found) = tokio::net::lookup_host((name.as_str(), 0)).await else {
                return Err(Unresolved(name).into());
            };
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() {
                return Err(Unresolved(name).into());
            }
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| allow_private || !is_private(address.ip())).collect();
            if allowed.is_empty() {
                return Err(PrivateAddress(name).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is not on the public internet: loopback, private (RFC 1918), link-local (also the clouds' metadata
/// services), carrier-grade NAT (RFC 6598), unique-local (RFC 4193), unspecified, multicast, reserved, and IPv6 forms of
/// such IPv4 addresses.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
        || (a == 192 && b == 0 && c == 0)
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    let embedded = v6.to_ipv4_mapped().or(match segments {
        // 64:ff9b::/96 (NAT64), 2002::/16 (6to4), ::/96 (the old compatible form)
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] | [0, 0, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    });
    embedded.is_some_and(is_private_v4)
        || v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || segments[0] & 0xfe00 == 0xfc00
        || segments[0] & 0xffc0 == 0xfe80
        || segments[0] & 0xffc0 == 0xfec0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        let private = [
            "127.0.0.1",
            "127.8.9.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "::7f00:1",
        ];
        for address in private {
            assert!(is_private(address.parse().expect("an address")), "{address}");
        }
        for address in
            ["8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2001:4860:4860::8888", "::ffff:8.8.8.8"]
        {
            assert!(!is_private(address.parse().expect("an address")), "{address}");
        }
    }
}
