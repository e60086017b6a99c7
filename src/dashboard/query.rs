//! Query of a page's address: the interval of reloads, and which cohorts are listed in which order.
//!
//! Every choice of a reader is in the address. It survives reloads, and a bookmark keeps it.

use url::form_urlencoded::{Serializer, parse};

/// The shortest and longest interval of reloads, in seconds.
const REFRESH_SECONDS: std::ops::RangeInclusive<u32> = 5..=3600;
/// The longest text of a choice, in characters.
const TEXT_LEN_MAX: usize = 100;

/// The names of the parameters.
pub(super) const REFRESH: &str = "refresh";
pub(super) const TEXT: &str = "q";
pub(super) const STATE: &str = "state";
pub(super) const ORDER: &str = "sort";

/// The query of a page's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// The interval of reloads in seconds. None: the page does not reload, because a reload disturbs reading.
    pub refresh_seconds: Option<u32>,
    /// Lists only cohorts with this text in their name or id. Empty: all.
    pub text: String,
    /// Lists only cohorts in this state. Empty: all.
    pub state: String,
    /// The order of the cohorts.
    pub order: CohortOrder,
}

/// The order of the listed cohorts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CohortOrder {
    /// Those that need attention first, the others in the order of the config.
    #[default]
    Attention,
    /// By name.
    Name,
    /// The largest first.
    Members,
    /// The longest time since the last success first.
    LastSuccess,
    /// As in the config.
    Config,
}

impl CohortOrder {
    pub(super) const ALL: [Self; 5] =
        [Self::Attention, Self::Name, Self::Members, Self::LastSuccess, Self::Config];

    /// The value in the address.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Name => "name",
            Self::Members => "members",
            Self::LastSuccess => "last-success",
            Self::Config => "config",
        }
    }

    /// The choice in words.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Attention => "Needs attention first",
            Self::Name => "Name",
            Self::Members => "Most members first",
            Self::LastSuccess => "Longest not in sync first",
            Self::Config => "As in the config",
        }
    }
}

impl PageQuery {
    /// Reads the query of an address. Unknown parameters and values are ignored.
    #[must_use]
    pub fn parse(query: Option<&str>) -> Self {
        let mut parsed = Self::default();
        for (name, value) in parse(query.unwrap_or_default().as_bytes()) {
            let text = || value.trim().chars().take(TEXT_LEN_MAX).collect::<String>();
            match &*name {
                REFRESH => {
                    let (min, max) = (*REFRESH_SECONDS.start(), *REFRESH_SECONDS.end());
                    parsed.refresh_seconds = value.parse().ok().map(|seconds: u32| seconds.clamp(min, max));
                }
                TEXT => parsed.text = text(),
                STATE => parsed.state = text(),
                ORDER => {
                    let known = CohortOrder::ALL.into_iter().find(|order| order.code() == value);
                    parsed.order = known.unwrap_or_default();
                }
                _ => {}
            }
        }
        parsed
    }

    /// The query as a part of an address, with its question mark.
    #[must_use]
    pub fn address(&self) -> String {
        let mut pairs = Serializer::for_suffix("?".to_owned(), 1);
        let chosen = [(TEXT, &*self.text), (STATE, &*self.state)];
        for (name, value) in chosen.into_iter().filter(|(_, value)| !value.is_empty()) {
            pairs.append_pair(name, value);
        }
        if self.order != CohortOrder::default() {
            pairs.append_pair(ORDER, self.order.code());
        }
        if let Some(seconds) = self.refresh_seconds {
            pairs.append_pair(REFRESH, &seconds.to_string());
        }
        pairs.finish()
    }

    /// Whether a choice limits or sorts the list.
    pub(super) fn has_choice(&self) -> bool {
        !self.text.is_empty() || !self.state.is_empty() || self.order != CohortOrder::default()
    }

    /// The same query with another interval of reloads.
    pub(super) fn with_refresh(&self, refresh_seconds: Option<u32>) -> Self {
        Self { refresh_seconds, ..self.clone() }
    }

    /// Only the interval of reloads.
    pub(super) fn without_choice(&self) -> Self {
        Self { refresh_seconds: self.refresh_seconds, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_keeps_every_choice() {
        let query = PageQuery {
            refresh_seconds: Some(60),
            text: "größe & \"x\"=1".to_owned(),
            state: "needs-approval".to_owned(),
            order: CohortOrder::Members,
        };
        let address = query.address();
        assert!(
            address.starts_with("?q=gr%C3%B6") && address.ends_with("&sort=members&refresh=60"),
            "{address}"
        );
        assert_eq!(PageQuery::parse(address.strip_prefix('?')), query);
        assert_eq!(PageQuery::parse(None).address(), "?");
        assert_eq!(PageQuery::parse(Some("q=&state=&sort=")), PageQuery::default(), "an empty form");
    }

    #[test]
    fn every_order_has_its_own_code() {
        for order in CohortOrder::ALL {
            assert_eq!(PageQuery::parse(Some(&format!("sort={}", order.code()))).order, order);
        }
        assert_eq!(PageQuery::parse(Some("sort=nonsense")).order, CohortOrder::Attention);
    }

    #[test]
    fn a_long_text_is_cut() {
        let query = PageQuery::parse(Some(&format!("q={}", "a".repeat(5000))));
        assert_eq!(query.text.len(), TEXT_LEN_MAX);
    }
}
