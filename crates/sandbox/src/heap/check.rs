//! Checks in the manner of Heap's: its one known answer, `postBody.events[0].properties should be object`,
//! is in the words of AJV 6, so all of these are. The first wrong thing is named, and nothing is taken.

use serde_json::{Map, Value};

use super::options::{HeapOptions, Lengths};

/// Longest event name (documents: 1 to 1,024 characters).
pub(super) const NAME_LEN_MAX: usize = 1024;
/// Longest identity.
pub(super) const IDENTITY_LEN_MAX: usize = 255;
/// Longest key and longest text of a property (documents: fewer than 1,024 characters).
const PROPERTY_LEN_MAX: usize = 1023;
/// Where a joined array is cut.
const JOINED_LEN_MAX: usize = 1024;
/// The largest `user_id`, 2^53 - 1.
pub(super) const USER_ID_MAX: u64 = (1 << 53) - 1;

/// What is wrong, and where below the thing that was checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    path: String,
    says: String,
}

impl Wrong {
    pub(super) fn new(says: impl Into<String>) -> Self {
        Self { path: String::new(), says: says.into() }
    }

    /// The same, seen from one step further out.
    pub(super) fn below(mut self, step: &str) -> Self {
        self.path.insert_str(0, step);
        self
    }

    /// The text of the answer.
    pub(super) fn text(&self) -> String {
        format!("postBody{} {}", self.path, self.says)
    }
}

/// The step to a key, as AJV writes it.
pub(super) fn step(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    if key.starts_with(|c: char| plain(c) && !c.is_ascii_digit()) && key.chars().all(plain) {
        format!(".{key}")
    } else {
        format!("['{}']", key.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

/// The checks of one sandbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks<'a>(pub(super) &'a HeapOptions);

impl Checks<'_> {
    fn len(self, text: &str) -> usize {
        match self.0.lengths {
            Lengths::Characters => text.chars().count(),
            Lengths::Bytes => text.len(),
        }
    }

    /// An object with these keys, or with any if nobody is strict.
    pub(super) fn object<'v>(self, value: &'v Value, keys: &[&str]) -> Result<&'v Map<String, Value>, Wrong> {
        let object = value.as_object().ok_or_else(|| Wrong::new("should be object"))?;
        if !self.0.lenient && object.keys().any(|key| !keys.contains(&key.as_str())) {
            return Err(Wrong::new("should NOT have additional properties"));
        }
        Ok(object)
    }

    /// The texts of an array of `min..=max` elements, each checked.
    pub(super) fn list<T>(
        self,
        value: &Value,
        max: usize,
        check: impl Fn(&Value) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        let list = value.as_array().ok_or_else(|| Wrong::new("should be array"))?;
        if list.is_empty() {
            return Err(Wrong::new("should NOT have fewer than 1 items"));
        }
        if list.len() > max {
            return Err(Wrong::new(format!("should NOT have more than {max} items")));
        }
        let each = |(at, value)| check(value).map_err(|wrong: Wrong| wrong.below(&format!("[{at}]")));
        list.iter().enumerate().map(each).collect()
    }

    /// A text of 1 to `max` characters.
    pub(super) fn text(self, value: &Value, max: usize) -> Result<String, Wrong> {
        let text = value.as_str().ok_or_else(|| Wrong::new("should be string"))?;
        if text.is_empty() {
            return Err(Wrong::new("should NOT be shorter than 1 characters"));
        }
        if self.len(text) > max {
            return Err(Wrong::new(format!("should NOT be longer than {max} characters")));
        }
        Ok(text.to_owned())
    }

    /// A text under a key that must be there.
    pub(super) fn required(
        self,
        object: &Map<String, Value>,
        key: &str,
        max: usize,
    ) -> Result<String, Wrong> {
        let missing = || Wrong::new(format!("should have required property '{key}'"));
        let value = object.get(key).ok_or_else(missing)?;
        self.text(value, max).map_err(|wrong| wrong.below(&step(key)))
    }

    /// A text under a key that may be there.
    pub(super) fn optional(
        self,
        object: &Map<String, Value>,
        key: &str,
        max: usize,
    ) -> Result<Option<String>, Wrong> {
        object.contains_key(key).then(|| self.required(object, key, max)).transpose()
    }

    /// A `user_id`: a decimal number of 0 to 2^53 - 1, as a text.
    pub(super) fn user_id(self, value: &Value) -> Result<u64, Wrong> {
        let text = value.as_str().ok_or_else(|| Wrong::new("should be string"))?;
        let canonical = text == "0" || !text.starts_with('0');
        if text.is_empty() || !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Wrong::new("should match pattern \"^(0|[1-9][0-9]*)$\""));
        }
        match text.parse() {
            Ok(id) if id <= USER_ID_MAX => Ok(id),
            _ => Err(Wrong::new(format!("should be <= {USER_ID_MAX}"))),
        }
    }

    /// A time in ISO 8601 with its offset.
    pub(super) fn timestamp(self, object: &Map<String, Value>) -> Result<Option<String>, Wrong> {
        let Some(text) = self.optional(object, "timestamp", usize::MAX)? else { return Ok(None) };
        if text.parse::<jiff::Timestamp>().is_err() {
            return Err(Wrong::new("should match format \"date-time\"").below(".timestamp"));
        }
        Ok(Some(text))
    }

    /// Properties as they will be kept: arrays joined, if they are allowed at all.
    pub(super) fn properties(self, value: &Value, arrays: bool) -> Result<Map<String, Value>, Wrong> {
        let object = value.as_object().ok_or_else(|| Wrong::new("should be object"))?;
        let mut kept = Map::new();
        for (key, value) in object {
            if key.is_empty() || self.len(key) > PROPERTY_LEN_MAX {
                return Err(Wrong::new(format!("property name '{key}' is invalid")));
            }
            let value = self.value(value, arrays).map_err(|wrong| wrong.below(&step(key)))?;
            kept.insert(key.clone(), value);
        }
        Ok(kept)
    }

    fn value(self, value: &Value, arrays: bool) -> Result<Value, Wrong> {
        match value {
            Value::Number(_) => Ok(value.clone()),
            Value::String(text) if self.len(text) <= PROPERTY_LEN_MAX => Ok(value.clone()),
            Value::String(_) => {
                Err(Wrong::new(format!("should NOT be longer than {PROPERTY_LEN_MAX} characters")))
            }
            Value::Array(list) if arrays || self.0.lenient => self.joined(list).map(Value::String),
            _ if self.0.lenient => Ok(value.clone()),
            _ if arrays => Err(Wrong::new("should be string,number,array")),
            _ => Err(Wrong::new("should be string,number")),
        }
    }

    /// The elements with `||` between them, cut at 1,024 characters.
    fn joined(self, list: &[Value]) -> Result<String, Wrong> {
        let mut joined = String::new();
        for (at, value) in list.iter().enumerate() {
            if at > 0 {
                joined.push_str("||");
            }
            match value {
                Value::String(text) => joined.push_str(text),
                Value::Number(number) => joined.push_str(&number.to_string()),
                _ if self.0.lenient => joined.push_str(&value.to_string()),
                _ => return Err(Wrong::new("should be string,number").below(&format!("[{at}]"))),
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
        let kept = Checks(&options).properties(value, arrays);
        kept.map(Value::Object).map_err(|wrong| wrong.below(".properties").text())
    }

    #[test]
    fn properties_are_texts_and_numbers() {
        let good = json!({ "a": 1, "b": "", "c": "x".repeat(1023), "d": "\u{1f600}".repeat(1023) });
        assert_eq!(properties(&good, true), Ok(good.clone()));
        assert_eq!(properties(&json!({ "a": ["x", 2, "z"] }), true), Ok(json!({ "a": "x||2||z" })));
        let cut = properties(&json!({ "a": ["x".repeat(1_000), "y".repeat(1_000)] }), true).unwrap();
        assert_eq!(cut["a"].as_str().unwrap().len(), 1_024);
        for (bad, says) in [
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
            assert_eq!(properties(&bad, false), Err(says.to_owned()));
        }
        let nested = json!({ "a": [["x"]] });
        assert_eq!(
            properties(&nested, true),
            Err("postBody.properties.a[0] should be string,number".to_owned())
        );
    }

    #[test]
    fn user_ids_are_numbers_in_texts() {
        let options = HeapOptions::default();
        let check = |value: Value| Checks(&options).user_id(&value).ok();
        assert_eq!(check(json!("9007199254740991")), Some(USER_ID_MAX));
        assert_eq!(check(json!("0")), Some(0));
        for bad in [json!(1), json!(""), json!("01"), json!("-1"), json!("1.0"), json!("9007199254740992")] {
            assert_eq!(check(bad.clone()), None, "{bad}");
        }
    }
}
