//! Values with more than one form: an item or a list, a number or a word.
//!
//! The schema of each is one schema with several types, not a choice of schemas, so that error messages name the form
//! that was meant.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Length;
use crate::config::mask::is_variable;

/// One item, or a list of them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Value", bound = "T: TryFrom<String, Error = String>")]
pub(in crate::config) struct OneOrMany<T>(pub(in crate::config) Vec<T>);

impl<T: TryFrom<String, Error = String>> TryFrom<Value> for OneOrMany<T> {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let item = |value: Value| match value {
            Value::String(text) => T::try_from(text),
            other => Err(format!("expected a string, found `{other}`")),
        };
        match value {
            Value::Array(list) if list.is_empty() => Err("expected at least one item".to_owned()),
            Value::Array(list) => list.into_iter().map(item).collect::<Result<_, _>>().map(Self),
            one => item(one).map(|one| Self(vec![one])),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrList", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        let mut schema = T::json_schema(generator);
        schema.insert("type".to_owned(), serde_json::json!(["string", "array"]));
        schema.insert("items".to_owned(), items.to_value());
        schema.insert("minItems".to_owned(), 1.into());
        schema
    }
}

/// A duration, or `off`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::config) struct OptionalLength(pub(in crate::config) Option<Length>);

impl TryFrom<String> for OptionalLength {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { Length::try_from(text).map(|length| Self(Some(length))) }
    }
}

impl serde::Serialize for OptionalLength {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(length) => length.serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }
}

impl JsonSchema for OptionalLength {
    fn schema_name() -> Cow<'static, str> {
        "OptionalLength".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration with its unit, or `off`.",
            "pattern": "^([0-9]{1,9}(ms|s|m|h|d)|off)$",
            "patternErrorMessage": "a duration with its unit, for example `30s` or `7d`, or `off`",
            "examples": ["7d", "off"],
        })
    }
}

/// A positive integer, or `off` for no limit.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Value")]
pub(in crate::config) struct Bound(pub(in crate::config) Option<u64>);

impl TryFrom<Value> for Bound {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value.as_u64() {
            Some(number @ 1..=BOUND_MAX) => Ok(Self(Some(number))),
            _ if value == "off" => Ok(Self(None)),
            _ => Err(format!("expected a positive integer or `off`, found `{value}`")),
        }
    }
}

const BOUND_MAX: u64 = 1_000_000_000;

impl serde::Serialize for Bound {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(number) => serializer.serialize_u64(number),
            None => serializer.serialize_str("off"),
        }
    }
}

impl JsonSchema for Bound {
    fn schema_name() -> Cow<'static, str> {
        "Bound".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "description": "A positive integer, or `off` for no limit.",
            "minimum": 1,
            "maximum": BOUND_MAX,
            "pattern": "^off$",
            "patternErrorMessage": "a positive integer, or `off` for no limit",
        })
    }
}

/// Heap's environment id: its digits, or the variable or file that contains them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Value")]
pub(in crate::config) enum AppIdText {
    /// The digits.
    Plain(String),
    /// Name of the environment variable.
    Env(String),
    /// Path of the file.
    File(String),
}

impl TryFrom<Value> for AppIdText {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let is_id =
            |text: &str| (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let reference = value.as_object().filter(|object| object.len() == 1).and_then(|object| match object
            .iter()
            .next()
            .map(|(key, value)| (key.as_str(), value.as_str()))
        {
            Some(("env", Some(name))) if is_variable(name) => Some(Self::Env(name.to_owned())),
            Some(("file", Some(path))) if !path.trim().is_empty() => Some(Self::File(path.to_owned())),
            _ => None,
        });
        match value.as_u64() {
            Some(number) => Ok(Self::Plain(number.to_string())),
            None => {
                let plain =
                    value.as_str().filter(|text| is_id(text)).map(|text| Self::Plain(text.to_owned()));
                plain.or(reference).ok_or_else(|| format!("expected {APP_ID_RULE}, found `{value}`"))
            }
        }
    }
}

const APP_ID_RULE: &str = "the digits of an environment id, or `{ env: NAME }`";

impl JsonSchema for AppIdText {
    fn schema_name() -> Cow<'static, str> {
        "AppId".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let described = |schema: Schema, description: &str, example: &str| {
            let mut schema = schema;
            schema.insert("description".to_owned(), description.into());
            schema.insert("examples".to_owned(), json!([example]));
            schema
        };
        let variable = generator.subschema_for::<super::Variable>();
        let variable = described(variable, "Environment variable that contains it.", "HEAP_APP_ID");
        let path = described(
            generator.subschema_for::<super::Text>(),
            "File that contains it.",
            "secrets/heap-app-id",
        );
        json_schema!({
            "type": ["string", "integer", "object"],
            "description": "Heap's environment id: its digits, or the environment variable or file that contains them.",
            "pattern": "^[0-9]{1,20}$",
            "patternErrorMessage": APP_ID_RULE,
            "minimum": 0,
            "properties": { "env": variable, "file": path },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
            "examples": ["1234567890"],
        })
    }
}
