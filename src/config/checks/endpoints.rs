//! Restricts the servers of a config to the vendors' own, this machine, and those of `allow_endpoint:`.
//!
//! Endpoints of connections and buckets receive credentials, so each must be in a domain of its vendor or allowed. Web
//! sources receive none, but private and link-local addresses need permission, because they may be internal services
//! such as a cloud's metadata service.

use url::{Host, Url};

use super::{safe_url, sources};
use crate::config::problem::{Problem, ProblemCode};
use crate::config::source_text::SourceSpan;
use crate::config::tree::TreeNode;
use crate::model::{is_loopback_host, is_private_address};

/// Purpose of an address.
#[derive(Clone, Copy)]
enum EndpointPurpose {
    Braze,
    Heap,
    /// Of a bucket.
    Store,
    /// A file on a web server.
    Web,
}

impl EndpointPurpose {
    /// Whether a host is the vendor's own.
    fn is_own(self, host: &str) -> bool {
        let is_in = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        match self {
            Self::Braze => is_in("braze.com") || is_in("braze.eu"),
            Self::Heap => is_in("heapanalytics.com") || is_in("heap-api.com"),
            Self::Store => {
                host == "storage.googleapis.com" || host.ends_with(".blob.core.windows.net") || is_s3(host)
            }
            Self::Web => true,
        }
    }
}

/// `s3.amazonaws.com`, `s3.eu-central-1.amazonaws.com`, `s3.dualstack.…`, `s3-fips.…`. Other hosts of that domain may
/// belong to any customer.
fn is_s3(host: &str) -> bool {
    let Some(rest) = host.strip_suffix(".cn").unwrap_or(host).strip_suffix(".amazonaws.com") else {
        return false;
    };
    let mut labels = rest.split('.');
    let is_service = labels.next().is_some_and(|first| first == "s3" || first == "s3-fips");
    let more: Vec<&str> = labels.filter(|label| *label != "dualstack").collect();
    is_service && more.len() <= 1 && more.iter().all(|region| region.contains('-'))
}

/// All addresses of the tree, with their purpose.
fn addresses(tree: &TreeNode) -> Vec<(EndpointPurpose, &str, SourceSpan)> {
    let mut found = Vec::new();
    for entry in super::connections(tree) {
        match entry.node.text("kind") {
            Some(("heap", _)) => found.extend(text(EndpointPurpose::Heap, Some(&entry.node), "endpoint")),
            Some(("braze", _)) => found.extend(text(EndpointPurpose::Braze, Some(&entry.node), "endpoint")),
            _ => {}
        }
    }
    found.extend(text(EndpointPurpose::Store, tree.get("bucket"), "endpoint"));
    let exported = tree.items("exports").iter().filter_map(|export| export.get("source"));
    for source in sources(tree).chain(exported) {
        found.extend(text(EndpointPurpose::Store, Some(source), "endpoint"));
        found.extend(text(EndpointPurpose::Web, Some(source), "path").filter(|(_, path, _)| is_web(path)));
    }
    found
}

fn text<'a>(
    purpose: EndpointPurpose,
    node: Option<&'a TreeNode>,
    key: &str,
) -> Option<(EndpointPurpose, &'a str, SourceSpan)> {
    let (text, span) = node?.text(key)?;
    Some((purpose, text, span))
}

fn is_web(path: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| path.starts_with(scheme))
}

/// Each server must be the vendor's, this machine, or allowed.
pub(super) fn servers_are_allowed(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let allowed = tree.items("allow_endpoint").iter().filter_map(TreeNode::as_text);
    let allowed: Vec<url::Origin> =
        allowed.filter_map(|text| Url::parse(text).ok()).map(|url| url.origin()).collect();
    for (purpose, text, span) in addresses(tree) {
        let Some(url) = Url::parse(text).ok().filter(|url| is_web(url.as_str())) else { continue };
        if is_loopback_host(&url) || allowed.contains(&url.origin()) {
            continue;
        }
        let host = url.host_str().unwrap_or_default();
        let label = match purpose {
            _ if url.scheme() == "http" => "would be unencrypted",
            EndpointPurpose::Web if is_private(&url) => "a private address",
            _ if purpose.is_own(host) => continue,
            EndpointPurpose::Braze => "not a domain of Braze, and would receive its keys",
            EndpointPurpose::Heap => "not a domain of Heap, and would receive its events",
            EndpointPurpose::Store | EndpointPurpose::Web => {
                "not a vendor's store, and would receive its credentials"
            }
        };
        let origin = url.origin().ascii_serialization();
        problems.push(
            Problem::new(
                ProblemCode::EndpointNotAllowed,
                format!("`{origin}` is not allowed as an endpoint"),
            )
            .at(span, label)
            .hint(format!("if you trust it: `allow_endpoint: [\"{origin}\"]` at the top of the config")),
        );
    }
}

/// Entries of `allow_endpoint` have a scheme, host and port; all endpoints are well-formed URLs.
pub(super) fn allowed_are_servers(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let allowed = tree.items("allow_endpoint").iter().filter_map(|item| Some((item.as_text()?, item.span)));
    for (text, span) in allowed {
        if let Err((label, hint)) = super::base_url(text) {
            let problem =
                Problem::new(ProblemCode::BadEndpoint, "an entry of `allow_endpoint` is not a server");
            problems.push(problem.at(span, label).hint(hint));
        }
    }
    let exported = tree.items("exports").iter().filter_map(|export| export.get("source"));
    for (text, span) in
        tree.get("bucket").into_iter().chain(exported).filter_map(|node| node.text("endpoint"))
    {
        if let Err((what, hint)) = safe_url(text, "for example `http://127.0.0.1:9000`") {
            let problem = Problem::new(ProblemCode::BadEndpoint, format!("`endpoint` {what}"));
            problems.push(problem.at(span, "invalid endpoint").hint(hint));
        }
    }
}

fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_private_address(ip.into()),
        Some(Host::Ipv6(ip)) => is_private_address(ip.into()),
        Some(Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_vendors_and_of_others() {
        for (purpose, host) in [
            (EndpointPurpose::Braze, "rest.iad-01.braze.com"),
            (EndpointPurpose::Braze, "rest.fra-01.braze.eu"),
            (EndpointPurpose::Heap, "heapanalytics.com"),
            (EndpointPurpose::Heap, "c.eu.heap-api.com"),
            (EndpointPurpose::Store, "s3.amazonaws.com"),
            (EndpointPurpose::Store, "s3.dualstack.eu-central-1.amazonaws.com"),
            (EndpointPurpose::Store, "s3-fips.us-gov-west-1.amazonaws.com"),
            (EndpointPurpose::Store, "acme.blob.core.windows.net"),
        ] {
            assert!(purpose.is_own(host), "{host}");
        }
        for (purpose, host) in [
            (EndpointPurpose::Braze, "notbraze.com"),
            (EndpointPurpose::Braze, "braze.com.evil.example"),
            (EndpointPurpose::Heap, "rest.iad-01.braze.com"),
            (EndpointPurpose::Store, "s3-evil.us-east-1.elb.amazonaws.com"),
            (EndpointPurpose::Store, "x.execute-api.us-east-1.amazonaws.com"),
            (EndpointPurpose::Store, "s3.evil.example"),
        ] {
            assert!(!purpose.is_own(host), "{host}");
        }
    }
}
