//! Problems of a config: a stable code, a message, a place and a hint.
//!
//! Problems are values. `cli` draws them under their source lines; nothing here prints.

use super::source::{ConfigSources, SourceSpan};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// The stable code of a kind of problem. Scripts may rely on it; messages may change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ProblemCode { $($(#[$doc])* $name),+ }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as messages show it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

codes! {
    /// A file of the config cannot be read.
    UnreadableFile = "unreadable-file",
    /// A file is not text.
    NotUtf8 = "not-utf8",
    /// A file, or what its aliases expand to, is larger than any config should be.
    TooLarge = "too-large",
    /// A file in the place of a config is none.
    NoConfig = "no-config",
    /// Not YAML.
    YamlSyntax = "yaml-syntax",
    /// One key twice in one mapping.
    DuplicateKey = "duplicate-key",
    /// A key that means nothing here.
    UnknownKey = "unknown-key",
    /// A key that must be here.
    MissingKey = "missing-key",
    /// A value of the wrong type.
    WrongType = "wrong-type",
    /// A value that is none of those allowed.
    UnknownValue = "unknown-value",
    /// A number, text or list that is too small or too large.
    OutOfRange = "out-of-range",
    /// A text that does not have the form it must have.
    BadFormat = "bad-format",
    /// `include:` names no file.
    IncludeNoMatch = "include-no-match",
    /// An included file holds what only the main file may.
    IncludeKey = "include-key",
    /// Two files define one name.
    DefinedTwice = "defined-twice",
    /// `--env` names no environment.
    UnknownEnvironment = "unknown-environment",
    /// A reference to a cohort that is not there.
    UnknownCohort = "unknown-cohort",
    /// A segment filters on a cohort of another Braze.
    OtherConnection = "other-connection",
    /// A segment includes and excludes one cohort.
    IncludedAndExcluded = "included-and-excluded",
    /// A reference to a connection that is not there.
    UnknownConnection = "unknown-connection",
    /// One cohort id twice.
    DuplicateId = "duplicate-id",
    /// Two cohorts with one name in one Braze.
    DuplicateName = "duplicate-name",
    /// An attribute that would not be written, is another cohort's, or is one of Braze's own.
    BadAttribute = "bad-attribute",
    /// A trigger is incomplete or ambiguous, or has properties that it cannot have.
    BadAction = "bad-action",
    /// A path leaves the folders that the config may read.
    PathOutside = "path-outside",
    /// A match rule stands before one that must come first.
    RuleOrder = "rule-order",
    /// A match rule that can never decide anything.
    DuplicateRule = "duplicate-rule",
    /// A connection to a real vendor lacks a key.
    MissingCredentials = "missing-credentials",
    /// Not one of `instance` or `region` and `endpoint`, or both.
    EndpointChoice = "endpoint-choice",
    /// Keys would travel without encryption, or the endpoint is no plain base URL.
    BadEndpoint = "bad-endpoint",
    /// A server that is neither the vendor's nor allowed.
    EndpointNotAllowed = "endpoint-not-allowed",
    /// What a change may not alter is not as in the trusted config.
    NotTrusted = "not-trusted",
    /// Rows are to be compared in a database that cannot do it.
    BadPushdown = "bad-pushdown",
    /// A secret among what is shown.
    MisplacedSecret = "misplaced-secret",
    /// The format of a source does not follow from its name.
    UnknownFormat = "unknown-format",
    /// Doors that others can reach, and that are not encrypted.
    UnsafeAddress = "unsafe-address",
    /// Two doors with one path.
    DuplicatePath = "duplicate-path",
    /// A schedule that can never come, or in no time zone.
    BadSchedule = "bad-schedule",
    /// Neither or both of `path` and `url`.
    SourceChoice = "source-choice",
    /// A glob that matches nothing, or a rename that carries nothing over.
    BadGlob = "bad-glob",
    /// A match rule names a column that its source cannot have.
    UnknownColumn = "unknown-column",
    /// A cohort is both declared and listed under `removed:`.
    RemovedAndDeclared = "removed-and-declared",
    /// This build lacks a Cargo feature that the config needs.
    MissingFeature = "missing-feature",
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Which kind.
    pub code: ProblemCode,
    /// What is wrong, in one line.
    pub message: String,
    /// Where, unless the file itself is the problem.
    pub place: Option<SourceSpan>,
    /// What to write at the place, in a few words.
    pub label: String,
    /// Another place that has to do with it, and why.
    pub related: Option<(SourceSpan, String)>,
    /// The remedy.
    pub hint: Option<String>,
    /// Values that may be secrets, such as one under a misspelled key: they are masked wherever the file is shown.
    pub(super) suspects: Vec<SourceSpan>,
}

impl Problem {
    pub(super) fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        let (message, label) = (message.into(), String::new());
        Self { code, message, place: None, label, related: None, hint: None, suspects: Vec::new() }
    }

    pub(super) fn at(mut self, place: SourceSpan, label: impl Into<String>) -> Self {
        self.place = Some(place);
        self.label = label.into();
        self
    }

    /// Says that the problem is there only with an environment laid over the config.
    pub(super) fn under(mut self, environment: &str) -> Self {
        self.message.push_str(&format!(", with `--env {environment}`"));
        self
    }

    pub(super) fn see(mut self, place: SourceSpan, why: impl Into<String>) -> Self {
        self.related = Some((place, why.into()));
        self
    }

    pub(super) fn suspect(mut self, values: Vec<SourceSpan>) -> Self {
        self.suspects.extend(values);
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Every problem of a config, with the texts that they point into.
#[derive(Clone, Debug)]
pub struct Problems {
    /// The files that were read.
    pub sources: ConfigSources,
    /// The problems, in the order of the files; never empty.
    pub list: Vec<Problem>,
}

impl Problems {
    /// Whether all problems are changes that the trusted config does not allow.
    #[must_use]
    pub fn is_untrusted(&self) -> bool {
        self.list.iter().all(|problem| problem.code == ProblemCode::NotTrusted)
    }

    pub(super) fn new(mut sources: ConfigSources, mut list: Vec<Problem>) -> Self {
        list.iter().flat_map(|problem| &problem.suspects).for_each(|value| sources.mask(*value));
        list.sort_by_key(|p| (p.place, p.code));
        list.dedup();
        for problem in list.iter_mut().filter(|problem| problem.hint.as_deref() == Some(QUOTE_IT)) {
            problem.hint = problem.place.and_then(|place| quote_hint(&sources, place));
        }
        Self { sources, list }
    }
}

/// Placeholder hint for a value that YAML does not read as a string. `quote_hint` adds the spelling of the file.
pub(super) const QUOTE_IT: &str = "quote it";
/// Longest value that such a hint repeats, in bytes.
const QUOTED_LEN_MAX: usize = 64;

/// Repeats the value as spelled in the file: `1e3` is not the string `1000.0`. `None` if the value is empty.
fn quote_hint(sources: &ConfigSources, place: SourceSpan) -> Option<String> {
    let written = sources.file(place)?.text.get(place.range())?.trim();
    let is_word = written.len() <= QUOTED_LEN_MAX && !written.contains(['"', '\\', '\n', '\r']);
    match written {
        "" => None,
        written if is_word => Some(format!("{QUOTE_IT}: \"{written}\"")),
        _ => Some(QUOTE_IT.to_owned()),
    }
}

/// Number of names that a message lists. Further names are counted.
const LISTED_MAX: usize = 20;
/// Limits of the comparison with candidates, which takes time and memory proportional to the product of both lengths.
const CANDIDATES_MAX: usize = 256;
const COMPARED_LEN_MAX: usize = 128;

/// Names in a message, each in backticks.
pub(super) fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(LISTED_MAX);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &tail
}

/// The candidate most similar to `given`, if it is similar enough.
pub(super) fn did_you_mean<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if given.len() > COMPARED_LEN_MAX {
        return None;
    }
    let given_len = given.chars().count();
    let most = |candidate: &str| 1 + candidate.chars().count().max(given_len) / 4;
    let near =
        |candidate: &str| strsim::damerau_levenshtein(&given.to_lowercase(), &candidate.to_lowercase());
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter(|candidate| {
            let len = candidate.chars().count();
            len <= COMPARED_LEN_MAX && len.abs_diff(given_len) <= most(candidate)
        })
        .map(|candidate| (near(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= most(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near_misses_only() {
        let keys = ["external_id", "alias", "device_id"];
        assert_eq!(did_you_mean("extrenal_id", keys), Some("external_id"));
        assert_eq!(did_you_mean("Alias", keys), Some("alias"));
        assert_eq!(did_you_mean("email", keys), None);
    }
}
