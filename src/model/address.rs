//! Which network addresses are private.

use std::net::IpAddr;

/// Whether an address is of a private network, of this link, or of no machine in particular. Loopback is neither.
#[must_use]
pub fn is_private_address(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            // Carrier-grade NAT (RFC 6598).
            let is_shared = first == 100 && (64..128).contains(&second);
            ip.is_private() || ip.is_link_local() || ip.is_broadcast() || is_shared || first == 0
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.is_loopback() || is_private_address(IpAddr::V4(ip)),
            None => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified(),
        },
    }
}

/// Whether the host of a URL is this machine, by a literal address or as `localhost`.
#[must_use]
pub fn is_loopback_host(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_only_machines_nearby_reach() {
        for ip in [
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::",
        ] {
            assert!(is_private_address(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "127.0.0.1", "::1"] {
            assert!(!is_private_address(ip.parse().unwrap()), "{ip}");
        }
    }
}
