//! Values for shell completions: names from the config that the typed command line chooses.

use std::path::PathBuf;

use clap_complete::CompletionCandidate;

use super::environment;
use crate::config::{self, Config};

/// The environment variable by which a completion script asks for values.
pub(super) const VARIABLE: &str = "SYNCLINE_COMPLETE";

pub(super) fn cohorts() -> Vec<CompletionCandidate> {
    of_config(|config| config.cohorts.iter().map(|cohort| cohort.id.to_string()).collect())
}

pub(super) fn segments() -> Vec<CompletionCandidate> {
    of_config(|config| config.segments.iter().map(|segment| segment.id.to_string()).collect())
}

pub(super) fn exports() -> Vec<CompletionCandidate> {
    of_config(|config| config.exports.iter().map(|export| export.id.to_string()).collect())
}

pub(super) fn environments() -> Vec<CompletionCandidate> {
    let words = environment::words();
    config::validate(&file(&words), None).map(|(_, names)| candidates(names)).unwrap_or_default()
}

/// An invalid config has no candidates: the command itself reports its problems.
fn of_config(names: impl Fn(&Config) -> Vec<String>) -> Vec<CompletionCandidate> {
    let words = environment::words();
    let environment = value(&words, "-e", "--env");
    config::load(&file(&words), environment.as_deref(), None)
        .map(|config| candidates(names(&config)))
        .unwrap_or_default()
}

fn candidates(names: Vec<String>) -> Vec<CompletionCandidate> {
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn file(words: &[String]) -> PathBuf {
    PathBuf::from(value(words, "-c", "--config").unwrap_or_else(|| config::DEFAULT_FILE.to_owned()))
}

/// The last value of an option in the words: `-c FILE`, `-cFILE`, `--config FILE` or `--config=FILE`.
fn value(words: &[String], short: &str, long: &str) -> Option<String> {
    words.iter().enumerate().rev().find_map(|(at, word)| {
        if word == short || word == long {
            return words.get(at + 1).cloned();
        }
        let attached = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('='));
        attached
            .or_else(|| word.strip_prefix(short).filter(|rest| !rest.is_empty() && !word.starts_with("--")))
            .map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_each_form() {
        let found = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            value(&words, "-c", "--config")
        };
        for line in ["plan -c a.yaml", "plan -ca.yaml", "plan --config a.yaml", "--config=a.yaml plan x"] {
            assert_eq!(found(line).as_deref(), Some("a.yaml"), "{line}");
        }
        assert_eq!(found("plan -c a.yaml -c b.yaml").as_deref(), Some("b.yaml"));
        assert_eq!(found("plan --color never"), None);
        assert_eq!(found("plan -c"), None);
    }
}
