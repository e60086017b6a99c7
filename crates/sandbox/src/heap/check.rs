//! Validation in the words of AJV 6, because Heap's only known error text, `postBody.events[0].properties
//! should be object`, is AJV's. The first error is reported and nothing is stored.

use serde_json::{Map, Value};

use super::options::{HeapOptions, Lengths};

/// Longest event name (documents: 1 to 1,024 characters).
pub(super) const NAME_LEN_MAX: usize = 1024;
/// Longest identity.
pub(super) const IDENTITY_LEN_MAX: usize = 255;
/// Longest key and longest text of a property (documents: fewer than 1,024 characters).
const PROPERTY_LEN_MAX: usize = 1023;
/// Length at which a joined array is truncated.
const JOINED_LEN_MAX: usize = 1024;
/// The largest `user_id`, 2^53 - 1.
pub(super) const USER_ID_MAX: u64 = (1 << 53) - 1;

/// A validation error and its path below the checked value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CheckError {
    path: String,
    message: String,
}

impl CheckError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into() }
    }

    /// The same error, with `step` before its path.
    pub(super) fn below(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }

    /// The text of the response.
    pub(super) fn text(&self) -> String {
        format!("postBody{} {}", self.path, self.message)
    }
}

/// The path step to a key, as AJV writes it.
pub(super) fn step(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    if key.starts_with(|c: char| plain(c) && !c.is_ascii_digit()) && key.chars().all(plain) {
        format!(".{key}")
    } else {
        format!("['{}']", key.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

/// The validation with the options of one sandbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeapChecks<'a>(pub(super) &'a HeapOptions);

impl HeapChecks<'_> {
    fn len(self, text: &str) -> usize {
        match self.0.lengths {
            Lengths::Characters => text.chars().count(),
            Lengths::Bytes => text.len(),
        }
    }

    /// An object with only these keys, or with any if `lenient`.
    pub(super) fn object<'v>(
        self,
        value: &'v Value,
        keys: &[&str],
    ) -> Result<&'v Map<String, Value>, CheckError> {
        let object = value.as_object().ok_or_else(|| CheckError::new("should be object"))?;
        if !self.0.lenient && object.keys().any(|key| !keys.contains(&key.as_str())) {
            return Err(CheckError::new("should NOT have additional properties"));
        }
        Ok(object)
    }

    /// The checked elements of an array with 1 to `max` elements.
    pub(super) fn list<T>(
        self,
        value: &Value,
        max: usize,
        check: impl Fn(&Value) -> Result<T, CheckError>,
    ) -> Result<Vec<T>, CheckError> {
        let list = value.as_array().ok_or_else(|| CheckError::new("should be array"))?;
        if list.is_empty() {
            return Err(CheckError::new("should NOT have fewer than 1 items"));
        }
        if list.len() > max {
            return Err(CheckError::new(format!("should NOT have more than {max} items")));
        }
        let check_element =
            |(at, value)| check(value).map_err(|error: CheckError| error.below(&format!("[{at}]")));
        list.iter().enumerate().map(check_element).collect()
    }

    /// A string of 1 to `max` characters.
    pub(super) fn text(self, value: &Value, max: usize) -> Result<String, CheckError> {
        let text = value.as_str().ok_or_else(|| CheckError::new("should be string"))?;
        if text.is_empty() {
            return Err(CheckError::new("should NOT be shorter than 1 characters"));
        }
        if self.len(text) > max {
            return Err(CheckError::new(format!("should NOT be longer than {max} characters")));
        }
        Ok(text.to_owned())
    }

    /// A string under a required key.
    pub(super) fn required(
        self,
        object: &Map<String, Value>,
        key: &str,
        max: usize,
    ) -> Result<String, CheckError> {
        let missing = || CheckError::new(format!("should have required property '{key}'"));
        let value = object.get(key).ok_or_else(missing)?;
        self.text(value, max).map_err(|error| error.below(&step(key)))
    }

    /// A string under an optional key.
    pub(super) fn optional(
        self,
        object: &Map<String, Value>,
        key: &str,
        max: usize,
    ) -> Result<Option<String>, CheckError> {
        object.contains_key(key).then(|| self.required(object, key, max)).transpose()
    }

    /// A `user_id`: a decimal number from 0 to 2^53 - 1, as a string.
    pub(super) fn user_id(self, value: &Value) -> Result<u64, CheckError> {
        let text = value.as_str().ok_or_else(|| CheckError::new("should be string"))?;
        let canonical = text == "0" || !text.starts_with('0');
        if text.is_empty() || !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CheckError::new("should match pattern \"^(0|[1-9][0-9]*)$\""));
        }
        match text.parse() {
            Ok(id) if id <= USER_ID_MAX => Ok(id),
            _ => Err(CheckError::new(format!("should be <= {USER_ID_MAX}"))),
        }
    }

    /// An ISO 8601 time with an offset.
    pub(super) fn timestamp(self, object: &Map<String, Value>) -> Result<Option<String>, CheckError> {
        let Some(text) = self.optional(object, "timestamp", usize::MAX)? else { return Ok(None) };
        if text.parse::<jiff::Timestamp>().is_err() {
            return Err(CheckError::new("should match format \"date-time\"").below(".timestamp"));
        }
        Ok(Some(text))
    }

    /// Properties as they are stored: arrays joined, if arrays are allowed.
    pub(super) fn properties(self, value: &Value, arrays: bool) -> Result<Map<String, Value>, CheckError> {
        let object = value.as_object().ok_or_else(|| CheckError::new("should be object"))?;
        let mut stored = Map::new();
        for (key, value) in object {
            if key.is_empty() || self.len(key) > PROPERTY_LEN_MAX {
                return Err(CheckError::new(format!("property name '{key}' is invalid")));
            }
            let value = self.value(value, arrays).map_err(|error| error.below(&step(key)))?;
            stored.insert(key.clone(), value);
        }
        Ok(stored)
    }

    fn value(self, value: &Value, arrays: bool) -> Result<Value, CheckError> {
        match value {
            Value::Number(_) => Ok(value.clone()),
            Value::String(text) if self.len(text) <= PROPERTY_LEN_MAX => Ok(value.clone()),
            Value::String(_) => {
                Err(CheckError::new(format!("should NOT be longer than {PROPERTY_LEN_MAX} characters")))
            }
            Value::Array(list) if arrays || self.0.lenient => self.joined(list).map(Value::String),
            _ if self.0.lenient => Ok(value.clone()),
            _ if arrays => Err(CheckError::new("should be string,number,array")),
            _ => Err(CheckError::new("should be string,number")),
        }
    }

    /// The elements joined by `||`, truncated at 1,024 characters.
    fn joined(self, list: &[Value]) -> Result<String, CheckError> {
        let mut joined = String::new();
        for (at, value) in list.iter().enumerate() {
            if at > 0 {
                joined.push_str("||");
            }
            match value {
                Value::String(text) => joined.push_str(text),
                Value::Number(number) => joined.push_str(&number.to_string()),
                _ if self.0.lenient => joined.push_str(&value.to_string()),
                _ => return Err(CheckError::new("should be string,number").below(&format!("[{at}]"))),
            }
        }
        Ok(joined.chars().take(JOINED_LEN_MAX).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(value: &Value, arrays: bool) -> Result<Value, String> {
        let options = HeapOptions::default();
        let stored = HeapChecks(&options).properties(value, arrays);
        stored.map(Value::Object).map_err(|error| error.below(".properties").text())
    }

    #[test]
    fn properties_are_strings_and_numbers() {
        let good = json!({ "a": 1, "b": "", "c": "x".repeat(1023), "d": "\u{1f600}".repeat(1023) });
        assert_eq!(properties(&good, true), Ok(good.clone()));
        assert_eq!(properties(&json!({ "a": ["x", 2, "z"] }), true), Ok(json!({ "a": "x||2||z" })));
        let cut = properties(&json!({ "a": ["x".repeat(1_000), "y".repeat(1_000)] }), true).unwrap();
        assert_eq!(cut["a"].as_str().unwrap().len(), 1_024);
        for (bad, text) in [
            (json!([]), "postBody.properties should be object"),
            (json!({ "a": true }), "postBody.properties.a should be string,number"),
            (json!({ "a b": null }), "postBody.properties['a b'] should be string,number"),
            (json!({ "a": ["x"] }), "postBody.properties.a should be string,number"),
            (
                json!({ "a": "x".repeat(1024) }),
                "postBody.properties.a should NOT be longer than 1023 characters",
            ),
            (json!({ "": 1 }), "postBody.properties property name '' is invalid"),
        ] {
            assert_eq!(properties(&bad, false), Err(text.to_owned()));
        }
        let nested = json!({ "a": [["x"]] });
        assert_eq!(
            properties(&nested, true),
            Err("postBody.properties.a[0] should be string,number".to_owned())
        );
    }

    #[test]
    fn user_ids_are_decimal_numbers_in_strings() {
        let options = HeapOptions::default();
        let check = |value: Value| HeapChecks(&options).user_id(&value).ok();
        assert_eq!(check(json!("9007199254740991")), Some(USER_ID_MAX));
        assert_eq!(check(json!("0")), Some(0));
        for bad in [json!(1), json!(""), json!("01"), json!("-1"), json!("1.0"), json!("9007199254740992")] {
            assert_eq!(check(bad.clone()), None, "{bad}");
        }
    }
}
