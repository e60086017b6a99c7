//! User profiles of the simulated Braze, with indexes by identifier. Pure.
//!
//! Source: Braze, "Create new user alias" (an alias without an external id creates a profile; an existing pair
//! is ignored), "Identify users" and "Merge users" (the profile that remains keeps its own values), "User
//! attributes object" (arrays are sets of at most 25 elements; null removes).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Elements of an array attribute. Braze does not document which end is truncated; here the newest elements are
/// dropped.
const ARRAY_LEN_MAX: usize = 25;

/// A user profile. One without any identifier was merged into another or deleted; it only keeps its index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserProfile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) external_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<Alias>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) device_ids: Vec<String>,
    /// Custom attributes and the standard ones, such as `email`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) attributes: Map<String, Value>,
}

/// A user alias in Braze's JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Alias {
    pub(super) alias_label: String,
    pub(super) alias_name: String,
}

/// Identifier of a profile in a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ProfileIdentifier {
    ExternalId(String),
    UserAlias(Alias),
    BrazeId(String),
    DeviceId(String),
    Email(String),
    Phone(String),
}

impl ProfileIdentifier {
    /// A profile that only has this identifier; `None` for identifiers that create none.
    pub(super) fn into_profile(self) -> Option<UserProfile> {
        let empty = UserProfile::default();
        match self {
            Self::ExternalId(id) => Some(UserProfile { external_id: Some(id), ..empty }),
            Self::UserAlias(alias) => Some(UserProfile { aliases: vec![alias], ..empty }),
            Self::DeviceId(device) => Some(UserProfile { device_ids: vec![device], ..empty }),
            Self::BrazeId(_) | Self::Email(_) | Self::Phone(_) => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Profiles {
    all: Vec<UserProfile>,
    by_external_id: HashMap<String, usize>,
    by_alias: HashMap<Alias, usize>,
    by_device: HashMap<String, usize>,
}

impl Profiles {
    pub(super) fn insert(&mut self, person: UserProfile) -> usize {
        let at = self.all.len();
        if let Some(id) = &person.external_id {
            self.by_external_id.insert(id.clone(), at);
        }
        self.by_alias.extend(person.aliases.iter().cloned().map(|alias| (alias, at)));
        self.by_device.extend(person.device_ids.iter().cloned().map(|device| (device, at)));
        self.all.push(person);
        at
    }

    pub(super) fn get(&self, at: usize) -> &UserProfile {
        &self.all[at]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &UserProfile> {
        self.all.iter()
    }

    /// Indexes of the matching profiles. An email or a phone can match several.
    pub(super) fn find(&self, identifier: &ProfileIdentifier) -> Vec<usize> {
        let with = |key: &str, wanted: &str| {
            let has = |(_, person): &(usize, &UserProfile)| {
                person.attributes.get(key).and_then(Value::as_str) == Some(wanted)
            };
            self.all.iter().enumerate().filter(has).map(|(at, _)| at).collect()
        };
        match identifier {
            ProfileIdentifier::ExternalId(id) => self.by_external_id.get(id).copied().into_iter().collect(),
            ProfileIdentifier::UserAlias(alias) => self.by_alias.get(alias).copied().into_iter().collect(),
            ProfileIdentifier::DeviceId(device) => self.by_device.get(device).copied().into_iter().collect(),
            ProfileIdentifier::BrazeId(id) => (0..self.all.len()).filter(|at| braze_id(*at) == *id).collect(),
            ProfileIdentifier::Email(email) => with("email", email),
            ProfileIdentifier::Phone(phone) => with("phone", phone),
        }
    }

    /// Index of the profile with this external id.
    pub(super) fn find_external_id(&self, external_id: &str) -> Option<usize> {
        self.by_external_id.get(external_id).copied()
    }

    /// Gives an anonymous or alias-only profile an external id that no profile has.
    pub(super) fn set_external_id(&mut self, at: usize, external_id: String) {
        self.all[at].external_id = Some(external_id.clone());
        self.by_external_id.insert(external_id, at);
    }

    /// Adds an alias, unless another profile has it.
    pub(super) fn add_alias(&mut self, at: usize, alias: Alias) {
        if !self.by_alias.contains_key(&alias) {
            self.all[at].aliases.push(alias.clone());
            self.by_alias.insert(alias, at);
        }
    }

    /// Moves a device to another profile. Returns whether its former profile has no identifier left.
    pub(super) fn move_device(&mut self, device: &str, from: usize, to: usize) -> bool {
        self.by_device.insert(device.to_owned(), to);
        self.all[to].device_ids.push(device.to_owned());
        self.all[from].device_ids.retain(|existing| existing != device);
        let left = &self.all[from];
        left.external_id.is_none() && left.aliases.is_empty() && left.device_ids.is_empty()
    }

    /// Merges one profile into another, which keeps its own values and gets the others.
    pub(super) fn merge(&mut self, source: usize, target: usize) {
        let person = std::mem::take(&mut self.all[source]);
        if let Some(id) = &person.external_id {
            self.by_external_id.remove(id);
        }
        for alias in &person.aliases {
            self.by_alias.insert(alias.clone(), target);
        }
        for device in &person.device_ids {
            self.by_device.insert(device.clone(), target);
        }
        let into = &mut self.all[target];
        into.aliases.extend(person.aliases);
        into.device_ids.extend(person.device_ids);
        for (key, value) in person.attributes {
            into.attributes.entry(key).or_insert(value);
        }
    }

    /// Deletes a profile.
    pub(super) fn delete(&mut self, at: usize) {
        let person = std::mem::take(&mut self.all[at]);
        if let Some(id) = &person.external_id {
            self.by_external_id.remove(id);
        }
        for alias in &person.aliases {
            self.by_alias.remove(alias);
        }
        for device in &person.device_ids {
            self.by_device.remove(device);
        }
    }

    /// Sets attributes as `/users/track` does.
    pub(super) fn set_attributes(&mut self, at: usize, attributes: &Map<String, Value>) {
        let attributes_now = &mut self.all[at].attributes;
        for (key, value) in attributes {
            let new = match value {
                Value::Null => {
                    attributes_now.remove(key);
                    continue;
                }
                Value::Object(change) if change.contains_key("add") || change.contains_key("remove") => {
                    let before =
                        attributes_now.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
                    Value::Array(update_array(before, change))
                }
                Value::Array(list) => list.iter().take(ARRAY_LEN_MAX).cloned().collect(),
                other => other.clone(),
            };
            attributes_now.insert(key.clone(), new);
        }
    }
}

/// The array after `add` and then `remove`. An element that is added again moves to the end.
fn update_array(mut list: Vec<Value>, change: &Map<String, Value>) -> Vec<Value> {
    let values = |key: &str| change.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for value in values("add") {
        list.retain(|existing| existing != value);
        list.push(value.clone());
    }
    list.retain(|existing| !values("remove").contains(existing));
    list.truncate(ARRAY_LEN_MAX);
    list
}

/// Braze's id of the profile at this index: 24 hex digits.
pub(super) fn braze_id(at: usize) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("profile {at}")).into();
    digest[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn array_attributes_are_sets_with_a_maximum_length() {
        let mut profiles = Profiles::default();
        let at = profiles.insert(UserProfile::default());
        profiles.set_attributes(at, &object(&json!({ "a": { "add": ["x", "y"] }, "b": true })));
        profiles.set_attributes(at, &object(&json!({ "a": { "add": ["x"], "remove": ["z"] }, "b": null })));
        assert_eq!(json!(profiles.get(at).attributes), json!({ "a": ["y", "x"] }));
        let many: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        profiles.set_attributes(at, &object(&json!({ "a": { "add": many } })));
        assert_eq!(profiles.get(at).attributes["a"].as_array().unwrap().len(), ARRAY_LEN_MAX);
    }

    #[test]
    fn a_merged_profile_is_found_by_the_identifiers_of_both() {
        let mut profiles = Profiles::default();
        let alias = Alias { alias_label: "crm".to_owned(), alias_name: "7".to_owned() };
        let aliased = UserProfile {
            aliases: vec![alias.clone()],
            attributes: object(&json!({ "a": 1, "b": 1 })),
            ..UserProfile::default()
        };
        let source = profiles.insert(aliased);
        let target = profiles.insert(UserProfile {
            external_id: Some("u".to_owned()),
            attributes: object(&json!({ "a": 2 })),
            ..UserProfile::default()
        });
        profiles.merge(source, target);
        assert_eq!(profiles.find(&ProfileIdentifier::UserAlias(alias)), [target]);
        assert_eq!(json!(profiles.get(target).attributes), json!({ "a": 2, "b": 1 }));
        assert_eq!(profiles.find(&ProfileIdentifier::BrazeId(braze_id(target))), [target]);
        profiles.delete(target);
        assert!(profiles.find(&ProfileIdentifier::ExternalId("u".to_owned())).is_empty());
    }
}
