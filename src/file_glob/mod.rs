//! Path globs: which files and object keys match a pattern, and the search for matching files.
//!
//! `*`, `?` and `[…]` stay within one path component, `**` spans components. The components before the first wildcard
//! are the literal prefix. Below it, names of hidden or temporary entries match only if the pattern spells out what
//! hides them: see [`Glob`].
//!
//! # Guarantees
//! A search returns every matching file, or an error. An inaccessible entry is an error if it may be, or may contain,
//! a matching file.

mod walk;

pub use walk::{EntryVisitor, FolderStates, JudgedEntry, WalkError, special, walk};

use std::path::{Path, PathBuf};

/// Name endings of files that are still being written: browsers, copy tools, exporters.
const TEMPORARY: [&str; 7] =
    [".crdownload", ".part", ".partial", ".filepart", ".download", ".opdownload", ".tmp"];
/// Options for one path component. The search handles components itself.
const MATCHING: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: false,
    require_literal_leading_dot: false,
};

/// Whether a path has wildcards.
#[must_use]
pub fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// An invalid pattern.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is not a glob: {what}")]
pub struct GlobError {
    pattern: String,
    what: String,
}

/// A compiled pattern.
///
/// Names that begin with `.` or `_`, and names of temporary files such as `*.tmp`, match a wildcard only if the
/// pattern's component begins, or ends, with these characters too.
#[derive(Clone, Debug)]
pub struct Glob {
    prefix: String,
    parts: Vec<PatternPart>,
}

#[derive(Clone, Debug)]
enum PatternPart {
    /// `**`
    AnyDepth,
    Name {
        text: String,
        /// None for a name without wildcards.
        wildcards: Option<glob::Pattern>,
    },
}

impl PatternPart {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::AnyDepth => true,
            Self::Name { wildcards: Some(wildcards), .. } => wildcards.matches_with(name, MATCHING),
            Self::Name { text, .. } => text == name,
        }
    }

    /// Whether the pattern spells out what hides a name.
    fn spells(&self, hidden: Option<SkipReason>) -> bool {
        match (self, hidden) {
            (Self::Name { wildcards: Some(_), text }, Some(hidden)) => hidden.is_spelled(text),
            _ => true,
        }
    }
}

/// Positions in a pattern after some components of a path.
pub type Positions = Vec<usize>;

/// The relation of an object key to a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMatch {
    /// The key matches.
    Named,
    /// The key would match if it were not hidden or temporary.
    Skipped,
    /// The key does not match.
    Other,
}

impl Glob {
    /// Compiles a path pattern. Empty components and `.` are ignored.
    ///
    /// # Errors
    /// [`GlobError`] when a wildcard is not valid.
    pub fn path(pattern: &str) -> Result<Self, GlobError> {
        let parts: Vec<&str> = pattern.split('/').collect();
        let (first, rest) = parts.split_first().unwrap_or((&"", &[]));
        let rest = rest.iter().filter(|part| !matches!(**part, "" | "."));
        Self::compile(pattern, &std::iter::once(first).chain(rest).copied().collect::<Vec<_>>())
    }

    /// Compiles a pattern of object keys, in which every byte counts.
    ///
    /// # Errors
    /// [`GlobError`] when a wildcard is not valid.
    pub fn key(pattern: &str) -> Result<Self, GlobError> {
        Self::compile(pattern, &pattern.split('/').collect::<Vec<_>>())
    }

    fn compile(pattern: &str, components: &[&str]) -> Result<Self, GlobError> {
        let failed = |what: &str| GlobError { pattern: pattern.to_owned(), what: what.to_owned() };
        let first = components.iter().position(|part| is_glob(part)).unwrap_or(components.len());
        let (literal, rest) = components.split_at(first);
        let mut prefix = literal.join("/");
        if !literal.is_empty() && !rest.is_empty() {
            prefix.push('/');
        }
        let mut parts = Vec::new();
        for part in rest {
            match *part {
                "**" => parts.push(PatternPart::AnyDepth),
                ".." => return Err(failed("`..` cannot follow a wildcard")),
                text => {
                    let wildcards = if is_glob(text) {
                        // Two stars within a name equal one.
                        let single = text.replace("***", "*").replace("**", "*");
                        Some(glob::Pattern::new(&single).map_err(|error| failed(error.msg))?)
                    } else {
                        None
                    };
                    parts.push(PatternPart::Name { text: text.to_owned(), wildcards });
                }
            }
        }
        if matches!(parts.last(), Some(PatternPart::AnyDepth)) {
            let wildcards = glob::Pattern::new("*").ok();
            parts.push(PatternPart::Name { text: "*".to_owned(), wildcards });
        }
        Ok(Self { prefix, parts })
    }

    /// The text before the first component with a wildcard, with its slash.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn start(&self) -> Positions {
        let mut start = Vec::new();
        self.add(0, &mut start);
        start
    }

    fn add(&self, at: usize, positions: &mut Positions) {
        if !positions.contains(&at) {
            positions.push(at);
            if matches!(self.parts.get(at), Some(PatternPart::AnyDepth)) {
                self.add(at + 1, positions);
            }
        }
    }

    /// Advances by one component. If `exposed`, hidden names match like any others.
    fn judge(&self, positions: &[usize], name: &str, exposed: bool) -> JudgedEntry<Positions> {
        let mut judged = JudgedEntry::default();
        let mut next = Vec::new();
        let hidden = if exposed { None } else { SkipReason::of(name) };
        for at in positions.iter().copied() {
            match self.parts.get(at) {
                Some(PatternPart::AnyDepth) if hidden.is_some() => judged.skipped_folder = true,
                Some(PatternPart::AnyDepth) => self.add(at, &mut next),
                Some(part @ PatternPart::Name { .. }) => {
                    let is_last = at + 1 == self.parts.len();
                    match (part.matches(name), part.spells(hidden), is_last) {
                        (false, ..) => {}
                        (true, true, true) => judged.file = true,
                        (true, true, false) => self.add(at + 1, &mut next),
                        (true, false, true) => judged.skipped_file = true,
                        (true, false, false) => judged.skipped_folder = true,
                    }
                }
                None => {}
            }
        }
        judged.folder = (!next.is_empty()).then_some(next);
        judged
    }

    /// The relation of an exact object key to the pattern.
    #[must_use]
    pub fn match_key(&self, key: &str) -> KeyMatch {
        let Some(rest) = key.strip_prefix(self.prefix.as_str()) else { return KeyMatch::Other };
        if self.leads_to(rest, false) {
            KeyMatch::Named
        } else if self.leads_to(rest, true) {
            KeyMatch::Skipped
        } else {
            KeyMatch::Other
        }
    }

    fn leads_to(&self, key: &str, exposed: bool) -> bool {
        let (folders, name) =
            key.rsplit_once('/').map_or((None, key), |(folders, name)| (Some(folders), name));
        let mut positions = self.start();
        for folder in folders.into_iter().flat_map(|folders| folders.split('/')) {
            positions = self.judge(&positions, folder, exposed).folder.unwrap_or_default();
        }
        self.judge(&positions, name, exposed).file
    }

    /// Finds the matching files below `folder`.
    ///
    /// # Errors
    /// [`WalkError`] when an entry that may match cannot be accessed.
    pub fn find(&self, folder: &Path) -> Result<GlobMatches, WalkError> {
        let mut finding = GlobSearch { glob: self, found: GlobMatches::default() };
        let root = if self.prefix.is_empty() { folder.to_owned() } else { folder.join(&self.prefix) };
        if self.parts.is_empty() {
            finding.found.files.push(root);
            return Ok(finding.found);
        }
        let walked = walk(&root, &self.start(), &mut finding);
        let mut found = finding.found;
        found.files.sort_unstable();
        walked.map(|()| found)
    }

    /// The folders in which a change may change the result of a search; only accessible ones.
    #[must_use]
    pub fn folders(&self, folder: &Path) -> Vec<PathBuf> {
        let mut finding = GlobSearch { glob: self, found: GlobMatches::default() };
        let root = if self.prefix.is_empty() { folder.to_owned() } else { folder.join(&self.prefix) };
        // The search for files reports folders that cannot be entered.
        let _ = walk(&root, &self.start(), &mut finding);
        finding.found.folders
    }
}

/// The result of a search.
#[derive(Clone, Debug, Default)]
pub struct GlobMatches {
    /// Matching files, sorted.
    pub files: Vec<PathBuf>,
    /// Folders that match the last component and are not entered.
    pub named_folders: Vec<PathBuf>,
    /// Folders that were entered.
    pub folders: Vec<PathBuf>,
    /// Hidden or temporary entries that would match otherwise.
    pub skipped: u64,
}

struct GlobSearch<'a> {
    glob: &'a Glob,
    found: GlobMatches,
}

impl EntryVisitor for GlobSearch<'_> {
    type State = Positions;

    fn judge(&mut self, positions: &Positions, name: &str) -> JudgedEntry<Positions> {
        self.glob.judge(positions, name, false)
    }

    fn enter(&mut self, path: &Path) {
        self.found.folders.push(path.to_owned());
    }

    fn file(&mut self, _: &Positions, path: &Path, _: &str) -> std::io::Result<()> {
        self.found.files.push(path.to_owned());
        Ok(())
    }

    fn named_folder(&mut self, path: &Path) {
        self.found.named_folders.push(path.to_owned());
    }

    fn skip(&mut self) {
        self.found.skipped += 1;
    }
}

/// Text about skipped entries for a message; empty if there are none.
#[must_use]
pub fn skipped_text(skipped: u64) -> String {
    match skipped {
        0 => String::new(),
        1 => "; 1 hidden or temporary entry was skipped".to_owned(),
        _ => format!("; {skipped} hidden or temporary entries were skipped"),
    }
}

/// The reason why a name is skipped.
#[derive(Clone, Copy)]
enum SkipReason {
    Begins(char),
    Ends(&'static str),
}

impl SkipReason {
    fn of(name: &str) -> Option<Self> {
        match name.chars().next() {
            // These are components of keys, not names.
            _ if matches!(name, "." | "..") => None,
            Some(first @ ('.' | '_')) => Some(Self::Begins(first)),
            _ => ending(name).map(Self::Ends),
        }
    }

    /// Whether a component of a pattern spells out what hides the name.
    fn is_spelled(self, pattern: &str) -> bool {
        match self {
            Self::Ends(ending) => pattern.to_ascii_lowercase().ends_with(ending),
            Self::Begins(first) => match pattern.strip_prefix('[') {
                // A class that lists the character, as in `[._]*`.
                Some(class) if !class.starts_with('!') => {
                    let end = class.get(1..).and_then(|rest| rest.find(']')).map_or(0, |at| at + 1);
                    class[..end].contains(first)
                }
                _ => pattern.starts_with(first),
            },
        }
    }
}

fn ending(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    TEMPORARY.into_iter().find(|ending| lower.ends_with(ending))
}

/// Whether readers of a folder skip an entry of this name: it is hidden or temporary.
#[must_use]
pub fn is_hidden(name: &str) -> bool {
    SkipReason::of(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, key: &str, expected: KeyMatch) {
        assert_eq!(Glob::key(pattern).unwrap().match_key(key), expected, "{pattern} of {key}");
    }

    #[test]
    fn keys_that_a_pattern_names() {
        use KeyMatch::{Named, Other, Skipped};
        check("a/*.csv", "a/b.csv", Named);
        check("a/*.csv", "a/b/c.csv", Other);
        check("a/**/*.csv", "a/b/c.csv", Named);
        check("a/**/*.csv", "a/c.csv", Named);
        check("a/**/x/*.csv", "a/x/x/c.csv", Named);
        check("a/**", "a/b/c", Named);
        check("a/?.csv", "a/ö.csv", Named);
        check("a/*.csv", "a//b.csv", Other);
        check("a//*.csv", "a//b.csv", Named);
        check("a/d=*/b%3A~#.csv", "a/d=1/b%3A~#.csv", Named);
        check("a/{b,c}*.csv", "a/{b,c}1.csv", Named);
        check("a/*", "a/.b", Skipped);
        check("a/*/b.csv", "a/_temporary/b.csv", Skipped);
        check("a/**/*.csv", "a/.staging/0/b.csv", Skipped);
        check("a/**/*.csv", "a/_x/.y/b.csv", Skipped);
        check("a/*.csv", "a/.b.txt", Other);
        check("a/**/*.csv", "a/x/../b.csv", Named);
        check("a/_*/*.csv", "a/_x/b.csv", Named);
        check("a/[._]*.csv", "a/.b.csv", Named);
        check("a/[!_]*.csv", "a/.b.csv", Skipped);
        check(".a/_b/*.csv", ".a/_b/c.csv", Named);
        check("a/*", "a/b.csv.crdownload", Skipped);
        check("a/*.part", "a/b.part", Named);
        check("a/*.PART", "a/b.PART", Named);
        check("a/b*", "a/b.csv.tmp", Skipped);
        assert!(Glob::key("a/[x").is_err());
        assert!(Glob::path("a/*/../x").is_err());
    }
}
