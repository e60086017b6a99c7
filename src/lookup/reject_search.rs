//! Search for users in the rejects of a cohort.
//!
//! A reject has the value of the column that decided, so a row is found by that value: as a whole, or as a word of it.

use aho_corasick::AhoCorasick;
use serde::Deserialize;
use serde_json::Value;

use super::identifiers::Subjects;
use crate::state::{RejectFile, StateError, StateReader, has_word};

/// Longest value in a reject, in characters.
const VALUE_LEN_MAX: usize = 200;
/// The reason of identifiers that Braze rejected.
const OF_BRAZE: &str = "rejected_by_braze";
/// The reasons of triggers that Braze rejected, or has not answered, begin so.
const OF_TRIGGERS: &str = "trigger_";

/// A reject that names the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RejectedRow {
    /// The run.
    #[serde(skip)]
    pub run: String,
    /// The reason, as a stable code.
    pub reason: String,
    /// The reason in the words of the system that rejected it.
    pub detail: String,
    /// The source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u64>,
    /// The column that decided, or the operation of a request.
    pub column: String,
    /// The rejected value.
    pub value: String,
}

impl RejectedRow {
    /// Whether Braze rejected it.
    #[must_use]
    pub fn is_of_braze(&self) -> bool {
        self.reason == OF_BRAZE
    }

    /// Whether it is a trigger.
    #[must_use]
    pub fn is_of_trigger(&self) -> bool {
        self.reason.starts_with(OF_TRIGGERS)
    }

    /// Whether it is a row of the source.
    #[must_use]
    pub fn is_of_source(&self) -> bool {
        !self.is_of_braze() && !self.is_of_trigger()
    }
}

/// A text as JSON writes it, without the quotes.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// Searches rejects files, the newest first. Rows count in the newest run alone, and only `with_rows`. Rejects of Braze
/// are not repeated by later runs, so with `in_all` they are searched in all files.
pub(super) fn search(
    files: &[RejectFile],
    with_rows: bool,
    in_all: bool,
    subjects: &Subjects,
    state: &StateReader,
) -> Result<Vec<Vec<RejectedRow>>, StateError> {
    let mut found: Vec<Vec<RejectedRow>> = vec![Vec::new(); subjects.all.len()];
    let Some(newest) = files.first() else { return Ok(found) };
    let mut wanted: Vec<(usize, String)> = Vec::new();
    for (at, subject) in subjects.all.iter().enumerate() {
        let texts = subject.texts().into_iter();
        wanted.extend(texts.map(|text| (at, text.chars().take(VALUE_LEN_MAX).collect::<String>())));
    }
    let automaton = AhoCorasick::new(wanted.iter().map(|(_, text)| escaped(text)));
    let automaton = automaton.map_err(|error| StateError::TemporaryFile(std::io::Error::other(error)))?;
    for file in files.iter().filter(|file| in_all || file.run == newest.run) {
        let is_newest = file.run == newest.run;
        state.each_reject(file, &mut |line| {
            let hits = automaton.find_overlapping_iter(line).map(|hit| hit.pattern().as_usize());
            let mut hits: Vec<&(usize, String)> = hits.filter_map(|hit| wanted.get(hit)).collect();
            hits.dedup();
            if hits.is_empty() {
                return;
            }
            let Ok(row) = serde_json::from_slice::<RejectedRow>(line) else { return };
            let row = RejectedRow { run: file.run.clone(), ..row };
            let counts = row.is_of_braze() || (is_newest && (with_rows || !row.is_of_source()));
            for (subject, text) in hits.into_iter().filter(|_| counts) {
                if has_word(&escaped(&row.value), text) && !found[*subject].contains(&row) {
                    found[*subject].push(row.clone());
                }
            }
        })?;
    }
    Ok(found)
}
