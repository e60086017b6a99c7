//! Search for users in the rejects of a cohort.
//!
//! A reject has the value of the column that decided, so a row is found by the whole value, as a kind of identifier that
//! the column can have. Rejects of requests have the complete identifier.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use serde::Deserialize;
use serde_json::Value;

use super::identifiers::{RowName, Subjects};
use crate::model::MatchRule;
use crate::state::{RejectFile, StateError, StateReader};

/// Longest value in a reject, in characters.
const VALUE_LEN_MAX: usize = 200;
/// Lines are searched for the first characters of a name. A cut value may begin with spaces.
const SEARCHED_LEN: usize = 100;
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

/// Whether a reject names the user by this name. `rules` are those of the cohort, none if the config has no cohort.
fn is_named(row: &RejectedRow, name: &RowName, rules: &[MatchRule]) -> bool {
    if !row.is_of_source() {
        return row.value == name.in_full();
    }
    let mut of_column = rules.iter().filter(|rule| *rule.column == row.column).peekable();
    let is_possible = of_column.peek().is_none() || of_column.any(|rule| name.is_of(rule));
    let value = row.value.trim();
    // A value of the greatest length may have been longer.
    let is_cut = row.value.chars().count() >= VALUE_LEN_MAX && !value.is_empty();
    is_possible && (value == name.value || (is_cut && name.value.starts_with(value)))
}

/// Searches rejects files, the newest first. Rows count in the newest run alone, and only `with_rows`. Rejects of Braze
/// are not repeated by later runs, so with `in_all` they are searched in all files.
pub(super) fn search(
    files: &[RejectFile],
    (with_rows, in_all): (bool, bool),
    rules: &[MatchRule],
    subjects: &Subjects,
    state: &StateReader,
) -> Result<Vec<Vec<RejectedRow>>, StateError> {
    let mut found: Vec<Vec<RejectedRow>> = vec![Vec::new(); subjects.all.len()];
    let Some(newest) = files.first() else { return Ok(found) };
    let names = subjects.all.iter().enumerate();
    let wanted: Vec<(usize, &RowName)> =
        names.flat_map(|(at, subject)| subject.names.iter().map(move |name| (at, name))).collect();
    let begins = wanted.iter().map(|(_, name)| name.value.chars().take(SEARCHED_LEN).collect::<String>());
    let automaton = AhoCorasick::new(begins.map(|begin| escaped(&begin)));
    let automaton = automaton.map_err(|error| StateError::TemporaryFile(std::io::Error::other(error)))?;
    for file in files.iter().filter(|file| in_all || file.run == newest.run) {
        let is_newest = file.run == newest.run;
        state.each_reject(file, &mut |line| {
            let hits = automaton.find_overlapping_iter(line).map(|hit| hit.pattern().as_usize());
            let hits: BTreeSet<usize> = hits.collect();
            if hits.is_empty() {
                return;
            }
            let Ok(row) = serde_json::from_slice::<RejectedRow>(line) else { return };
            let row = RejectedRow { run: file.run.clone(), ..row };
            if !(row.is_of_braze() || (is_newest && (with_rows || !row.is_of_source()))) {
                return;
            }
            for (subject, name) in hits.iter().filter_map(|hit| wanted.get(*hit)) {
                if is_named(&row, name, rules) && !found[*subject].contains(&row) {
                    found[*subject].push(row.clone());
                }
            }
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identifier, IdentifierKind};

    fn name(kind: IdentifierKind, value: &str) -> RowName {
        let label = if kind == IdentifierKind::Alias { "crm" } else { "" };
        RowName::from(&Identifier { kind, label, value })
    }

    fn row(reason: &str, column: &str, value: &str) -> RejectedRow {
        let [reason, column, value] = [reason, column, value].map(str::to_owned);
        RejectedRow { reason, column, value, ..RejectedRow::default() }
    }

    #[test]
    fn a_reject_names_a_user_by_its_whole_value_as_its_column_is_matched() {
        use IdentifierKind::{Alias, DeviceId, ExternalId};
        let rule =
            |kind, label: &str, column: &str| MatchRule { kind, label: label.into(), column: column.into() };
        let rules = [rule(ExternalId, "", "id"), rule(Alias, "crm", "both"), rule(DeviceId, "", "both")];
        let long = "x".repeat(VALUE_LEN_MAX);
        for (kind, value, row, expected) in [
            (ExternalId, "null", row("placeholder", "id", "null"), true),
            (ExternalId, "null", row("placeholder", "id", " null\t"), true),
            (ExternalId, "null", row("placeholder", "both", "null"), false),
            (Alias, "null", row("placeholder", "both", "null"), true),
            (DeviceId, "null", row("placeholder", "both", "null"), true),
            (DeviceId, "null", row("placeholder", "id", "null"), false),
            (DeviceId, "null", row("placeholder", "column_of_an_earlier_config", "null"), true),
            (ExternalId, "anna", row("control_character", "id", "anna ben"), false),
            (ExternalId, "anna", row("too_long", "id", &long), false),
            (ExternalId, "x", row("too_long", "id", &long), false),
            (ExternalId, &"x".repeat(1_000), row("too_long", "id", &long), true),
            (ExternalId, &"x".repeat(1_000), row("too_long", "id", &long.replacen("xx", "  ", 1)), true),
            (ExternalId, "anna", row("rejected_by_braze", "add", "external_id anna"), true),
            (ExternalId, "anna", row("rejected_by_braze", "add", "external_id anna lee"), false),
            (DeviceId, "anna", row("rejected_by_braze", "add", "external_id anna"), false),
            (Alias, "7", row("trigger_rejected", "on_enter", "alias crm:7"), true),
            (ExternalId, "7", row("trigger_rejected", "on_enter", "alias crm:7"), false),
        ] {
            assert_eq!(is_named(&row, &name(kind, value), &rules), expected, "{kind:?} {value}: {row:?}");
        }
    }
}
