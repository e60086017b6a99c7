//! Connections to web servers of a config: not to hosts that only this machine can reach.
//!
//! A host name is checked each time it is resolved, so its owner cannot switch to a private address later. Each
//! redirect is checked like the address in the config. A proxy resolves names itself, so only literal addresses are
//! checked then.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::ClientBuilder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use url::Host;

use crate::model::{is_loopback_host, is_private_address};

const REDIRECTS_MAX: usize = 5;

/// Hosts of the config and of redirects, but not of the machine's own settings, such as a proxy.
type NamedHosts = Arc<Mutex<BTreeSet<String>>>;

/// A client for the server of this address.
pub(super) fn only(builder: ClientBuilder, url: &url::Url) -> ClientBuilder {
    let named = named(url);
    let resolver = PublicNames(Arc::clone(&named));
    builder.dns_resolver(resolver).redirect(Policy::custom(move |attempt| follow(attempt, &named)))
}

fn named(url: &url::Url) -> NamedHosts {
    let named = NamedHosts::default();
    note(&named, url);
    named
}

fn note(named: &NamedHosts, url: &url::Url) {
    if let Some(host) = url.host_str().filter(|_| !is_loopback_host(url)) {
        named.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned());
    }
}

/// Follows a redirect unless it leads to a private address, from a public server to this machine, or away from TLS.
fn follow(attempt: Attempt<'_>, named: &NamedHosts) -> reqwest::redirect::Action {
    let is_local = |url: &url::Url| is_loopback_host(url);
    let Some(first) = attempt.previous().first() else { return attempt.stop() };
    let (from_local, to) = (is_local(first), attempt.url());
    let what = if attempt.previous().len() > REDIRECTS_MAX {
        Some("it redirects too often")
    } else if is_private(to) || (is_local(to) && !from_local) {
        Some("it redirects to an address of a private network")
    } else if to.scheme() != "https" && !is_local(to) {
        Some("it redirects to an address without TLS")
    } else {
        None
    };
    match what {
        Some(what) => attempt.error(io::Error::other(what)),
        None => {
            note(named, to);
            attempt.follow()
        }
    }
}

fn is_private(url: &url::Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_private_address(ip.into()),
        Some(Host::Ipv6(ip)) => is_private_address(ip.into()),
        Some(Host::Domain(_)) | None => false,
    }
}

/// Resolves names like the system and rejects names with private addresses.
struct PublicNames(NamedHosts);

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        let is_named = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name.as_str());
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if is_named {
                reject_private(&addresses)?;
            }
            let resolved: Addrs = Box::new(addresses.into_iter());
            Ok(resolved)
        })
    }
}

/// One private address is enough to reject the name: which address gets connected is unknown here.
fn reject_private(addresses: &[SocketAddr]) -> io::Result<()> {
    let is_private = |address: &SocketAddr| address.ip().is_loopback() || is_private_address(address.ip());
    match addresses.iter().any(is_private) {
        true => Err(io::Error::other(
            "its host name resolves to a private, link-local or loopback address; if the server is trusted, name it under `allow_endpoint:`",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_private_address_is_private() {
        let addresses = |ips: &[&str]| -> Vec<SocketAddr> {
            ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()
        };
        assert!(reject_private(&addresses(&["93.184.216.34", "2606:2800::1"])).is_ok());
        for ip in ["10.0.0.1", "169.254.169.254", "127.0.0.1", "::1", "fd00::1"] {
            assert!(reject_private(&addresses(&["93.184.216.34", ip])).is_err(), "{ip}");
        }
    }

    #[test]
    fn only_names_of_the_config_are_checked() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let resolve = |url: &str| {
            let named = named(&url.parse().unwrap());
            let name: Name = "localhost".parse().unwrap();
            runtime.block_on(PublicNames(named).resolve(name)).is_ok()
        };
        // A name that resolves to this machine, as a host of a config and as a proxy.
        assert!(resolve("https://data.example.com/a.csv"));
        assert!(resolve("http://localhost/a.csv"));
        let named = NamedHosts::default();
        named.lock().unwrap().insert("localhost".to_owned());
        let name: Name = "localhost".parse().unwrap();
        assert!(runtime.block_on(PublicNames(named).resolve(name)).is_err());
    }
}
