//! The right form of a value that does not have it: `4 hours` → `4h`, `30 %` → `30%`, `yes` → `true`, a cron expression
//! → `{ cron: { … } }`.
//!
//! A form is suggested only if the schema accepts it, so no key of the config is named here. Only the names that other
//! tools have for a kind of source are a list.

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::yaml_text::yaml_text;

/// Longest text that is tried in other forms, in bytes.
const TRIED_LEN_MAX: usize = 64;

/// Units as people write them, in lower case, with the spellings that a schema may accept.
const UNITS: [(&[&str], &[&str]); 9] = [
    (&["ms", "millisecond", "milliseconds"], &["ms"]),
    (&["s", "sec", "secs", "second", "seconds"], &["s"]),
    (&["m", "min", "mins", "minute", "minutes"], &["m", "MiB"]),
    (&["h", "hr", "hrs", "hour", "hours"], &["h"]),
    (&["d", "day", "days"], &["d"]),
    (&["k", "kb", "kib"], &["KiB"]),
    (&["mb", "mib"], &["MiB"]),
    (&["g", "gb", "gib"], &["GiB"]),
    (&["%", "percent", "pct"], &["%"]),
];

/// What other tools call a value that has another name here.
pub(super) const SYNONYMS: [(&[&str], &str); 4] = [
    (
        &[
            "csv", "tsv", "json", "ndjson", "jsonl", "parquet", "avro", "files", "folder", "bucket", "s3",
            "gcs", "gs", "azure", "http", "https", "url",
        ],
        "file",
    ),
    (
        &[
            "postgres",
            "postgresql",
            "database",
            "db",
            "query",
            "table",
            "warehouse",
            "snowflake",
            "bigquery",
            "redshift",
            "databricks",
            "spark",
            "duckdb",
            "mysql",
            "adbc",
        ],
        "sql",
    ),
    (&["heap", "segment", "webhook", "heap_webhook"], "heap_segment"),
    (&["connect", "dump", "dumps"], "heap_connect"),
];

/// The name that is used here for a value of another tool.
pub(super) fn synonym<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_ascii_lowercase();
    let (_, ours) = SYNONYMS.iter().find(|(theirs, _)| theirs.contains(&given.as_str()))?;
    known.iter().copied().find(|name| name == ours)
}

/// A value that the schema accepts and that means what was written, as YAML.
pub(super) fn form(given: &Value, schema: &Value, root: &Value) -> Option<String> {
    let forms = match given {
        Value::String(text) if text.len() <= TRIED_LEN_MAX => forms_of_text(text),
        Value::Number(number) => forms_of_number(number),
        _ => return None,
    };
    let schema = validator(schema, root)?;
    if given.is_number() && schema.is_valid(&Value::from(given.to_string())) {
        return None; // it only lacks its quotes
    }
    forms.iter().find(|form| *form != given && schema.is_valid(form)).map(yaml)
}

/// The mapping that is meant by a text that stands instead of it: one of these keys, with the text as its value.
pub(super) fn in_mapping(text: &str, keys: &[&str], schema: &Value, root: &Value) -> Option<String> {
    if text.len() > TRIED_LEN_MAX {
        return None;
    }
    let (validator, definitions) = (validator(schema, root)?, root.get("$defs")?);
    let forms = forms_of_text(text);
    let plain = |key: &str, value: &Value| json!({ key: value });
    // `cron` has one required key itself.
    let nested = |key: &str, value: &Value| {
        let inner = required_key(schema, key, definitions)?;
        Some(json!({ key: { inner: value } }))
    };
    let all = keys.iter().flat_map(|key| forms.iter().map(move |form| (*key, form)));
    all.flat_map(|(key, form)| [Some(plain(key, form)), nested(key, form)])
        .flatten()
        .find(|form| validator.is_valid(form))
        .map(|form| yaml(&form))
}

/// Compiles a part of the schema.
fn validator(part: &Value, root: &Value) -> Option<Validator> {
    if !part.to_string().contains("\"$ref\"") {
        return jsonschema::validator_for(part).ok();
    }
    let mut part = part.clone();
    part.as_object_mut()?.insert("$defs".to_owned(), root.get("$defs")?.clone());
    jsonschema::validator_for(&part).ok()
}

/// The only required key of a mapping under a key of one of the shapes.
fn required_key(schema: &Value, key: &str, definitions: &Value) -> Option<String> {
    let shapes = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    let value = shapes.iter().find_map(|shape| shape.get("properties")?.get(key))?;
    let name = value.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
    let value = name.map_or(Some(value), |name| definitions.get(name))?;
    match value.get("required")?.as_array()?.as_slice() {
        [only] => only.as_str().map(str::to_owned),
        _ => None,
    }
}

fn forms_of_text(text: &str) -> Vec<Value> {
    let text = text.trim();
    let mut forms = vec![Value::from(text)];
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "true" => forms.push(Value::Bool(true)),
        "no" | "off" | "n" | "false" => forms.push(Value::Bool(false)),
        _ => {}
    }
    forms.extend(text.parse::<u64>().ok().map(Value::from));
    forms.extend(text.replace([',', '_'], "").parse::<u64>().ok().map(Value::from));
    let compact: String = text.split_whitespace().collect();
    let digits = compact.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(compact.len());
    let (number, unit) = compact.split_at(digits);
    let unit = unit.to_lowercase();
    let units = UNITS.iter().filter(|(theirs, _)| theirs.contains(&unit.as_str()));
    if !number.is_empty() {
        forms.extend(units.flat_map(|(_, ours)| *ours).map(|unit| Value::from(format!("{number}{unit}"))));
    }
    forms.push(Value::from(compact));
    forms.push(Value::from(text.to_ascii_uppercase()));
    let is_name = text.chars().all(|c| c.is_alphanumeric() || " _-".contains(c));
    let words =
        text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').filter(|word| !word.is_empty());
    let name = || Value::from(words.collect::<Vec<_>>().join("_").to_lowercase());
    forms.extend(is_name.then(name));
    forms
}

fn forms_of_number(number: &serde_json::Number) -> Vec<Value> {
    let mut forms = Vec::new();
    let percent = number.as_f64().filter(|part| !number.is_u64() && (0.0..1.0).contains(part));
    forms.extend(percent.map(|part| Value::from(format!("{}%", (part * 10_000.0).round() / 100.0))));
    forms.extend(["%", "s", "MiB"].map(|unit| Value::from(format!("{number}{unit}"))));
    forms
}

/// A value in YAML's flow style.
pub(super) fn yaml(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(yaml).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => mapping(map),
        other => other.to_string(),
    }
}

fn mapping(map: &Map<String, Value>) -> String {
    let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {}", yaml(value))).collect();
    format!("{{ {} }}", entries.join(", "))
}

/// A text, plain if it is a number with its unit.
fn scalar(text: &str) -> String {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_amount = unit.len() < text.len()
        && !unit.is_empty()
        && unit.chars().all(|c| c.is_ascii_alphabetic() || c == '%');
    if is_amount { text.to_owned() } else { yaml_text(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_suggested_only_if_the_schema_accepts_them() {
        let root = json!({ "$defs": {} });
        let percent = json!({ "type": "string", "pattern": "^[0-9]{1,3}%$" });
        let duration = json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" });
        let memory = json!({ "type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)$" });
        let boolean = json!({ "type": "boolean" });
        let slug = json!({ "type": "string", "pattern": "^[a-z0-9_]+$" });
        let whole = json!({ "type": "integer" });
        for (given, schema, expected) in [
            (json!("30 %"), &percent, Some("30%")),
            (json!("30 percent"), &percent, Some("30%")),
            (json!(30), &percent, Some("30%")),
            (json!(0.3), &percent, Some("30%")),
            (json!("thirty"), &percent, None),
            (json!("4 hours"), &duration, Some("4h")),
            (json!("15 Minutes"), &duration, Some("15m")),
            (json!(300), &duration, Some("300s")),
            (json!("256MB"), &memory, Some("256MiB")),
            (json!("256 m"), &memory, Some("256MiB")),
            (json!("yes"), &boolean, Some("true")),
            (json!("Off"), &boolean, Some("false")),
            (json!("My Cohort"), &slug, Some("my_cohort")),
            (json!("ftp://cohort"), &slug, None),
            (json!(2024), &slug, None),
            (json!("1,000"), &whole, Some("1000")),
            (json!("x"), &boolean, None),
        ] {
            assert_eq!(form(&given, schema, &root).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn a_text_becomes_the_mapping_that_accepts_it() {
        let root = json!({ "$defs": { "Cron": { "type": "object", "required": ["at"],
            "properties": { "at": { "type": "string", "pattern": "^\\S+ \\S+ \\S+ \\S+ \\S+$" } } } } });
        let shape = |key: &str, value: Value| json!({ "type": "object", "properties": { key: value }, "required": [key] });
        let every = json!({ "type": "string", "pattern": "^[0-9]+[smh]$" });
        let schema =
            json!({ "oneOf": [shape("every", every), shape("cron", json!({ "$ref": "#/$defs/Cron" }))] });
        let meant = |text| in_mapping(text, &["every", "cron"], &schema, &root);
        assert_eq!(meant("0 */4 * * *").as_deref(), Some("{ cron: { at: \"0 */4 * * *\" } }"));
        assert_eq!(meant("4 hours").as_deref(), Some("{ every: 4h }"));
        assert_eq!(meant("sometimes"), None);
    }

    #[test]
    fn values_of_other_tools_have_a_name_here() {
        let kinds = ["file", "sql", "heap_segment", "heap_connect"];
        assert_eq!(synonym("CSV", &kinds), Some("file"));
        assert_eq!(synonym("snowflake", &kinds), Some("sql"));
        assert_eq!(synonym("csv", &["braze", "heap"]), None);
    }
}
