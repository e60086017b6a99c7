//! The envelope of all JSON output: `format_version`, `command` and `result`, with the details beside.
//!
//! `result` is one word that scripts can branch on. Fields may be added under the same version; none
//! is removed or changes its meaning.

use serde_json::{Map, Value, json};

use crate::config::{ConfigSources, Problem, Problems, SourceSpan};
use crate::foreign;

/// The version of all JSON output.
const FORMAT_VERSION: u64 = 1;

/// A complete result with its envelope.
pub(super) fn envelope(command: &str, result: &str, details: &Value) -> String {
    let mut map = Map::new();
    map.insert("format_version".to_owned(), FORMAT_VERSION.into());
    map.insert("command".to_owned(), command.into());
    map.insert("result".to_owned(), result.into());
    if let Value::Object(details) = details {
        map.extend(details.clone());
    }
    foreign::json(&format!("{:#}", Value::Object(map))).into_owned()
}

/// The begin of a result with a long list, which is printed in pieces. Each item goes into an [`envelope_item`].
pub(super) fn envelope_begin(command: &str, list: &str) -> String {
    format!("{{\n  \"command\": \"{command}\",\n  \"format_version\": {FORMAT_VERSION},\n  \"{list}\": [")
}

/// An item of the list, without the comma after it.
pub(super) fn envelope_item(item: &Value) -> String {
    let text = format!("{item:#}");
    let lines: Vec<String> = foreign::json(&text).lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

/// The end of the list and of the result.
pub(super) fn envelope_end(result: &str, details: &Value) -> String {
    let mut map = Map::new();
    map.insert("result".to_owned(), result.into());
    if let Value::Object(details) = details {
        map.extend(details.clone());
    }
    let text = format!("{:#}", Value::Object(map));
    format!("  ],{}", foreign::json(text.trim_start_matches('{')))
}

/// The problems of a config, in the same form for every command.
pub(super) fn problem_list(problems: &Problems) -> Vec<Value> {
    problems.list.iter().map(|problem| self::problem(problem, &problems.sources)).collect()
}

fn problem(problem: &Problem, sources: &ConfigSources) -> Value {
    let location = |span: SourceSpan| {
        let (line, column) = sources.line_column(span)?;
        Some(json!({ "file": sources.file(span)?.name, "line": line, "column": column }))
    };
    json!({
        "code": problem.code.as_str(),
        "message": problem.message,
        "location": problem.span.and_then(location),
        "label": problem.label,
        "hint": problem.hint,
    })
}
