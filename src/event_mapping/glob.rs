//! Globs over dotted names: `*` matches within a segment, `**` matches across segments.

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameGlobError {
    /// An empty pattern.
    #[error("an empty pattern matches nothing")]
    Empty,
    /// A rename needs the same single wildcard on both sides, or none.
    #[error("`{from}` and `{to}` must have the same single wildcard, or none")]
    Rename {
        /// The pattern.
        from: String,
        /// The new name.
        to: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GlobPart {
    Char(char),
    /// `*`
    Segment,
    /// `**`
    Any,
}

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameGlob(Vec<GlobPart>);

impl NameGlob {
    pub(super) fn new(pattern: &str) -> Result<Self, NameGlobError> {
        let (mut parts, mut chars) = (Vec::new(), pattern.trim().chars().peekable());
        while let Some(char) = chars.next() {
            parts.push(match char {
                '*' if chars.next_if_eq(&'*').is_some() => GlobPart::Any,
                '*' => GlobPart::Segment,
                char => GlobPart::Char(char),
            });
        }
        if parts.is_empty() { Err(NameGlobError::Empty) } else { Ok(Self(parts)) }
    }

    /// Whether the pattern matches the whole name. With `or_above`, a match up to a dot is enough. The time is linear in
    /// the length of the name, for every pattern.
    pub(super) fn matches(&self, name: &str, or_above: bool) -> bool {
        let mut active = vec![false; self.0.len() + 1];
        active[0] = true;
        self.pass_stars(&mut active);
        for char in name.chars() {
            if or_above && char == '.' && active[self.0.len()] {
                return true;
            }
            for at in (0..self.0.len()).rev() {
                let is_here = active[at];
                active[at] = is_here
                    && match self.0[at] {
                        GlobPart::Any => true,
                        GlobPart::Segment => char != '.',
                        GlobPart::Char(_) => false,
                    };
                // A complete match has no next step.
                active[at + 1] = active[at + 1] && at + 1 < self.0.len();
                active[at + 1] |= is_here && self.0[at] == GlobPart::Char(char);
            }
            self.pass_stars(&mut active);
        }
        active[self.0.len()]
    }

    /// A star may match nothing.
    fn pass_stars(&self, active: &mut [bool]) {
        for (at, part) in self.0.iter().enumerate() {
            if active[at] && !matches!(part, GlobPart::Char(_)) {
                active[at + 1] = true;
            }
        }
    }
}

/// Several patterns; one match is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NameGlobs(Vec<NameGlob>);

impl NameGlobs {
    pub(super) fn new(patterns: &[String]) -> Result<Self, NameGlobError> {
        patterns.iter().map(|pattern| NameGlob::new(pattern)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn match_type(&self, event_type: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(event_type, false))
    }

    /// Whether a pattern matches the name or a name above it.
    pub(super) fn cover(&self, path: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(path, true))
    }
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
        assert_eq!(NameGlob::new(pattern).unwrap().matches(name, false), expected, "{pattern} {name}");
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
    }

    #[test]
    fn a_glob_covers_names_below_its_match() {
        let globs = NameGlobs::new(&["custom_properties".to_owned(), "a.*".to_owned()]).unwrap();
        for (path, expected) in [
            ("custom_properties", true),
            ("custom_properties.x.y", true),
            ("custom_properties_x", false),
            ("a.b.c", true),
            ("a", false),
        ] {
            assert_eq!(globs.cover(path), expected, "{path}");
        }
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
