//! Problems of a config: a stable code, a message, a location and a hint.
//!
//! Problems are values. `cli` draws them under their source lines; nothing here prints.

use super::source_text::{ConfigSources, SourceSpan};
use crate::model::stable_codes;

stable_codes! {
    /// The stable code of a kind of problem. Scripts may rely on it; messages may change.
    ProblemCode {
        /// A config file cannot be read.
        UnreadableFile = "unreadable-file",
        /// A file is not text.
        NotUtf8 = "not-utf8",
        /// A file exceeds the size limit, as it is or after the expansion of its aliases.
        TooLarge = "too-large",
        /// The content of a file is not a config.
        NoConfig = "no-config",
        /// Invalid YAML.
        YamlSyntax = "yaml-syntax",
        /// A mapping contains a key twice.
        DuplicateKey = "duplicate-key",
        /// An unknown key.
        UnknownKey = "unknown-key",
        /// A required key is missing.
        MissingKey = "missing-key",
        /// A value of the wrong type.
        WrongType = "wrong-type",
        /// A value that is not one of the allowed ones.
        UnknownValue = "unknown-value",
        /// A number, string or list outside of its limits.
        OutOfRange = "out-of-range",
        /// A string in the wrong format.
        BadFormat = "bad-format",
        /// `include:` matches no file.
        IncludeNoMatch = "include-no-match",
        /// An included file contains a key that only the main file may contain.
        IncludeKey = "include-key",
        /// Two files define the same name.
        DefinedTwice = "defined-twice",
        /// `--env` names an unknown environment.
        UnknownEnvironment = "unknown-environment",
        /// A reference to an unknown cohort.
        UnknownCohort = "unknown-cohort",
        /// A segment uses a cohort of another Braze connection.
        OtherConnection = "other-connection",
        /// A segment both includes and excludes a cohort.
        IncludedAndExcluded = "included-and-excluded",
        /// A reference to an unknown connection.
        UnknownConnection = "unknown-connection",
        /// Two cohorts have the same id.
        DuplicateId = "duplicate-id",
        /// Two cohorts of a connection have the same name.
        DuplicateName = "duplicate-name",
        /// An attribute has no effect, belongs to another cohort, or is a standard field of Braze.
        BadAttribute = "bad-attribute",
        /// A trigger is incomplete or ambiguous, or has properties that it cannot have.
        BadTrigger = "bad-trigger",
        /// A path leaves the folders that the config may read.
        PathOutside = "path-outside",
        /// A match rule precedes one that must come first.
        RuleOrder = "rule-order",
        /// A match rule that can never apply.
        DuplicateRule = "duplicate-rule",
        /// A connection to a real vendor lacks a key.
        MissingCredentials = "missing-credentials",
        /// Both `endpoint` and `instance` or `region`, or none of them.
        EndpointChoice = "endpoint-choice",
        /// Keys would be sent without encryption, or the endpoint is not a base URL.
        BadEndpoint = "bad-endpoint",
        /// A server that is neither a vendor's nor under `allow_endpoint:`.
        EndpointNotAllowed = "endpoint-not-allowed",
        /// A protected key differs from the trusted config.
        NotTrusted = "not-trusted",
        /// `diff: pushdown` with a database that does not support it.
        BadPushdown = "bad-pushdown",
        /// A secret in a value that is not masked.
        MisplacedSecret = "misplaced-secret",
        /// The format of a source is not set, and its name has no known extension.
        UnknownFormat = "unknown-format",
        /// Endpoints that other machines can reach are not encrypted.
        UnsafeAddress = "unsafe-address",
        /// Two endpoints have the same path.
        DuplicatePath = "duplicate-path",
        /// A schedule that never occurs, or with an unknown time zone.
        BadSchedule = "bad-schedule",
        /// Both `path` and `url`, or none of them.
        SourceChoice = "source-choice",
        /// An invalid glob, or a rename with different wildcards.
        BadGlob = "bad-glob",
        /// A match rule uses a column that its source cannot have.
        UnknownColumn = "unknown-column",
        /// A cohort is both declared and listed under `removed:`.
        RemovedAndDeclared = "removed-and-declared",
        /// This build lacks a Cargo feature that the config needs.
        MissingFeature = "missing-feature",
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The kind of problem.
    pub code: ProblemCode,
    /// What is wrong, in one line.
    pub message: String,
    /// The location; `None` if the problem is the file itself.
    pub span: Option<SourceSpan>,
    /// A short label for the location.
    pub label: String,
    /// A related location, and its label.
    pub related: Option<(SourceSpan, String)>,
    /// The remedy.
    pub hint: Option<String>,
    /// Values that may be secrets, such as one under a misspelled key: they are masked wherever the file is shown.
    pub(super) suspects: Vec<SourceSpan>,
}

impl Problem {
    pub(super) fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        let (message, label) = (message.into(), String::new());
        Self { code, message, span: None, label, related: None, hint: None, suspects: Vec::new() }
    }

    pub(super) fn at(mut self, span: SourceSpan, label: impl Into<String>) -> Self {
        self.span = Some(span);
        self.label = label.into();
        self
    }

    /// Adds that the problem only exists with this environment.
    pub(super) fn under(mut self, environment: &str) -> Self {
        self.message.push_str(&format!(", with `--env {environment}`"));
        self
    }

    pub(super) fn see(mut self, span: SourceSpan, why: impl Into<String>) -> Self {
        self.related = Some((span, why.into()));
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

/// All problems of a config, with its source text.
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
        list.sort_by_key(|p| (p.span, p.code));
        let mut list = without_repetitions(list);
        for problem in list.iter_mut().filter(|problem| problem.hint.as_deref() == Some(QUOTE_IT)) {
            problem.hint = problem.span.and_then(|span| quote_hint(&sources, span));
        }
        Self { sources, list }
    }
}

/// Each problem of a sorted list once: the base and each environment report what they share.
fn without_repetitions(sorted: Vec<Problem>) -> Vec<Problem> {
    let mut list: Vec<Problem> = Vec::with_capacity(sorted.len());
    for problem in sorted {
        let is_here = |known: &&Problem| (known.span, known.code) == (problem.span, problem.code);
        if !list.iter().rev().take_while(is_here).any(|known| *known == problem) {
            list.push(problem);
        }
    }
    list
}

/// Placeholder hint for a value that YAML does not read as a string. `quote_hint` adds the spelling of the file.
pub(super) const QUOTE_IT: &str = "quote it";
/// Longest value that such a hint repeats, in bytes.
const QUOTED_LEN_MAX: usize = 64;

/// Repeats the value as spelled in the file: `1e3` is not the string `1000.0`. `None` if the value is empty.
fn quote_hint(sources: &ConfigSources, span: SourceSpan) -> Option<String> {
    let written = sources.file(span)?.text.get(span.range())?.trim();
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
pub(crate) fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(LISTED_MAX);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &tail
}

/// The candidate most similar to `given`, if it is similar enough.
pub(crate) fn did_you_mean<'a>(
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
