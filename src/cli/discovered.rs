//! Candidate cohorts for discovered tables and segments, as config entries. You decide which to keep and under which
//! permanent id.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};
use serde_yaml::FlowMap;

use super::error::CommandError;
use super::exit::Exit;
use crate::config::Config;
use crate::connector::sql::SqlTable;
use crate::foreign::escaped;
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
/// Columns of event tables and of Heap's internal tables. Their rows are not users.
const NO_PEOPLE: [&str; 3] = ["event_id", "from_user_id", "dump_id"];

/// A config entry.
pub(super) struct Candidate {
    id: String,
    name: String,
    to: String,
    source: CandidateSource,
    rules: Vec<CandidateRule>,
    /// Remarks for the reader, as comments.
    remarks: Vec<String>,
}

/// A candidate as the config has it.
#[derive(Serialize)]
struct CandidateEntry<'a> {
    id: &'a str,
    name: &'a str,
    to: &'a str,
    source: FlowMap<&'a CandidateSource>,
    #[serde(rename = "match")]
    rules: &'a [CandidateRule],
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum CandidateSource {
    Sql {
        connection: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        table: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        query: Option<String>,
    },
    HeapSegment {
        connection: String,
        segment_id: u64,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum CandidateRule {
    ExternalId(String),
    Alias(FlowMap<CandidateAlias>),
    DeviceId(String),
}

#[derive(Serialize)]
struct CandidateAlias {
    label: &'static str,
    name: String,
}

/// Candidates with unique ids and names.
pub(super) struct Candidates {
    ids: BTreeSet<String>,
    names: BTreeSet<String>,
    to: String,
    pub(super) list: Vec<Candidate>,
}

impl Candidates {
    /// Creates an empty list. `known` contains ids in use besides those of the config.
    pub(super) fn new(config: &Config, known: impl Iterator<Item = CohortId>) -> Self {
        let known = known.map(|id| id.to_string());
        let ids = config.cohorts.iter().map(|cohort| cohort.id.to_string()).chain(known).collect();
        let names = config.cohorts.iter().map(|cohort| cohort.name.clone()).collect();
        let to = config.braze.keys().next().map(ToString::to_string).unwrap_or_default();
        Self { ids, names, to, list: Vec::new() }
    }

    fn push(&mut self, name: &str, source: CandidateSource, rules: Vec<CandidateRule>, remarks: Vec<String>) {
        let id = free(&slug(name), &self.ids, "_");
        let name = if name.trim().is_empty() { id.as_str() } else { name };
        let name = free(name, &self.names, " ");
        self.ids.insert(id.clone());
        self.names.insert(name.clone());
        self.list.push(Candidate { id, name, to: self.to.clone(), source, rules, remarks });
    }

    /// Adds a table if its columns identify users. Returns `false` otherwise.
    pub(super) fn table(&mut self, connection: &ConnectionName, table: &SqlTable) -> bool {
        let has = |name: &str| table.columns.iter().find(|column| column.eq_ignore_ascii_case(name));
        let mut rules = Vec::new();
        let external = EXTERNAL_IDS.iter().find_map(|name| has(name));
        rules.extend(external.cloned().map(CandidateRule::ExternalId));
        let heap = has(HEAP_USER);
        let alias = |name| CandidateRule::Alias(FlowMap(CandidateAlias { label: "heap_user_id", name }));
        rules.extend(heap.cloned().map(alias));
        rules.extend(has(DEVICE).cloned().map(CandidateRule::DeviceId));
        if rules.is_empty() || NO_PEOPLE.iter().any(|name| has(name).is_some()) {
            return false;
        }
        let mut remarks = Vec::new();
        remarks.extend(table.rows.map(|rows| format!("about {}", super::output::counted(rows, "row"))));
        remarks.push(format!("its columns: {}", table.columns.join(", ")));
        let plain = table.name.last().map_or("", String::as_str);
        self.push(&title(plain), source_of(connection, table), rules, remarks);
        true
    }

    /// Adds a segment that a Heap connection has delivered.
    pub(super) fn segment(&mut self, heap: &ConnectionName, id: u64, name: &str) {
        let source = CandidateSource::HeapSegment { connection: heap.to_string(), segment_id: id };
        let fallback = format!("Heap segment {id}");
        let name = if name.trim().is_empty() { fallback.as_str() } else { name.trim() };
        self.push(name, source, vec![CandidateRule::ExternalId("id".to_owned())], Vec::new());
    }

    /// The entries as YAML.
    pub(super) fn yaml(&self) -> Result<String, CommandError> {
        let mut text = String::from("cohorts:\n");
        for Candidate { id, name, to, source, rules, remarks } in &self.list {
            for remark in remarks {
                let _ = writeln!(text, "  # {}", escaped(remark));
            }
            let entry = written(&[CandidateEntry { id, name, to, source: FlowMap(source), rules }])?;
            entry.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        Ok(text)
    }

    /// The candidates as JSON.
    pub(super) fn json(&self) -> Result<Vec<Value>, CommandError> {
        let each = self.list.iter().map(|c| {
            let rules: Result<Vec<String>, CommandError> = c.rules.iter().map(written).collect();
            let source = written(&FlowMap(&c.source))?;
            Ok(json!({ "id": c.id, "name": c.name, "to": c.to, "source": source, "match": rules?, "remarks": c.remarks }))
        });
        each.collect()
    }
}

/// A value as YAML. Strings that some YAML version would parse as another type are quoted.
fn written(value: &impl Serialize) -> Result<String, CommandError> {
    let options = serde_yaml::ser_options! {
        compact_list_indent: false,
        prefer_block_scalars: false,
    };
    let text = serde_yaml::to_string_with_options(value, options);
    let text = text.map_err(|e| CommandError::new(Exit::Failed, format!("cannot write YAML: {e}")))?;
    Ok(text.trim_end().to_owned())
}

/// A table by its name, or by a query where the config's names cannot hold it.
fn source_of(connection: &ConnectionName, table: &SqlTable) -> CandidateSource {
    let is_plain = |part: &String| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-' || c == '$')
    };
    let connection = connection.to_string();
    if table.name.iter().all(is_plain) {
        return CandidateSource::Sql { connection, table: Some(table.name.join(".")), query: None };
    }
    let parts: Vec<String> =
        table.name.iter().map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    CandidateSource::Sql {
        connection,
        table: None,
        query: Some(format!("select * from {}", parts.join("."))),
    }
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

/// The text, with a number appended if it is already used.
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
        for ambiguous in [
            "1e3",
            "null",
            "0123",
            "no",
            "on",
            "~",
            "1_000",
            "0x1f",
            "12:30",
            "2026-01-01",
            "",
            "-",
            "a: b # c",
        ] {
            let text = written(&ambiguous).unwrap();
            assert!(text.starts_with(['\'', '"']), "{ambiguous}: {text}");
            assert_eq!(serde_yaml::from_str::<String>(&text).unwrap(), ambiguous);
        }
        assert_eq!(written(&"analytics.carts").unwrap(), "analytics.carts");
        assert_eq!(free("a", &["a", "a_2"].map(str::to_owned).into(), "_"), "a_3");
    }
}
