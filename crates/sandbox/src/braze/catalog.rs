//! Segments, campaigns and Canvases: what people make in Braze's dashboard, and here through the admin
//! API. Pure.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// A segment. Its filter is on cohorts alone, so that its size follows membership.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Segment {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) archived: bool,
    pub(super) analytics_tracking_enabled: bool,
    pub(super) tags: Vec<String>,
    /// The text of the filters, where it is not to be made from the cohorts' names. The real wording is not
    /// documented.
    pub(super) description: Option<String>,
    /// What a person wrote.
    pub(super) text_description: String,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    /// Cohorts whose people are in it, and whether one must be in all of them.
    pub(super) include: Vec<String>,
    pub(super) all: bool,
    /// Cohorts whose people are not.
    pub(super) exclude: Vec<String>,
    /// Sizes of earlier days; those of other days are as it is now.
    pub(super) sizes: BTreeMap<String, u64>,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            archived: false,
            analytics_tracking_enabled: true,
            tags: Vec::new(),
            description: None,
            text_description: String::new(),
            created_at: String::new(),
            updated_at: String::new(),
            include: Vec::new(),
            all: false,
            exclude: Vec::new(),
            sizes: BTreeMap::new(),
        }
    }
}

/// A campaign or a Canvas.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Messaging {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) archived: bool,
    pub(super) draft: bool,
    pub(super) enabled: bool,
    pub(super) tags: Vec<String>,
    pub(super) description: String,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    pub(super) schedule_type: String,
    pub(super) channels: Vec<String>,
    /// Whether it can be triggered by the API.
    pub(super) is_api: bool,
    /// The segment that it targets. No answer of Braze's tells.
    pub(super) segment_id: Option<String>,
}

impl Default for Messaging {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            archived: false,
            draft: false,
            enabled: true,
            tags: Vec::new(),
            description: String::new(),
            created_at: String::new(),
            updated_at: String::new(),
            schedule_type: "time_based".to_owned(),
            channels: vec!["email".to_owned()],
            is_api: false,
            segment_id: None,
        }
    }
}

/// A campaign or Canvas that was triggered, and whom it reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sent {
    /// `campaign` or `canvas`.
    pub(super) of: String,
    pub(super) id: String,
    pub(super) dispatch_id: String,
    pub(super) recipients: Vec<Value>,
    /// Those of them who are known and targeted, while it is enabled.
    pub(super) reached: Vec<String>,
}

/// Something that has an id and was made and changed at some time.
pub(super) trait Item: Clone + Serialize + DeserializeOwned {
    fn id(&self) -> &str;
}

impl Item for Segment {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Item for Messaging {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Items in the order in which they were made.
#[derive(Debug)]
pub(super) struct Shelf<T>(Vec<T>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Item> Shelf<T> {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.0.iter().find(|item| item.id() == id)
    }

    pub(super) fn put(&mut self, item: T) {
        match self.0.iter_mut().find(|known| known.id() == item.id()) {
            Some(known) => *known = item,
            None => self.0.push(item),
        }
    }

    /// What the admin API asks for: an item that is known gets the fields that are given, and any other is made.
    /// `kind` goes into an id that is not given, `now` into times that are not.
    pub(super) fn wanted(&self, kind: &str, given: &Map<String, Value>, now: &str) -> Result<T, String> {
        let text = |key: &str| given.get(key).and_then(Value::as_str);
        let id = text("id").map_or_else(|| api_id(kind, text("name").unwrap_or_default()), str::to_owned);
        let known = self.get(&id).and_then(|item| serde_json::to_value(item).ok());
        let mut fields = known.and_then(|value| value.as_object().cloned()).unwrap_or_default();
        fields.entry("created_at").or_insert_with(|| now.into());
        fields.insert("updated_at".to_owned(), now.into());
        fields.insert("id".to_owned(), id.into());
        fields.extend(given.clone());
        serde_json::from_value(Value::Object(fields)).map_err(|e| e.to_string())
    }
}

#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) segments: Shelf<Segment>,
    pub(super) campaigns: Shelf<Messaging>,
    pub(super) canvases: Shelf<Messaging>,
    pub(super) sent: Vec<Sent>,
}

/// An API identifier, shaped as Braze's are.
pub(super) fn api_id(kind: &str, name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("{kind} {name}")).into();
    let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Whether a text is shaped like an API identifier.
pub(super) fn is_api_id(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn given_fields_replace_and_the_others_stay() {
        let mut shelf = Shelf::<Segment>::default();
        let given = |value: Value| value.as_object().unwrap().clone();
        let made = shelf.wanted("segment", &given(json!({ "name": "A", "tags": ["t"] })), "then").unwrap();
        assert!(is_api_id(&made.id));
        shelf.put(made.clone());
        let renamed = shelf.wanted("segment", &given(json!({ "id": made.id, "name": "B" })), "now").unwrap();
        assert_eq!((&*renamed.name, &*renamed.created_at, &*renamed.updated_at), ("B", "then", "now"));
        assert_eq!(renamed.tags, ["t"]);
        shelf.put(renamed);
        assert_eq!(shelf.iter().count(), 1);
        assert!(shelf.wanted("segment", &given(json!({ "nom": "C" })), "now").is_err());
    }
}
