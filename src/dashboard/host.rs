//! Check of the `Host` header against DNS rebinding.
//!
//! A website can resolve its own name to 127.0.0.1, so that a visitor's browser sends requests to this program. Such a
//! request has the website's name as its host. IP addresses and `localhost` cannot be rebound; other names must be in
//! the config.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a `Host` header is an IP address, `localhost`, or one of these names. Any port is allowed, because it may be
/// forwarded. A request without the header is rejected.
#[must_use]
pub fn is_own_host(host: Option<&str>, names: &[String]) -> bool {
    let Some(name) = host.and_then(name_of) else { return false };
    let same = |other: &str| name.eq_ignore_ascii_case(other.trim_end_matches('.'));
    name.parse::<Ipv4Addr>().is_ok()
        || bracketed(name).is_some_and(|inside| inside.parse::<Ipv6Addr>().is_ok())
        || same("localhost")
        || names.iter().any(|known| !known.is_empty() && same(known))
}

/// The host without port and final dot. None: it is malformed.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => (&host[..colon], &host[colon + 1..]),
        _ => (host, ""),
    };
    let well_formed = port.is_empty() || port.bytes().all(|b| b.is_ascii_digit());
    let name = name.strip_suffix('.').unwrap_or(name);
    (well_formed && !name.is_empty()).then_some(name)
}

fn bracketed(name: &str) -> Option<&str> {
    name.strip_prefix('[')?.strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_cannot_be_rebound_are_accepted() {
        let names = ["syncline.acme.internal".to_owned(), String::new()];
        for good in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "10.1.2.3:80",
            "[::1]:9090",
            "[::1]",
            "localhost",
            "LocalHost:9090",
            "localhost.:1",
            "syncline.acme.internal",
            "SYNCLINE.acme.internal.:443",
        ] {
            assert!(is_own_host(Some(good), &names), "{good}");
        }
        for bad in [
            "",
            ":9090",
            ".",
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "syncline.acme.internal.evil.example",
            "127.0.0.1:9090@evil.example",
            "127.0.0.1:80x",
            "::1",
            "[::1",
            "[evil.example]",
            "localhost/evil.example",
            "localhost evil",
            "2130706433",
            "0x7f.1",
            "127.1",
        ] {
            assert!(!is_own_host(Some(bad), &names), "{bad}");
        }
        assert!(!is_own_host(None, &names));
        assert!(!is_own_host(Some("syncline.acme.internal"), &[]));
    }
}
