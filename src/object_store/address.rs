//! Addresses of buckets and web servers, and the client settings for them.

/// Splits an address into the bucket's address and the key or pattern, unchanged.
#[must_use]
pub fn split(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |at| at + 3);
    match url[host..].find('/') {
        Some(at) => (&url[..host + at], &url[host + at + 1..]),
        None => (url, ""),
    }
}

/// Whether an address belongs to a web server, not to a bucket.
#[must_use]
pub fn is_web(url: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
}

/// Client settings: from the environment, plus endpoint and region of the config.
#[must_use]
pub fn settings(
    environment: &[(String, String)],
    endpoint: Option<&str>,
    region: Option<&str>,
) -> Vec<(String, String)> {
    let mut settings = environment.to_vec();
    let mut set = |name: &str, value: &str| settings.push((name.to_owned(), value.to_owned()));
    if let Some(endpoint) = endpoint {
        for name in ["aws_endpoint", "google_base_url", "azure_storage_endpoint"] {
            set(name, endpoint);
        }
        if endpoint.starts_with("http://") {
            for name in ["aws_allow_http", "google_allow_http", "azure_allow_http"] {
                set(name, "true");
            }
        }
    }
    if let Some(region) = region {
        set("aws_region", region);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_and_what_is_in_it() {
        assert_eq!(split("s3://b/a/*.csv"), ("s3://b", "a/*.csv"));
        assert_eq!(split("s3://b"), ("s3://b", ""));
        assert_eq!(split("s3://b//a"), ("s3://b", "/a"));
    }
}
