//! Whether a request was meant for this program.
//!
//! A page on the internet can point a name of its own at 127.0.0.1 and have the browser of somebody who visits
//! it ask here: DNS rebinding. Such a request names that page's host. An address in figures cannot be pointed
//! elsewhere, `localhost` belongs to the machine, and the rest must be in the config.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a `Host` header is an address in figures, `localhost`, or one of these names. The port does not
/// matter: it may be forwarded. A request without the header is not answered.
#[must_use]
pub fn is_own_host(host: Option<&str>, names: &[String]) -> bool {
    let Some(name) = host.and_then(name_of) else { return false };
    let same = |other: &str| name.eq_ignore_ascii_case(other.trim_end_matches('.'));
    name.parse::<Ipv4Addr>().is_ok()
        || bracketed(name).is_some_and(|inside| inside.parse::<Ipv6Addr>().is_ok())
        || same("localhost")
        || names.iter().any(|known| !known.is_empty() && same(known))
}

/// The host without port and final dot; none if it is not well formed.
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
    fn only_what_cannot_be_pointed_elsewhere() {
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
