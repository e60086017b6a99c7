//! The JSON Schema: made from the shapes, and the check that holds a tree to it.
//!
//! `schemas/sync.schema.json` is this schema written out, so an editor and `validate` agree. All of a
//! tree's problems are found at once; `explain` puts them into words.

use std::sync::LazyLock;

use jsonschema::Validator;
use jsonschema::paths::LocationSegment;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::explain;
use super::problem::Problem;
use super::tree::{Index, PathStep, TreeNode};

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

fn generate() -> Value {
    let schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<super::spec::ConfigFile>();
    let mut schema = schema.to_value();
    tidy(&mut schema);
    super::overlay::complete(&mut schema);
    schema
}

/// Optional is not nullable: a key that is there must hold something. Rust's integer formats go as
/// well, since their bounds are stated.
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
        title(shape);
    }
    match schema {
        Value::Object(map) => map.values_mut().for_each(tidy),
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Every way in which the tree is not what the schema says.
pub(super) fn check(tree: &TreeNode, problems: &mut Vec<Problem>) {
    let instance = tree.to_json();
    match &*VALIDATOR {
        Ok(validator) => {
            let mut errors = validator.iter_errors(&instance).peekable();
            if errors.peek().is_some() {
                let tree = Index::of(tree);
                errors.for_each(|error| explain::explain(&error, &tree, &SCHEMA, problems));
            }
        }
        Err(error) => problems.push(explain::broken_schema(error)),
    }
}

/// Names one shape of several by what tells it from the others, for the lists that editors show.
fn title(shape: &mut Value) {
    let properties = shape.get("properties").and_then(Value::as_object);
    let tag = properties.and_then(|map| map.values().find_map(|value| value.get("const")?.as_str()));
    let name =
        tag.or_else(|| properties.and_then(|map| map.keys().next()).map(String::as_str)).map(str::to_owned);
    if let (Some(name), Some(shape)) = (name, shape.as_object_mut()) {
        shape.insert("title".to_owned(), name.into());
    }
}

/// A path of the schema library as steps through our tree.
pub(super) fn steps<'a>(path: impl Iterator<Item = LocationSegment<'a>>) -> Vec<PathStep> {
    path.map(|segment| match segment {
        LocationSegment::Property(key) => PathStep::Key(key.into_owned()),
        LocationSegment::Index(at) => PathStep::Index(at),
    })
    .collect()
}
