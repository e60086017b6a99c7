//! Parser of the bodies of Heap's ingestion endpoints.
//!
//! Source: Heap, "Track", "Bulk Track", "Identify", "Add User Properties" and "Add Account Properties". A
//! single call is checked as a list of one, as Heap's responses show.

use serde_json::{Map, Value, json};

use super::check::{CheckError, HeapChecks, IDENTITY_LEN_MAX, NAME_LEN_MAX};
use super::store::{HeapEvent, HeapUserId};

/// Most events, users or accounts in one request.
const ITEMS_MAX: usize = 1000;

/// Parsed items, and whether they were sent as a list.
#[derive(Debug)]
pub(super) struct ParsedItems<T> {
    pub(super) items: Vec<T>,
    pub(super) bulk: bool,
}

/// The id of a user or account, with properties.
pub(super) type WithProperties = (String, Map<String, Value>);

impl HeapChecks<'_> {
    /// `app_id` must be the id of the environment. Only account properties are documented to accept a number.
    fn app_id(self, body: &Map<String, Value>, number: bool) -> Result<(), CheckError> {
        let app_id = match body.get("app_id") {
            Some(Value::Number(app_id)) if number => app_id.to_string(),
            _ => self.required(body, "app_id", NAME_LEN_MAX)?,
        };
        if app_id == self.0.app_id { Ok(()) } else { Err(CheckError::new("is not of a known app_id")) }
    }

    /// The items of a body: the elements under `list`, or the body itself.
    fn items<T>(
        self,
        body: &Value,
        list: &str,
        check: impl Fn(&Value) -> Result<T, CheckError>,
    ) -> Result<ParsedItems<T>, CheckError> {
        let object = body.as_object().ok_or_else(|| CheckError::new("should be object"))?;
        self.app_id(object, list == "accounts")?;
        if let Some(items) = object.get(list) {
            self.object(body, &["app_id", list])?;
            let items = self.list(items, ITEMS_MAX, check);
            return items
                .map(|items| ParsedItems { items, bulk: true })
                .map_err(|w| w.below(&format!(".{list}")));
        }
        let mut only = object.clone();
        only.remove("app_id");
        let items = self.list(&json!([only]), 1, check).map_err(|error| error.below(&format!(".{list}")))?;
        Ok(ParsedItems { items, bulk: false })
    }

    /// `POST /api/track`.
    pub(super) fn track(self, body: &Value) -> Result<ParsedItems<HeapEvent>, CheckError> {
        self.items(body, "events", |value| self.event(value))
    }

    fn event(self, value: &Value) -> Result<HeapEvent, CheckError> {
        const KEYS: [&str; 7] =
            ["identity", "user_id", "event", "timestamp", "properties", "idempotency_key", "session_id"];
        let object = self.object(value, &KEYS)?;
        let user = match (object.get("identity"), object.get("user_id")) {
            (Some(_), None) => HeapUserId::Identity(self.required(object, "identity", IDENTITY_LEN_MAX)?),
            (None, Some(id)) => {
                HeapUserId::UserId(self.user_id(id).map_err(|error| error.below(".user_id"))?)
            }
            _ => return Err(CheckError::new("should match exactly one schema in oneOf")),
        };
        let properties = match object.get("properties") {
            Some(value) => self.properties(value, true).map_err(|error| error.below(".properties"))?,
            None => Map::new(),
        };
        Ok(HeapEvent {
            user,
            event: self.required(object, "event", NAME_LEN_MAX)?,
            timestamp: self.timestamp(object)?,
            idempotency_key: self.optional(object, "idempotency_key", NAME_LEN_MAX)?,
            session_id: self.optional(object, "session_id", NAME_LEN_MAX)?,
            properties,
        })
    }

    /// `POST /api/v1/identify`.
    pub(super) fn identify(self, body: &Value) -> Result<(u64, String), CheckError> {
        let object = self.object(body, &["app_id", "user_id", "identity", "timestamp"])?;
        self.app_id(object, false)?;
        self.timestamp(object)?;
        let missing = || CheckError::new("should have required property 'user_id'");
        let user_id = self.user_id(object.get("user_id").ok_or_else(missing)?);
        let user_id = user_id.map_err(|error| error.below(".user_id"))?;
        Ok((user_id, self.required(object, "identity", IDENTITY_LEN_MAX)?))
    }

    /// `POST /api/add_user_properties`. No key may be `id`, in any letter case.
    pub(super) fn users(self, body: &Value) -> Result<ParsedItems<WithProperties>, CheckError> {
        self.items(body, "users", |value| {
            let with_properties = self.with_properties(value, "identity", IDENTITY_LEN_MAX)?;
            match with_properties.1.keys().find(|key| key.eq_ignore_ascii_case("id")) {
                Some(key) => {
                    Err(CheckError::new(format!("property name '{key}' is invalid")).below(".properties"))
                }
                None => Ok(with_properties),
            }
        })
    }

    /// `POST /api/add_account_properties`.
    pub(super) fn accounts(self, body: &Value) -> Result<ParsedItems<WithProperties>, CheckError> {
        self.items(body, "accounts", |value| self.with_properties(value, "account_id", NAME_LEN_MAX))
    }

    fn with_properties(self, value: &Value, key: &str, max: usize) -> Result<WithProperties, CheckError> {
        let object = self.object(value, &[key, "properties"])?;
        let user = self.required(object, key, max)?;
        let missing = || CheckError::new("should have required property 'properties'");
        let properties = object.get("properties").ok_or_else(missing)?;
        let properties = self.properties(properties, false).map_err(|error| error.below(".properties"))?;
        Ok((user, properties))
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::HeapOptions;
    use super::*;

    fn result(body: &str) -> String {
        let options = HeapOptions::default();
        let body: Value = serde_json::from_str(body).unwrap();
        HeapChecks(&options)
            .track(&body)
            .map_or_else(|error| error.text(), |items| items.items.len().to_string())
    }

    #[test]
    fn a_bad_element_is_named_and_rejects_the_request() {
        for (body, expected) in [
            (r#"{"app_id":"11","identity":"a","event":"e"}"#, "1"),
            (r#"{"app_id":"11","events":[{"user_id":"7","event":"e"},{"identity":"a","event":"e"}]}"#, "2"),
            (r"[]", "postBody should be object"),
            (r#"{"identity":"a","event":"e"}"#, "postBody should have required property 'app_id'"),
            (r#"{"app_id":11,"identity":"a","event":"e"}"#, "postBody.app_id should be string"),
            (r#"{"app_id":"12","identity":"a","event":"e"}"#, "postBody is not of a known app_id"),
            (
                r#"{"app_id":"11","identity":"a","event":"e","properties":[]}"#,
                "postBody.events[0].properties should be object",
            ),
            (
                r#"{"app_id":"11","events":[{"identity":"a","event":"e"},{"identity":"a"}]}"#,
                "postBody.events[1] should have required property 'event'",
            ),
            (
                r#"{"app_id":"11","events":[{"identity":"a","user_id":"1","event":"e"}]}"#,
                "postBody.events[0] should match exactly one schema in oneOf",
            ),
            (
                r#"{"app_id":"11","events":[{"identity":"a","event":"e","timestamp":"yesterday"}]}"#,
                "postBody.events[0].timestamp should match format \"date-time\"",
            ),
            (
                r#"{"app_id":"11","identity":"a","event":"e","library":"x"}"#,
                "postBody.events[0] should NOT have additional properties",
            ),
            (r#"{"app_id":"11","events":[]}"#, "postBody.events should NOT have fewer than 1 items"),
        ] {
            assert_eq!(result(body), expected, "{body}");
        }
        let many = vec![r#"{"identity":"a","event":"e"}"#; 1001].join(",");
        assert_eq!(
            result(&format!(r#"{{"app_id":"11","events":[{many}]}}"#)),
            "postBody.events should NOT have more than 1000 items"
        );
    }
}
