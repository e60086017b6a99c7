//! Cohorts that could be: what to write into a config for what was found. Whether it is a cohort, and under which
//! id for ever, is for a person to say.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::config::Config;
use crate::connector::sql::Table;
use crate::foreign::{self, escaped};
use crate::model::{CohortId, ConnectionName};

/// Columns that hold an external id, the likeliest first.
const EXTERNAL_IDS: [&str; 8] = [
    "external_id",
    "external_user_id",
    "braze_external_id",
    "identity",
    "customer_id",
    "member_id",
    "email",
    "email_address",
];
/// The column under which Heap keeps its own number of a user (Heap Connect, every table).
const HEAP_USER: &str = "user_id";
const DEVICE: &str = "device_id";
/// What a table of events has, and one of Heap's bookkeeping: a row there is no person.
const NO_PEOPLE: [&str; 3] = ["event_id", "from_user_id", "dump_id"];

/// An entry for a config.
pub(super) struct Candidate {
    id: String,
    name: String,
    to: String,
    source: String,
    rules: Vec<String>,
    /// What a person should know.
    remarks: Vec<String>,
}

/// Entries, with ids and names that nothing else has.
pub(super) struct Candidates {
    ids: BTreeSet<String>,
    names: BTreeSet<String>,
    to: String,
    pub(super) list: Vec<Candidate>,
}

impl Candidates {
    /// None yet. `known` are ids besides those of the config.
    pub(super) fn new(config: &Config, known: impl Iterator<Item = CohortId>) -> Self {
        let known = known.map(|id| id.to_string());
        let ids = config.cohorts.iter().map(|cohort| cohort.id.to_string()).chain(known).collect();
        let names = config.cohorts.iter().map(|cohort| cohort.name.clone()).collect();
        let to = config.braze.keys().next().map(ToString::to_string).unwrap_or_default();
        Self { ids, names, to, list: Vec::new() }
    }

    fn push(&mut self, name: &str, source: String, rules: Vec<String>, remarks: Vec<String>) {
        let id = free(&slug(name), &self.ids, "_");
        let name = free(name, &self.names, " ");
        self.ids.insert(id.clone());
        self.names.insert(name.clone());
        self.list.push(Candidate { id, name, to: self.to.clone(), source, rules, remarks });
    }

    /// A table, if its columns name people. `false` if they do not.
    pub(super) fn table(&mut self, connection: &ConnectionName, table: &Table) -> bool {
        let has = |name: &str| table.columns.iter().find(|column| column.eq_ignore_ascii_case(name));
        let mut rules = Vec::new();
        let external = EXTERNAL_IDS.iter().find_map(|name| has(name));
        rules.extend(external.map(|column| format!("external_id: {}", quoted(column))));
        let heap = has(HEAP_USER);
        rules
            .extend(heap.map(|column| format!("alias: {{ label: heap_user_id, name: {} }}", quoted(column))));
        rules.extend(has(DEVICE).map(|column| format!("device_id: {}", quoted(column))));
        if rules.is_empty() || NO_PEOPLE.iter().any(|name| has(name).is_some()) {
            return false;
        }
        let mut remarks = Vec::new();
        remarks.extend(table.rows.map(|rows| format!("about {} rows", super::output::count(rows))));
        remarks.push(format!("its columns: {}", table.columns.join(", ")));
        let plain = table.name.last().map_or("", String::as_str);
        self.push(&title(plain), source_of(connection, table), rules, remarks);
        true
    }

    /// A segment of which a Heap has told.
    pub(super) fn segment(&mut self, heap: &ConnectionName, id: u64, name: &str) {
        let source = format!("{{ kind: heap_segment, connection: {heap}, segment_id: {id} }}");
        let fallback = format!("Heap segment {id}");
        let name = if name.trim().is_empty() { fallback.as_str() } else { name.trim() };
        self.push(name, source, vec!["external_id: id".to_owned()], Vec::new());
    }

    /// The entries as YAML.
    pub(super) fn yaml(&self) -> String {
        let mut text = String::from("cohorts:\n");
        for Candidate { id, name, to, source, rules, remarks } in &self.list {
            for remark in remarks {
                let _ = writeln!(text, "  # {}", escaped(remark));
            }
            let _ = writeln!(text, "  - id: {id}\n    name: {}\n    to: {to}", quoted(name));
            let _ = writeln!(text, "    source: {source}\n    match:");
            rules.iter().for_each(|rule| text.push_str(&format!("      - {rule}\n")));
        }
        text
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Vec<Value> {
        let each = self.list.iter().map(|c| {
            json!({ "id": c.id, "name": c.name, "to": c.to, "source": c.source, "match": c.rules, "remarks": c.remarks })
        });
        each.collect()
    }
}

/// A table by its name, or by a query where the config's names cannot hold it.
fn source_of(connection: &ConnectionName, table: &Table) -> String {
    let is_plain = |part: &String| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-' || c == '$')
    };
    if table.name.iter().all(is_plain) {
        let name = quoted(&table.name.join("."));
        return format!("{{ kind: sql, connection: {connection}, table: {name} }}");
    }
    let parts: Vec<String> =
        table.name.iter().map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    let query = quoted(&format!("select * from {}", parts.join(".")));
    format!("{{ kind: sql, connection: {connection}, query: {query} }}")
}

/// A text as YAML takes it for a text, whatever is in it: JSON is YAML.
fn quoted(text: &str) -> String {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_plain = starts && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    let means_else = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_plain && !means_else.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return text.to_owned();
    }
    foreign::json(&Value::from(text).to_string()).into_owned()
}

/// `abandoned_checkout` → `Abandoned checkout`.
fn title(name: &str) -> String {
    let words = name.replace(['_', '-', '.'], " ");
    let words = words.trim();
    let first = words.chars().next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let rest: String = words.chars().skip(1).collect();
    first + &rest.to_lowercase()
}

/// A name as an id.
fn slug(name: &str) -> String {
    let mapped = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect::<String>();
    let parts: Vec<&str> = mapped.split('_').filter(|part| !part.is_empty()).collect();
    let text: String = parts.join("_").chars().take(90).collect();
    if text.is_empty() { "cohort".to_owned() } else { text }
}

/// The text, with a number behind it if it is taken.
fn free(text: &str, taken: &BTreeSet<String>, between: &str) -> String {
    let mut name = text.to_owned();
    let mut number = 2;
    while taken.contains(&name) {
        name = format!("{text}{between}{number}");
        number += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ids_and_stay_texts() {
        assert_eq!(slug("Trial — in trouble!"), "trial_in_trouble");
        assert_eq!(slug("日本"), "cohort");
        assert_eq!(title("ABANDONED_CHECKOUT"), "Abandoned checkout");
        assert_eq!(quoted("on"), "\"on\"");
        assert_eq!(quoted("a: b # c"), "\"a: b # c\"");
        assert_eq!(quoted("analytics.carts"), "analytics.carts");
        assert_eq!(free("a", &["a", "a_2"].map(str::to_owned).into(), "_"), "a_3");
    }
}
