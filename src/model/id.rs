//! Ids and names: cohorts, connections, segments, exports, endpoints, runs. Each has its own type.
//!
//! A cohort id is a folder name, Braze's `cohort_id` and a command-line argument. The rule below is valid for all three,
//! including case-insensitive file systems.

use std::fmt;

/// Why a text is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid id: {rule}")]
pub struct IdError {
    text: String,
    rule: &'static str,
}

const SLUG_LEN_MAX: usize = 100;
const SLUG_RULE: &str = "1 to 100 characters from a-z, 0-9, `_` and `-`, starting with a letter or a digit";

fn is_slug(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=SLUG_LEN_MAX).contains(&bytes.len())
        && plain(bytes[0])
        && bytes.iter().all(|&b| plain(b) || b == b'_' || b == b'-')
}

macro_rules! slug {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Validates and wraps an id.
            ///
            /// # Errors
            /// [`IdError`] unless the text is a slug of 1 to 100 characters.
            pub fn new(text: &str) -> Result<Self, IdError> {
                if is_slug(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { text: text.to_owned(), rule: SLUG_RULE })
                }
            }

            /// The id as a string.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

slug! {
    /// A cohort's stable id. It becomes Braze's `cohort_id` and is never used for another cohort.
    CohortId
}

slug! {
    /// The name of a connection in the config.
    ConnectionName
}

slug! {
    /// A segment's stable id in the config. Braze has its own id for it.
    SegmentId
}

slug! {
    /// An export's stable id. Its progress is stored under it.
    ExportId
}

/// The name of an HTTP endpoint, which is also the name of its inbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointName(Box<str>);

impl EndpointName {
    /// The endpoint of a Heap webhook, named like its connection.
    #[must_use]
    pub fn of_heap(connection: &ConnectionName) -> Self {
        Self(connection.0.clone())
    }

    /// The endpoint of an export. Connection names contain no dot.
    #[must_use]
    pub fn of_export(export: &ExportId) -> Self {
        Self(format!("currents.{export}").into())
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The id of one run. It sorts by the start of the run: `20261123t191611250z-5f3a9c`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Box<str>);

impl RunId {
    /// Creates an id from the start of the run and a random number.
    #[must_use]
    pub fn new(began: super::Timestamp, random: u64) -> Self {
        let began = began.strftime("%Y%m%dt%H%M%S%3fz");
        Self(format!("{began}-{:06x}", random & 0x00ff_ffff).into())
    }

    /// Restores the id of an earlier run.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The start of the run. `None`: the id has another form.
    #[must_use]
    pub fn began(&self) -> Option<super::Timestamp> {
        let (began, _) = self.0.split_once('-')?;
        let part = |at: std::ops::Range<usize>| began.get(at);
        let (date, time) =
            ((part(0..4)?, part(4..6)?, part(6..8)?), (part(9..11)?, part(11..13)?, part(13..15)?));
        let ((year, month, day), (hour, minute, second)) = (date, time);
        format!("{year}-{month}-{day}T{hour}:{minute}:{second}.{}Z", part(15..18)?).parse().ok()
    }

    /// The id as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_valid_as_folder_names_and_in_braze() {
        for good in ["a", "0", "abandoned_checkout", "eu-2024_q1", &"x".repeat(100)] {
            assert!(CohortId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", "-a", "A", "a b", "a/b", "..", "ä", &"x".repeat(101)] {
            assert!(CohortId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn run_ids_sort_by_time() {
        let run = |s: &str| RunId::new(s.parse().unwrap(), 0xff5f_3a9c);
        assert_eq!(run("2026-11-23T19:16:11.25Z").as_str(), "20261123t191611250z-5f3a9c");
        assert!(run("2026-11-23T19:16:11.9Z") < run("2026-11-23T19:16:12Z"));
        assert_eq!(run("2026-11-23T19:16:11.25Z").began(), "2026-11-23T19:16:11.25Z".parse().ok());
        assert_eq!(RunId::named("20261123").began(), None);
    }
}
