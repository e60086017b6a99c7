//! Text of the reference pages, made from the program: its schema, its help, its JSON, and the lists in its source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use serde_json::{Map, Value};

use super::markdown::copy_example;
use super::{Workspace, files_below, root, run};

/// A generated section by its name.
pub(crate) fn section(name: &str) -> String {
    match name {
        "config" => config(),
        "cli" => cli(),
        "exit-codes" => exit_codes(),
        "json" => json_output(),
        "metrics" => metrics_table(),
        "state-layout" => state_layout(),
        "row-reasons" => row_reasons(),
        "event-reasons" => codes_table("reason", &coded_enum("time_in_future")),
        "config-codes" => codes_table("code", &config_codes()),
        "action" => action(),
        "check-codes" => codes_table("code", &coded_enum("segment_missing")),
        other => panic!("no section {other}"),
    }
}

/// The inputs and outputs of the GitHub Action.
fn action() -> String {
    let text = fs::read_to_string(root().join("action.yml")).unwrap();
    let action: Value = serde_yaml::from_str(&text).unwrap();
    let rows = |part: &str| {
        let all = action[part].as_object().unwrap().iter();
        let row = |(name, of): (&String, &Value)| {
            let default = of["default"].as_str().filter(|default| !default.is_empty());
            let default = default.map_or(String::new(), |default| format!(" Default: `{default}`."));
            let meaning = of["description"].as_str().unwrap().trim_end_matches('.');
            format!("| `{name}` | {}.{default} |\n", cell(meaning))
        };
        all.map(row).collect::<String>()
    };
    let table = |head: &str, rows: &str| format!("| {head} | meaning |\n|---|---|\n{rows}");
    format!("{}\n{}", table("input", &rows("inputs")), table("output", &rows("outputs")))
}

/// All source of the program.
pub(crate) fn source() -> String {
    source_files().into_iter().map(|(_, text)| text).collect()
}

fn source_files() -> Vec<(String, String)> {
    let files = files_below(&root().join("src")).into_iter();
    let code = files.filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    code.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

fn source_with(marker: &str) -> String {
    let files = source_files();
    let with: Vec<&(String, String)> = files.iter().filter(|(_, text)| text.contains(marker)).collect();
    assert_eq!(with.len(), 1, "files with `{marker}`");
    with[0].1.clone()
}

/// Whether a page's first column is a field of a reject rather than a code.
pub(crate) fn is_field(code: &str) -> bool {
    ["reason", "detail", "file", "line", "column", "value", "event", "sent", "count"].contains(&code)
}

fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn codes_table(head: &str, codes: &[(String, String)]) -> String {
    let mut out = format!("| {head} | meaning |\n|---|---|\n");
    for (code, meaning) in codes {
        let meaning = meaning.trim().trim_end_matches('.');
        writeln!(out, "| `{code}` | {} |", cell(meaning)).unwrap();
    }
    out
}

/// The variants of the enum with this code, each with its code and its doc comment.
fn coded_enum(code: &str) -> Vec<(String, String)> {
    let source = source_with(&format!("=> \"{code}\""));
    let docs = documented(&source);
    let at = source.find(&format!("=> \"{code}\"")).unwrap();
    let start = source[..at].rfind("match ").unwrap();
    let end = at + source[at..].find("\n    }\n").unwrap();
    let mut found = Vec::new();
    for arm in source[start..end].lines().filter_map(|line| line.trim().strip_prefix("Self::")) {
        let Some((pattern, rest)) = arm.split_once("=> \"") else { continue };
        let variant: String = pattern.chars().take_while(|c| c.is_alphanumeric()).collect();
        let code = rest.split('"').next().unwrap();
        found.push((code.to_owned(), docs.get(&variant).cloned().unwrap_or_default()));
    }
    assert!(!found.is_empty());
    found
}

/// Names with the doc comment before them.
fn documented(source: &str) -> BTreeMap<String, String> {
    let (mut found, mut doc) = (BTreeMap::new(), String::new());
    for line in source.lines() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if !line.starts_with("#[") {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric()).collect();
            if !doc.is_empty() && !name.is_empty() {
                found.entry(name).or_insert_with(|| doc.trim().to_owned());
            }
            doc.clear();
        }
    }
    found
}

fn config_codes() -> Vec<(String, String)> {
    let source = source_with("= \"unreadable-file\",");
    let docs = documented(&source);
    let lines = source.lines().filter_map(|line| line.trim().split_once(" = \""));
    let codes = lines.filter_map(|(name, rest)| Some((rest.strip_suffix("\",")?, docs.get(name)?)));
    codes.map(|(code, doc)| (code.to_owned(), doc.clone())).collect()
}

fn row_reasons() -> String {
    let mut codes = coded_enum("no_identifier");
    codes.extend(coded_enum("imprecise_number"));
    let more = [
        ("wrong_field_count", "A CSV or TSV row has too few or too many fields"),
        ("repeated_header", "A header row in the middle of a file"),
        ("bad_json", "A line of NDJSON is not JSON"),
        ("not_text", "A value of a dump is not text"),
        ("no_time", "A row of a dump has no `time` in milliseconds, with `within:`"),
        ("no_key", "A row of a dump has no key, or more than 64 KiB"),
    ];
    codes.extend(more.map(|(code, meaning)| (code.to_owned(), meaning.to_owned())));
    codes_table("reason", &codes)
}

/// The layout as the state's own module documents it.
fn state_layout() -> String {
    let source = fs::read_to_string(root().join("src/state/mod.rs")).unwrap();
    let (_, rest) = source.split_once("//! ```text\n").unwrap();
    let (block, _) = rest.split_once("//! ```\n").unwrap();
    let lines = block.lines().map(|line| line.strip_prefix("//!").unwrap().strip_prefix(' ').unwrap_or(""));
    format!("```text\n{}\n```\n", lines.collect::<Vec<_>>().join("\n"))
}

fn help(args: &[&str]) -> String {
    let w = Workspace::new();
    let mut command = w.command(args);
    command.arg("--help").env("COLUMNS", "100").env("NO_COLOR", "1");
    run(command).expect(0).stdout
}

fn cli() -> String {
    let mut out = String::new();
    command_help(&mut out, &[]);
    out
}

fn command_help(out: &mut String, path: &[&str]) {
    let text = help(path);
    let title = [&["syncline"], path].concat().join(" ");
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    writeln!(out, "## {title}\n\n```text\n{}\n```\n", lines.join("\n")).unwrap();
    let Some((_, commands)) = text.split_once("\nCommands:\n") else { return };
    let commands = commands.split("\n\n").next().unwrap();
    for name in commands.lines().filter_map(|line| line.strip_prefix("  ")) {
        let name = name.split(' ').next().unwrap();
        if !name.is_empty() && name != "help" {
            command_help(out, &[path, &[name]].concat());
        }
    }
}

fn exit_codes() -> String {
    let text = help(&[]).split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, codes) = text.split_once("Exit codes: ").unwrap();
    let mut rows: Vec<(String, String)> = Vec::new();
    for part in codes.trim_end_matches('.').split(", ") {
        match part.split_once(' ') {
            Some((code, meaning)) if code.parse::<u8>().is_ok() => {
                rows.push((code.to_owned(), meaning.to_owned()));
            }
            _ => {
                let last = rows.last_mut().unwrap();
                last.1 = format!("{}, {part}", last.1);
            }
        }
    }
    assert!(rows.len() > 12);
    let mut out = "| exit code | meaning |\n|---|---|\n".to_owned();
    rows.iter().for_each(|(code, meaning)| writeln!(out, "| {code} | {} |", cell(meaning)).unwrap());
    out
}

/// A member, and a placeholder, which is in rejected rows only.
const WHO: &str = "who shopper-01238@example.com null --source";

/// Commands with JSON output, in an order in which each has something to show.
const JSON_COMMANDS: &[&str] = &[
    "validate",
    "plan",
    "reconcile",
    "status",
    "history",
    WHO,
    "export",
    "export --dry-run",
    "replay",
    "check",
    "doctor",
    "resync spring_promotion --dry-run",
    "state ls",
    "state show spring_promotion",
    "state verify",
    "state gc --dry-run",
    "identity stats",
    "forget user-without-data",
];

fn json_output() -> String {
    let w = Workspace::new();
    copy_example(&w);
    let mut shapes: BTreeMap<&str, BTreeMap<String, BTreeSet<&'static str>>> = BTreeMap::new();
    let mut look = |command: &'static str| {
        let args: Vec<&str> = command.split(' ').chain(["--format", "json"]).collect();
        note_shape(&w.run(&args).json(), "", shapes.entry(command).or_default());
    };
    JSON_COMMANDS.iter().for_each(|command| look(command));
    // A plan with changes and a block.
    let carts = w.read("examples/data/abandoned_checkout.csv");
    let part: Vec<&str> = carts.lines().take(1000).collect();
    w.write("examples/data/abandoned_checkout.csv", part.join("\n") + "\n");
    ["plan", "reconcile", WHO].into_iter().for_each(look);
    let mut out = String::new();
    for command in JSON_COMMANDS {
        writeln!(out, "### syncline {command}\n\n| field | type |\n|---|---|").unwrap();
        for (field, types) in &shapes[command] {
            if !["format_version", "command", "result"].contains(&field.as_str()) {
                let types: Vec<&str> = types.iter().copied().collect();
                writeln!(out, "| `{field}` | {} |", types.join(" or ")).unwrap();
            }
        }
        out.push('\n');
    }
    format!("## Fields\n\n{out}")
}

/// Objects with a field per code.
const COUNTS: &[&str] = &[
    "rejects",
    "rejected",
    "requests_by_outcome",
    "by_reason",
    "unknown_types",
    "ignored",
    "counts",
    "erased",
];

fn note_shape(value: &Value, path: &str, shape: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let is_counts = COUNTS.contains(&path.rsplit('.').next().unwrap());
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) if is_counts => "counts",
        Value::Object(_) => "object",
    };
    if !path.is_empty() {
        shape.entry(path.to_owned()).or_default().insert(name);
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| note_shape(item, &format!("{path}[]"), shape)),
        Value::Object(fields) if !is_counts => {
            let dot = if path.is_empty() { "" } else { "." };
            fields.iter().for_each(|(key, value)| note_shape(value, &format!("{path}{dot}{key}"), shape));
        }
        _ => {}
    }
}

/// A metric of `/metrics`.
pub(crate) struct Metric {
    kind: &'static str,
    labels: Vec<String>,
    help: String,
}

/// The metrics that `watch` registers, by their full name.
pub(crate) fn metrics() -> BTreeMap<String, Metric> {
    let mut found = BTreeMap::new();
    for (_, text) in source_files() {
        if text.contains("Registry::with_prefix(\"syncline\")") {
            found.append(&mut metrics_of(&text));
        }
    }
    assert!(found.len() > 20);
    found
}

/// The metrics that one source file registers.
fn metrics_of(text: &str) -> BTreeMap<String, Metric> {
    let labels = label_sets(text);
    let source = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let types = variable_types(&source);
    let (mut found, mut help_before) = (BTreeMap::new(), String::new());
    for (at, call) in source.match_indices("registry.register") {
        if let Some((_, help)) = source[..at].rsplit_once("let help = \"") {
            help_before = help.split('"').next().unwrap().to_owned();
        }
        let (_, arguments) = source[at + call.len()..].split_once('(').unwrap();
        let arguments = arguments.split("); ").next().unwrap();
        let texts: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
        let variable = arguments.trim_end_matches([',', ' ']).rsplit([' ', ',']).next().unwrap();
        let variable = variable.trim_end_matches(".clone()").trim_start_matches("self.");
        let before = types.iter().rfind(|(place, name, _)| *place < at && name == variable);
        let of = before.map_or("", |(_, _, of)| of.as_str());
        let (kind, suffix) = match of {
            _ if arguments.contains("Info::new") => ("info", "_info"),
            of if of.contains("Counter") => ("counter", "_total"),
            of if of.contains("Histogram") => ("histogram", ""),
            _ => ("gauge", ""),
        };
        let unit = arguments.split_once("Unit::").map(|(_, rest)| rest.split([',', ' ']).next().unwrap());
        let unit = unit.map(|unit| format!("_{}", unit.to_lowercase())).unwrap_or_default();
        let set = of.split([',', ' ']).next().unwrap();
        let metric = Metric {
            kind,
            labels: labels.get(set).cloned().unwrap_or_default(),
            help: texts.get(1).map_or(help_before.clone(), |help| (*help).to_owned()),
        };
        found.insert(format!("syncline_{}{unit}{suffix}", texts[0]), metric);
    }
    found
}

/// Variables and fields that are metrics, each with where it is declared and what is between `<` and `>`.
fn variable_types(source: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let inner = |text: &str| text.split('>').next().unwrap_or_default().to_owned();
    for (at, _) in source.match_indices(": Family<") {
        let name = source[..at].rsplit(' ').next().unwrap();
        found.push((at, name.to_owned(), inner(&source[at + ": Family<".len()..])));
    }
    for (at, _) in source.match_indices(": Histogram,") {
        found.push((at, source[..at].rsplit(' ').next().unwrap().to_owned(), "Histogram".to_owned()));
    }
    for (at, _) in source.match_indices("let ") {
        let Some((names, made)) = source[at + 4..].split_once(" = ") else { continue };
        let made = made.split(';').next().unwrap();
        let names = names.trim_matches(['(', ')', ' ']).split(',').map(|name| name.trim().to_owned());
        for (name, of) in names.zip(made.split("Family::<").skip(1)) {
            found.push((at, name, inner(of)));
        }
    }
    found.sort();
    found
}

/// The label names of each label set.
fn label_sets(source: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for rest in source.split("EncodeLabelSet)]").skip(1) {
        let Some((head, fields)) = rest.split_once('{') else { continue };
        let fields = fields.split('}').next().unwrap().lines().map(str::trim);
        let labels = fields.filter(|line| !line.starts_with("//")).filter_map(|line| line.split_once(": "));
        let labels = labels.map(|(name, _)| name.trim_start_matches("pub(super) ").to_owned()).collect();
        found.insert(head.split_whitespace().last().unwrap().to_owned(), labels);
    }
    found
}

fn metrics_table() -> String {
    let mut out = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for (name, metric) in metrics() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(out, "| `{name}` | {} | {} | {} |", metric.kind, labels.join(", "), cell(&metric.help))
            .unwrap();
    }
    out
}

/// The schema with what has been written of it.
struct Schema {
    definitions: Map<String, Value>,
    queue: Vec<String>,
    seen: BTreeSet<String>,
}

fn config() -> String {
    let schema: Value = Workspace::new().run(&["schema"]).expect(0).json();
    let definitions = schema["$defs"].as_object().unwrap().clone();
    let mut all = Schema { definitions, queue: Vec::new(), seen: BTreeSet::new() };
    let mut out = format!("## Top level\n\n{}", all.keys(&schema));
    let mut at = 0;
    while let Some(name) = all.queue.get(at).cloned() {
        let definition = all.definitions[&name].clone();
        out.push_str(&all.definition(&name, &definition));
        at += 1;
    }
    out.push_str("\n## Formats\n\n| type | form |\n|---|---|\n");
    for (name, definition) in &all.definitions {
        let form = definition["patternErrorMessage"].as_str();
        if let Some(form) = form.filter(|_| !name.ends_with("Overlay") && !all.queue.contains(name)) {
            writeln!(out, "| {} | {} |", shown(name), cell(form)).unwrap();
        }
    }
    out
}

/// The name of a definition for readers.
fn shown(name: &str) -> &str {
    name.trim_end_matches("Spec")
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

impl Schema {
    /// A definition's section: its keys, its alternatives or its values.
    fn definition(&mut self, name: &str, definition: &Value) -> String {
        let name = shown(name);
        let mut out = format!("\n## {name}\n\n{}\n\n", description(definition).trim());
        let alternatives = definition["oneOf"].as_array().cloned().unwrap_or_default();
        let (with_keys, values): (Vec<Value>, Vec<Value>) =
            alternatives.into_iter().partition(|alternative| alternative["properties"].is_object());
        if !values.is_empty() {
            out.push_str("| value | meaning |\n|---|---|\n");
        }
        for value in &values {
            let shown = value["const"].as_str().unwrap_or("…");
            writeln!(out, "| `{shown}` | {} |", cell(&description(value))).unwrap();
        }
        for alternative in &with_keys {
            let kind = &alternative["properties"]["kind"]["const"];
            let title = kind.as_str().map_or_else(
                || format!("with `{}`", alternative["title"].as_str().unwrap_or_default()),
                |kind| format!("`kind: {kind}`"),
            );
            writeln!(out, "\n### {name} {title}\n\n{}\n", description(alternative)).unwrap();
            out.push_str(&self.keys(alternative));
        }
        if definition["properties"].is_object() {
            out.push_str(&self.keys(definition));
        }
        out
    }

    /// A table of the keys of an object.
    fn keys(&mut self, object: &Value) -> String {
        let mut out = "| key | type | default | meaning |\n|---|---|---|---|\n".to_owned();
        let required: Vec<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, schema) in object["properties"].as_object().unwrap() {
            let default = match &schema["default"] {
                _ if required.contains(&key.as_str()) => "required".to_owned(),
                Value::Null | Value::Object(_) => String::new(),
                Value::String(text) => format!("`{text}`"),
                other => format!("`{other}`"),
            };
            let (kind, meaning) = (self.type_of(schema), cell(&description(schema)));
            writeln!(out, "| `{key}` | {kind} | {default} | {meaning} |").unwrap();
            for (inner, schema) in schema["properties"].as_object().into_iter().flatten() {
                let (kind, meaning) = (self.type_of(schema), cell(&description(schema)));
                writeln!(out, "| `{key}.{inner}` | {kind} | | {meaning} |").unwrap();
            }
        }
        out
    }

    fn type_of(&mut self, schema: &Value) -> String {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            return self.link(name);
        }
        if let Some(value) = schema["const"].as_str() {
            return format!("`{value}`");
        }
        match &schema["type"] {
            Value::Array(types) => {
                let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
                types.join(" or ")
            }
            Value::String(text) if text == "array" => format!("list of {}", self.type_of(&schema["items"])),
            Value::String(text) if text == "object" && schema["additionalProperties"].is_object() => {
                format!("map of {}", self.type_of(&schema["additionalProperties"]))
            }
            Value::String(text) if text == "object" && schema["patternProperties"].is_object() => {
                let values =
                    schema["patternProperties"].as_object().unwrap().values().next().unwrap().clone();
                format!("map of {}", self.type_of(&values))
            }
            Value::String(text) => text.clone(),
            _ => {
                let alternatives = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
                let types: Vec<String> =
                    alternatives.into_iter().flatten().map(|each| self.type_of(each)).collect();
                if types.is_empty() { "any".to_owned() } else { types.join(" or ") }
            }
        }
    }

    /// A link to the section of a definition, or to the formats.
    fn link(&mut self, name: &str) -> String {
        if name == "Overlay" {
            return "keys of the [top level](#top-level)".to_owned();
        }
        let definition = &self.definitions[name];
        if !definition["properties"].is_object() && !definition["oneOf"].is_array() {
            return format!("[{}](#formats)", shown(name));
        }
        if self.seen.insert(name.to_owned()) {
            self.queue.push(name.to_owned());
        }
        format!("[{}](#{})", shown(name), shown(name).to_lowercase())
    }
}
