//! The shape of `state:`: a string, or a mapping with `must_exist`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::StatePath;

/// Location of the state.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(in crate::config) struct State {
    pub(in crate::config) path: StatePath,
    pub(in crate::config) must_exist: bool,
}

impl State {
    pub(super) fn standard() -> Self {
        Self { path: StatePath(".syncline".to_owned()), must_exist: false }
    }
}

impl TryFrom<Value> for State {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let path = |value: Value| match value {
            Value::String(text) => StatePath::try_from(text),
            other => Err(format!("expected a string, found `{other}`")),
        };
        let Value::Object(mut map) = value else {
            return path(value).map(|path| Self { path, must_exist: false });
        };
        let must_exist = match map.remove("must_exist") {
            None => false,
            Some(Value::Bool(must_exist)) => must_exist,
            Some(other) => return Err(format!("`must_exist`: expected a boolean, found `{other}`")),
        };
        let path = map.remove("path").map_or_else(|| Ok(Self::standard().path), path)?;
        match map.keys().next() {
            None => Ok(Self { path, must_exist }),
            Some(key) => Err(format!("unknown key `{key}`; `state` has `path` and `must_exist`")),
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.must_exist {
            serde_json::json!({ "path": self.path.0, "must_exist": true }).serialize(serializer)
        } else {
            self.path.serialize(serializer)
        }
    }
}

impl JsonSchema for State {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "State".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut path = StatePath::json_schema(generator).to_value();
        path["description"] = "A folder relative to this file, or a bucket.".into();
        path["default"] = ".syncline".into();
        path["examples"] = serde_json::json!([".syncline", "s3://acme-syncline/production"]);
        let mut schema = StatePath::json_schema(generator);
        schema.insert("type".to_owned(), serde_json::json!(["string", "object"]));
        schema.insert("additionalProperties".to_owned(), false.into());
        schema.insert(
            "properties".to_owned(),
            serde_json::json!({
                "path": path,
                "must_exist": {
                    "description": "`true`: a missing state is an error, not a first run. Use it in continuous integration, where a lost cache must not look like an empty state. `syncline state create` creates the first one.",
                    "type": "boolean",
                    "default": false
                }
            }),
        );
        schema
    }
}
