//! Globs over dotted names: `*` matches within a segment, `**` matches across segments.
//!
//! They are compiled to regular expressions. `globset` has other rules: its `**` spans whole segments only, every `/` is a
//! separator, and `?`, `[` and `{` are special. Here `a**b` is valid, and names may contain any character.

use regex::{Regex, RegexBuilder, escape};

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameGlobError {
    /// An empty pattern.
    #[error("an empty pattern matches nothing")]
    Empty,
    /// The patterns need more memory than there is.
    #[error("the patterns are too long")]
    TooLong,
    /// A rename needs the same single wildcard on both sides, or none.
    #[error("`{from}` and `{to}` must have the same single wildcard, or none")]
    Rename {
        /// The pattern.
        from: String,
        /// The new name.
        to: String,
    },
}

/// Several patterns; one match is enough.
#[derive(Clone, Debug, Default)]
pub struct NameGlobs(Option<Regex>);

impl NameGlobs {
    /// Patterns that match whole names.
    ///
    /// # Errors
    /// [`NameGlobError`] for an empty pattern.
    pub fn of_types(patterns: &[String]) -> Result<Self, NameGlobError> {
        Self::ending(patterns, "")
    }

    /// Patterns that match a name or a name above it.
    pub(super) fn of_paths(patterns: &[String]) -> Result<Self, NameGlobError> {
        Self::ending(patterns, r"(?:\..*)?")
    }

    fn ending(patterns: &[String], end: &str) -> Result<Self, NameGlobError> {
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let texts = patterns.iter().map(|pattern| translated(pattern)).collect::<Result<Vec<_>, _>>()?;
        let whole = format!("^(?:{}){end}$", texts.join("|"));
        // The translation has no counted repetition, so its size is linear in that of the config.
        let regex = RegexBuilder::new(&whole).dot_matches_new_line(true).size_limit(usize::MAX).build();
        regex.map(|regex| Self(Some(regex))).map_err(|_| NameGlobError::TooLong)
    }

    /// Whether there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a pattern matches. The time is linear in the length of the name, for every pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(name))
    }
}

/// The regular expression of a pattern.
fn translated(pattern: &str) -> Result<String, NameGlobError> {
    let pattern = pattern.trim();
    if pattern.is_empty() {
        return Err(NameGlobError::Empty);
    }
    let segments = |text: &str| text.split('*').map(escape).collect::<Vec<_>>().join("[^.]*");
    Ok(pattern.split("**").map(segments).collect::<Vec<_>>().join(".*"))
}

/// A rename of matching names. The text that the wildcard matched is carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GlobRename {
    from: (String, String),
    to: (String, String),
    wildcard: &'static str,
}

impl GlobRename {
    pub(super) fn new(from: &str, to: &str) -> Result<Self, NameGlobError> {
        let (from, to) = (from.trim(), to.trim());
        if from.is_empty() || to.is_empty() {
            return Err(NameGlobError::Empty);
        }
        let wildcard = ["**", "*"].into_iter().find(|wildcard| from.contains(wildcard)).unwrap_or_default();
        let parts = |text: &str| match text.split_once(wildcard) {
            Some((head, tail)) if !wildcard.is_empty() => (head.to_owned(), tail.to_owned()),
            _ => (text.to_owned(), String::new()),
        };
        let rename = Self { from: parts(from), to: parts(to), wildcard };
        let has_more = |(head, tail): &(String, String)| head.contains('*') || tail.contains('*');
        if has_more(&rename.from) || has_more(&rename.to) || !to.contains(wildcard) {
            return Err(NameGlobError::Rename { from: from.to_owned(), to: to.to_owned() });
        }
        Ok(rename)
    }

    pub(super) fn of(&self, name: &str) -> Option<String> {
        let (head, tail) = &self.from;
        let middle = name.strip_prefix(head.as_str())?.strip_suffix(tail.as_str())?;
        let fits = match self.wildcard {
            "" => middle.is_empty(),
            "*" => !middle.contains('.'),
            _ => true,
        };
        fits.then(|| [&self.to.0, middle, &self.to.1].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        let globs = NameGlobs::of_types(&[pattern.to_owned()]).unwrap();
        assert_eq!(globs.matches(name), expected, "{pattern} {name}");
    }

    #[test]
    fn a_star_stays_in_its_segment() {
        check("users.messages.email.Open", "users.messages.email.Open", true);
        check("users.messages.email.Open", "users.messages.email.OpenX", false);
        check("users.messages.email.Open", "users.messages.email.Ope", false);
        check("users.messages.*.Abort", "users.messages.sms.Abort", true);
        check("users.messages.*.Abort", "users.messages.a.b.Abort", false);
        check("users.messages.*", "users.messages.sms.Abort", false);
        check("users.messages.**", "users.messages.sms.Abort", true);
        check("**", "anything", true);
        check("**.Open", "users.messages.email.Open", true);
        check("*Bounce", "SoftBounce", true);
        check("a**b*c", "a.x.b.y.bzc", true);
        check("a**b*c", "a.x.b.c", false);
        check("a***b", "a.x.b", true);
        check("*", "a/b\nc", true);
        check("a?[b]{c,d}.\\x", "a?[b]{c,d}.\\x", true);
        check("a?b", "acb", false);
        check("a.b", "a-b", false);
        check("**.Open", "Open", false);
        check("a|b", "a", false);
    }

    #[test]
    fn a_glob_covers_names_below_its_match() {
        let globs = NameGlobs::of_paths(&["custom_properties".to_owned(), "a.*".to_owned()]).unwrap();
        for (path, expected) in [
            ("custom_properties", true),
            ("custom_properties.x.y", true),
            ("custom_properties_x", false),
            ("a.b.c", true),
            ("a.b.c\n.d", true),
            ("a", false),
        ] {
            assert_eq!(globs.matches(path), expected, "{path}");
        }
    }

    #[test]
    fn no_pattern_matches_nothing() {
        let none = NameGlobs::of_types(&[]).unwrap();
        assert!(none.is_empty() && !none.matches(""));
        assert_eq!(NameGlobs::of_types(&[" ".to_owned()]).unwrap_err(), NameGlobError::Empty);
    }

    #[test]
    fn matching_is_linear_in_the_name() {
        check(&"**a".repeat(30), &"a".repeat(5000), true);
        check(&("**a".repeat(30) + "b"), &"a".repeat(5000), false);
    }

    #[test]
    fn a_rename_carries_its_wildcard_over() {
        let of = |from: &str, to: &str, name: &str| GlobRename::new(from, to).unwrap().of(name);
        assert_eq!(of("custom_properties.**", "**", "custom_properties.a.b").as_deref(), Some("a.b"));
        assert_eq!(of("custom_properties.*", "p_*", "custom_properties.a.b"), None);
        assert_eq!(of("*_name", "name of *", "canvas_name").as_deref(), Some("name of canvas"));
        assert_eq!(of("campaign_id", "id of campaign", "campaign_id").as_deref(), Some("id of campaign"));
        assert_eq!(of("campaign_id", "x", "campaign_id2"), None);
        for (from, to) in [("*", "a"), ("a", "*"), ("*.*", "*"), ("**", "*"), ("*", "**")] {
            assert!(GlobRename::new(from, to).is_err(), "{from} {to}");
        }
    }
}
