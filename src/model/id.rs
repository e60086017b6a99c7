//! Names of things: cohorts, connections, runs. A newtype for each, so that none is taken for another.
//!
//! A cohort id is a folder name, Braze's `cohort_id` and a command-line argument at once; the rule
//! below is what all three accept, on file systems that ignore case as well.

use std::fmt;

/// Why a text cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid id: {rule}")]
pub struct IdError {
    text: String,
    rule: &'static str,
}

const SLUG_LEN_MAX: usize = 100;
const SLUG_RULE: &str =
    "1 to 100 characters from a-z, 0-9, `_` and `-`, of which the first is a letter or a digit";

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
            /// Checks and wraps.
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

            /// The id as text.
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
    /// A segment's stable id in the config. Braze has an id of its own for it.
    SegmentId
}

slug! {
    /// An export's stable id. Its progress is kept under it.
    ExportId
}

/// A door through which something is received, as its inbox is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointName(Box<str>);

impl EndpointName {
    /// The door of a Heap's webhook: it is called as its connection.
    #[must_use]
    pub fn of_heap(connection: &ConnectionName) -> Self {
        Self(connection.0.clone())
    }

    /// The door of an export. No connection's name has a dot.
    #[must_use]
    pub fn of_export(export: &ExportId) -> Self {
        Self(format!("currents.{export}").into())
    }

    /// The name as text.
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

/// One run of the reconciler. Sorts by the time the run began: `20261123t191611250z-5f3a9c`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Box<str>);

impl RunId {
    /// Names a run by the millisecond it began in and a random part.
    #[must_use]
    pub fn new(began: super::Timestamp, random: u64) -> Self {
        let began = began.strftime("%Y%m%dt%H%M%S%3fz");
        Self(format!("{began}-{:06x}", random & 0x00ff_ffff).into())
    }

    /// A run by the name that it had.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
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
    fn slugs_are_what_folders_and_braze_both_take() {
        for good in ["a", "0", "abandoned_checkout", "eu-2024_q1", &"x".repeat(100)] {
            assert!(CohortId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", "-a", "A", "a b", "a/b", "..", "ä", &"x".repeat(101)] {
            assert!(CohortId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_run_sorts_by_its_time() {
        let run = |s: &str| RunId::new(s.parse().unwrap(), 0xff5f_3a9c);
        assert_eq!(run("2026-11-23T19:16:11.25Z").as_str(), "20261123t191611250z-5f3a9c");
        assert!(run("2026-11-23T19:16:11.9Z") < run("2026-11-23T19:16:12Z"));
    }
}
