//! Braze's instances and their REST endpoints.
//!
//! Source: Braze, "Partner cohort import" and "Data centers". US-10 is in the general table only, so
//! whether cohort import works there is not known; JP-01, ID-01 and KR-01 come from a newer edition.

use schemars::JsonSchema;
use serde::Deserialize;

macro_rules! instances {
    ($($name:ident $text:literal $url:literal),+ $(,)?) => {
        /// A Braze instance, or the local sandbox.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
        #[schemars(extend("unlistedHint" = UNLISTED))]
        pub(super) enum Instance {
            #[serde(rename = "sandbox")]
            Sandbox,
            $(#[serde(rename = $text)] $name),+
        }

        /// The instances with their REST endpoints.
        const ENDPOINTS: &[(&str, &str)] = &[$(($text, $url)),+];

        impl Instance {
            /// The REST endpoint; `None` for the sandbox, which chooses its port at start.
            pub(super) fn endpoint(self) -> Option<&'static str> {
                match self {
                    Self::Sandbox => None,
                    $(Self::$name => Some($url)),+
                }
            }
        }
    };
}

/// What to do about an instance that Braze has and this list has not.
const UNLISTED: &str =
    "for another instance, replace `instance:` by its REST endpoint: `endpoint: https://rest.….braze.com`";

instances! {
    Us01 "US-01" "https://rest.iad-01.braze.com",
    Us02 "US-02" "https://rest.iad-02.braze.com",
    Us03 "US-03" "https://rest.iad-03.braze.com",
    Us04 "US-04" "https://rest.iad-04.braze.com",
    Us05 "US-05" "https://rest.iad-05.braze.com",
    Us06 "US-06" "https://rest.iad-06.braze.com",
    Us07 "US-07" "https://rest.iad-07.braze.com",
    Us08 "US-08" "https://rest.iad-08.braze.com",
    Us10 "US-10" "https://rest.us-10.braze.com",
    Eu01 "EU-01" "https://rest.fra-01.braze.eu",
    Eu02 "EU-02" "https://rest.fra-02.braze.eu",
    Au01 "AU-01" "https://rest.au-01.braze.com",
    Jp01 "JP-01" "https://rest.jp-01.braze.com",
    Id01 "ID-01" "https://rest.id-01.braze.com",
    Kr01 "KR-01" "https://rest.kr-01.braze.com",
}

/// The instance of an address: its REST endpoint, or its dashboard (`dashboard-03.braze.com`, `dashboard.us-10.braze.com`).
///
/// Source: Braze, "Data centers".
pub(super) fn instance_of_address(address: &str) -> Option<&'static str> {
    let address = address.trim().to_ascii_lowercase();
    let host = address.strip_prefix("https://").unwrap_or(&address).split('/').next()?;
    let dashboard = |name: &str, rest: &str| {
        let numbered = match (name.split_once('-'), rest.rsplit_once('.')) {
            (Some(("us", number)), Some((_, "com"))) => Some(format!("dashboard-{number}.braze.com")),
            (Some(("eu", number)), Some((_, "eu"))) => Some(format!("dashboard-{number}.braze.eu")),
            _ => None,
        };
        let named = rest.rsplit_once('.').map(|(_, end)| format!("dashboard.{name}.braze.{end}"));
        numbered.as_deref() == Some(host) || named.as_deref() == Some(host)
    };
    let is_meant = |(name, endpoint): &&(&str, &str)| {
        let rest = endpoint.trim_start_matches("https://");
        rest == host || dashboard(&name.to_ascii_lowercase(), rest)
    };
    ENDPOINTS.iter().find(is_meant).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_their_instance() {
        let instances = [
            ("https://dashboard-03.braze.com", Some("US-03")),
            ("dashboard-01.braze.eu", Some("EU-01")),
            ("https://dashboard.us-10.braze.com/sign_in", Some("US-10")),
            ("https://dashboard.au-01.braze.com", Some("AU-01")),
            ("https://rest.iad-05.braze.com/", Some("US-05")),
            ("REST.FRA-02.BRAZE.EU", Some("EU-02")),
            ("https://dashboard-99.braze.com", None),
            ("US-03", None),
            ("", None),
        ];
        for (address, instance) in instances {
            assert_eq!(instance_of_address(address), instance, "{address}");
        }
    }
}
