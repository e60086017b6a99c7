//! The schema of an environment: the schema of the config without required keys.
//!
//! Overlays are merged into the tree before it is parsed, so this type exists only for the schema and for completion in
//! editors.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The suffix of the definitions in which nothing is required.
const PARTIAL: &str = "Overlay";
/// The keys that an environment may contain.
const KEYS: [&str; 11] = [
    "state",
    "roots",
    "allow_endpoint",
    "memory",
    "connections",
    "cohorts",
    "identity",
    "segments",
    "exports",
    "removed",
    "watch",
];

/// The changes of one environment.
#[derive(Debug, Deserialize)]
pub(super) struct EnvironmentOverlay(
    #[allow(dead_code, reason = "never read: it exists only for the schema")] serde_json::Value,
);

impl JsonSchema for EnvironmentOverlay {
    fn schema_name() -> Cow<'static, str> {
        "Overlay".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::default() // filled in by `complete`, once the whole schema is known
    }
}

/// Fills in the `Overlay` definition: a copy of every mapping that it reaches, without `required`, and with `anyOf`
/// instead of `oneOf`. Lists and secrets are replaced as a whole, so their definitions stay complete.
pub(super) fn complete(schema: &mut Value) {
    let properties: Map<String, Value> = KEYS
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), schema.get("properties")?.get(key)?.clone())))
        .collect();
    let Some(Value::Object(definitions)) = schema.get_mut("$defs") else { return };
    let is_mapping =
        |definition: &Value| ["properties", "oneOf"].iter().any(|key| definition.get(key).is_some());
    let names =
        definitions.iter().filter(|(name, definition)| *name != "SecretSpec" && is_mapping(definition));
    let mappings: Vec<String> = names.map(|(name, _)| name.clone()).collect();
    let mut relax = RemoveRequired { mappings: &mappings, wanted: Vec::new() };
    let mut overlay = serde_json::json!({
        "type": "object",
        "description": "Changes of one environment. Mappings are merged into the config; lists and other values replace it.",
        "additionalProperties": false,
        "properties": properties,
    });
    relax.walk(&mut overlay);
    definitions.insert(PARTIAL.to_owned(), overlay);
    while let Some(name) = relax.wanted.pop() {
        let partial = format!("{name}{PARTIAL}");
        if definitions.contains_key(&partial) {
            continue;
        }
        let Some(mut definition) = definitions.get(&name).cloned() else { continue };
        relax.walk(&mut definition);
        definitions.insert(partial, definition);
    }
}

struct RemoveRequired<'a> {
    /// Definitions that are merged rather than replaced.
    mappings: &'a [String],
    /// Definitions that are referred to and not copied yet.
    wanted: Vec<String>,
}

impl RemoveRequired<'_> {
    fn walk(&mut self, schema: &mut Value) {
        match schema {
            Value::Object(map) if map.get("type").is_some_and(|t| t == "array") => {}
            Value::Object(map) => {
                map.remove("required");
                map.remove("default");
                if let Some(choice) = map.remove("oneOf") {
                    map.insert("anyOf".to_owned(), choice);
                }
                if let Some(Value::String(reference)) = map.get_mut("$ref")
                    && let Some(name) = reference.strip_prefix("#/$defs/")
                    && self.mappings.iter().any(|mapping| mapping == name)
                {
                    self.wanted.push(name.to_owned());
                    reference.push_str(PARTIAL);
                }
                map.values_mut().for_each(|value| self.walk(value));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            _ => {}
        }
    }
}
