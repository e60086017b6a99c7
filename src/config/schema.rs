//! The JSON Schemas of config files, generated from `spec`, and the validation of a tree against them.
//!
//! `schemas/sync.schema.json` and `schemas/include.schema.json` contain their text, so that editors and `validate`
//! agree. Validation finds all problems of a tree at once; `explain` turns them into messages.

use std::sync::LazyLock;

use jsonschema::Validator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::explain;
use super::problem::Problem;
use super::tree::{TreeIndex, TreeNode};

/// The keys that an included file may contain.
pub(super) const INCLUDED_KEYS: [&str; 6] =
    ["connections", "cohorts", "identity", "segments", "exports", "removed"];

static SCHEMA: LazyLock<Value> = LazyLock::new(generate);

static VALIDATOR: LazyLock<Result<Validator, String>> =
    LazyLock::new(|| jsonschema::validator_for(&SCHEMA).map_err(|error| error.to_string()));

/// The schema as a JSON value.
#[must_use]
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// The schema as the text of `schemas/sync.schema.json`.
#[must_use]
pub fn schema_text() -> String {
    format!("{:#}\n", *SCHEMA)
}

/// The schema of an included file as the text of `schemas/include.schema.json`.
#[must_use]
pub fn include_schema_text() -> String {
    format!("{:#}\n", include_schema(&SCHEMA))
}

/// Derives the schema of an included file: the keys that it may contain, and the definitions that they use.
fn include_schema(whole: &Value) -> Value {
    let mut schema = whole.clone();
    let Some(root) = schema.as_object_mut() else { return schema };
    root.remove("required");
    root.insert("title".to_owned(), "syncline include".into());
    root.insert(
        "description".to_owned(),
        "A file under `include:` of a syncline config. Its entries are added to those of the config.".into(),
    );
    if let Some(Value::Object(properties)) = root.get_mut("properties") {
        properties.retain(|key, _| INCLUDED_KEYS.contains(&key.as_str()));
    }
    let Some(Value::Object(definitions)) = root.remove("$defs") else { return schema };
    let mut used = Map::new();
    let mut wanted = references(&schema);
    while let Some(name) = wanted.pop() {
        if let Some(definition) = definitions.get(&name).filter(|_| !used.contains_key(&name)) {
            wanted.extend(references(definition));
            used.insert(name, definition.clone());
        }
    }
    schema["$defs"] = Value::Object(used);
    schema
}

/// The names of the definitions that a schema refers to.
fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
            own.map(str::to_owned).into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn generate() -> Value {
    let schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<super::spec::ConfigFile>();
    let mut schema = schema.to_value();
    tidy(&mut schema);
    super::environment_schema::complete(&mut schema);
    schema
}

/// Removes `null` from optional keys, because a present key needs a value, and Rust's integer formats, because their
/// bounds are stated.
fn tidy(schema: &mut Value) {
    if let Value::Object(map) = schema {
        let is_null = |value: &Value| value.get("type").is_some_and(|t| t == "null");
        if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
            choices.retain(|choice| !is_null(choice));
            if let [Value::Object(only)] = choices.as_mut_slice() {
                let only = std::mem::take(only);
                map.remove("anyOf");
                map.extend(only);
            }
        }
        if let Some(Value::Array(types)) = map.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                map.insert("type".to_owned(), only);
            }
        }
        map.retain(|key, value| {
            let rust_only = key == "format" && value.is_string();
            let no_default = key == "default" && value.is_null();
            !rust_only && !no_default
        });
    }
    for shape in schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        complete(shape);
    }
    match schema {
        Value::Object(map) => map.values_mut().for_each(tidy),
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Appends all problems of a tree.
pub(super) fn check(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let instance = tree.to_json();
    match &*VALIDATOR {
        Ok(validator) => {
            let errors: Vec<_> = validator.iter_errors(&instance).collect();
            if !errors.is_empty() {
                explain::explain_all(&errors, &TreeIndex::of(tree), &SCHEMA, problems);
            }
        }
        Err(error) => problems.push(explain::broken_schema(error)),
    }
}

/// Completes one shape of a choice for editors: its title, and the description and examples of its tag or only key.
fn complete(shape: &mut Value) {
    let properties = shape.get("properties").and_then(Value::as_object);
    let tag = properties.and_then(|map| map.values().find_map(|value| value.get("const")?.as_str()));
    let name =
        tag.or_else(|| properties.and_then(|map| map.keys().next()).map(String::as_str)).map(str::to_owned);
    let description = shape.get("description").cloned();
    let examples = shape.get("examples").cloned();
    let Some(shape) = shape.as_object_mut() else { return };
    if let Some(Value::Object(properties)) = shape.get_mut("properties") {
        let is_only = properties.len() == 1;
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            let is_tag = property.contains_key("const");
            if (is_tag || is_only) && !property.contains_key("description") {
                property.extend(description.clone().map(|text| ("description".to_owned(), text)));
                property.extend(examples.clone().map(|examples| ("examples".to_owned(), examples)));
            }
        }
    }
    if let Some(name) = name {
        shape.insert("title".to_owned(), name.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `visit` with the path, the name and the schema of every property.
    fn properties(schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
        if let Some(Value::Object(map)) = schema.get("properties").filter(|_| schema.get("type").is_some()) {
            map.iter().for_each(|(key, property)| visit(&format!("{path}/{key}"), property));
        }
        match schema {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| properties(value, &format!("{path}/{key}"), visit));
            }
            Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(at, value)| properties(value, &format!("{path}/{at}"), visit));
            }
            _ => {}
        }
    }

    #[test]
    fn every_property_has_a_description() {
        let mut bare = Vec::new();
        for schema in [schema().clone(), include_schema(schema())] {
            properties(&schema, "", &mut |path, property| {
                let text = property.get("description").and_then(Value::as_str).unwrap_or_default();
                bare.extend((!text.ends_with('.')).then(|| format!("{path}: {text:?}")));
            });
        }
        assert!(bare.is_empty(), "{}", bare.join("\n"));
    }

    #[test]
    fn the_schema_of_included_files_has_only_their_keys() {
        let schema = include_schema(schema());
        let keys: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), INCLUDED_KEYS.len(), "{keys:?}");
        let defined = schema["$defs"].as_object().unwrap();
        assert!(references(&schema).iter().all(|name| defined.contains_key(name)));
        assert!(!defined.contains_key("WatchSpec"));
    }
}
