//! Segments, campaigns and Canvases: items that people create in Braze's dashboard and tests create through the
//! admin API. Pure.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// A segment. It filters on cohorts and attributes only, so its size follows membership.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BrazeSegment {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) archived: bool,
    pub(super) analytics_tracking_enabled: bool,
    pub(super) tags: Vec<String>,
    /// Text of the filters; derived from the filters if absent. Braze does not document the wording.
    pub(super) description: Option<String>,
    /// Description that a person wrote.
    pub(super) text_description: String,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    /// Included cohorts: their members are in the segment.
    pub(super) include: Vec<String>,
    /// Whether a user must be in all of `include` instead of in any.
    pub(super) all: bool,
    /// Excluded cohorts: their members are not in the segment.
    pub(super) exclude: Vec<String>,
    /// Sizes on earlier days, by date; other days have the current size.
    pub(super) sizes: BTreeMap<String, u64>,
}

impl Default for BrazeSegment {
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
pub(super) struct CampaignOrCanvas {
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
    /// Whether the API can trigger it.
    pub(super) is_api: bool,
    /// The target segment. No response of Braze exposes it.
    pub(super) segment_id: Option<String>,
}

impl Default for CampaignOrCanvas {
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

/// A triggered send of a campaign or Canvas, and the users it reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TriggeredSend {
    /// `campaign` or `canvas`.
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) dispatch_id: String,
    pub(super) recipients: Vec<Value>,
    /// Recipients that exist and are in the target, if the item is enabled.
    pub(super) reached: Vec<String>,
}

/// An item of the catalog, with an id.
pub(super) trait CatalogItem: Clone + Serialize + DeserializeOwned {
    fn id(&self) -> &str;
}

impl CatalogItem for BrazeSegment {
    fn id(&self) -> &str {
        &self.id
    }
}

impl CatalogItem for CampaignOrCanvas {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Items in order of creation.
#[derive(Debug)]
pub(super) struct CatalogList<T>(Vec<T>);

impl<T> Default for CatalogList<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: CatalogItem> CatalogList<T> {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.0.iter().find(|item| item.id() == id)
    }

    pub(super) fn put(&mut self, item: T) {
        match self.0.iter_mut().find(|existing| existing.id() == item.id()) {
            Some(existing) => *existing = item,
            None => self.0.push(item),
        }
    }

    /// Returns the item that the admin API should store: an existing item with the given fields replaced, or a
    /// new one. A missing id is derived from `kind` and the name; missing times are `now`.
    pub(super) fn merged_with(&self, kind: &str, given: &Map<String, Value>, now: &str) -> Result<T, String> {
        let text = |key: &str| given.get(key).and_then(Value::as_str);
        let id = text("id").map_or_else(|| api_id(kind, text("name").unwrap_or_default()), str::to_owned);
        let existing = self.get(&id).and_then(|item| serde_json::to_value(item).ok());
        let mut fields = existing.and_then(|value| value.as_object().cloned()).unwrap_or_default();
        fields.entry("created_at").or_insert_with(|| now.into());
        fields.insert("updated_at".to_owned(), now.into());
        fields.insert("id".to_owned(), id.into());
        fields.extend(given.clone());
        serde_json::from_value(Value::Object(fields)).map_err(|e| e.to_string())
    }
}

#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) segments: CatalogList<BrazeSegment>,
    pub(super) campaigns: CatalogList<CampaignOrCanvas>,
    pub(super) canvases: CatalogList<CampaignOrCanvas>,
    pub(super) sends: Vec<TriggeredSend>,
}

/// An API identifier in the form of Braze's.
pub(super) fn api_id(kind: &str, name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("{kind} {name}")).into();
    let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Whether a text has the form of an API identifier.
pub(super) fn is_api_id(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn given_fields_replace_and_other_fields_stay() {
        let mut list = CatalogList::<BrazeSegment>::default();
        let given = |value: Value| value.as_object().unwrap().clone();
        let created =
            list.merged_with("segment", &given(json!({ "name": "A", "tags": ["t"] })), "then").unwrap();
        assert!(is_api_id(&created.id));
        list.put(created.clone());
        let renamed =
            list.merged_with("segment", &given(json!({ "id": created.id, "name": "B" })), "now").unwrap();
        assert_eq!((&*renamed.name, &*renamed.created_at, &*renamed.updated_at), ("B", "then", "now"));
        assert_eq!(renamed.tags, ["t"]);
        list.put(renamed);
        assert_eq!(list.iter().count(), 1);
        assert!(list.merged_with("segment", &given(json!({ "nom": "C" })), "now").is_err());
    }
}
