//! The profiles that Braze's side knows, and by what each is found. Pure.
//!
//! Source: Braze, "Create new user alias" (an alias without an external id makes a profile; a known pair is
//! passed over), "Identify users" and "Merge users" (the profile that goes melts into the one that stays,
//! which keeps what it has), "User attributes object" (arrays are sets, of 25 elements at most; null removes).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Elements of an array attribute. What is over is cut off; at which end is not documented: the newest go.
const ARRAY_LEN_MAX: usize = 25;

/// A profile. One without any identifier has melted into another or was deleted; it only keeps its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
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

/// A user alias, as Braze writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Alias {
    pub(super) alias_label: String,
    pub(super) alias_name: String,
}

/// What names a profile in a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Who {
    ExternalId(String),
    UserAlias(Alias),
    BrazeId(String),
    DeviceId(String),
    Email(String),
    Phone(String),
}

#[derive(Debug, Default)]
pub(super) struct Profiles {
    all: Vec<Person>,
    by_external_id: HashMap<String, usize>,
    by_alias: HashMap<Alias, usize>,
    by_device: HashMap<String, usize>,
}

impl Profiles {
    pub(super) fn introduce(&mut self, person: Person) -> usize {
        let at = self.all.len();
        if let Some(id) = &person.external_id {
            self.by_external_id.insert(id.clone(), at);
        }
        self.by_alias.extend(person.aliases.iter().cloned().map(|alias| (alias, at)));
        self.by_device.extend(person.device_ids.iter().cloned().map(|device| (device, at)));
        self.all.push(person);
        at
    }

    pub(super) fn get(&self, at: usize) -> &Person {
        &self.all[at]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Person> {
        self.all.iter()
    }

    /// The places of the profiles that are named so. An email or a phone may be of several.
    pub(super) fn find(&self, who: &Who) -> Vec<usize> {
        let with = |key: &str, wanted: &str| {
            let has = |(_, person): &(usize, &Person)| {
                person.attributes.get(key).and_then(Value::as_str) == Some(wanted)
            };
            self.all.iter().enumerate().filter(has).map(|(at, _)| at).collect()
        };
        match who {
            Who::ExternalId(id) => self.by_external_id.get(id).copied().into_iter().collect(),
            Who::UserAlias(alias) => self.by_alias.get(alias).copied().into_iter().collect(),
            Who::DeviceId(device) => self.by_device.get(device).copied().into_iter().collect(),
            Who::BrazeId(id) => (0..self.all.len()).filter(|at| braze_id(*at) == *id).collect(),
            Who::Email(email) => with("email", email),
            Who::Phone(phone) => with("phone", phone),
        }
    }

    /// The profile with this external id.
    pub(super) fn known(&self, external_id: &str) -> Option<usize> {
        self.by_external_id.get(external_id).copied()
    }

    /// An anonymous or alias-only profile gets an external id that nobody has.
    pub(super) fn name(&mut self, at: usize, external_id: String) {
        self.all[at].external_id = Some(external_id.clone());
        self.by_external_id.insert(external_id, at);
    }

    /// A profile gets one more alias, unless somebody has it.
    pub(super) fn alias(&mut self, at: usize, alias: Alias) {
        if !self.by_alias.contains_key(&alias) {
            self.all[at].aliases.push(alias.clone());
            self.by_alias.insert(alias, at);
        }
    }

    /// A device moves to another profile. Says whether the one that had it is left without any identifier.
    pub(super) fn hand_over(&mut self, device: &str, from: usize, to: usize) -> bool {
        self.by_device.insert(device.to_owned(), to);
        self.all[to].device_ids.push(device.to_owned());
        self.all[from].device_ids.retain(|known| known != device);
        let left = &self.all[from];
        left.external_id.is_none() && left.aliases.is_empty() && left.device_ids.is_empty()
    }

    /// One profile melts into another, which keeps what it has and gets the rest.
    pub(super) fn merge(&mut self, gone: usize, kept: usize) {
        let person = std::mem::take(&mut self.all[gone]);
        if let Some(id) = &person.external_id {
            self.by_external_id.remove(id);
        }
        for alias in &person.aliases {
            self.by_alias.insert(alias.clone(), kept);
        }
        for device in &person.device_ids {
            self.by_device.insert(device.clone(), kept);
        }
        let into = &mut self.all[kept];
        into.aliases.extend(person.aliases);
        into.device_ids.extend(person.device_ids);
        for (key, value) in person.attributes {
            into.attributes.entry(key).or_insert(value);
        }
    }

    /// A profile goes.
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
    pub(super) fn describe(&mut self, at: usize, attributes: &Map<String, Value>) {
        let known = &mut self.all[at].attributes;
        for (key, value) in attributes {
            let new = match value {
                Value::Null => {
                    known.remove(key);
                    continue;
                }
                Value::Object(change) if change.contains_key("add") || change.contains_key("remove") => {
                    let before = known.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
                    Value::Array(changed(before, change))
                }
                Value::Array(list) => list.iter().take(ARRAY_LEN_MAX).cloned().collect(),
                other => other.clone(),
            };
            known.insert(key.clone(), new);
        }
    }
}

/// An array after an `add` and a `remove`, in this order. Whatever is added again moves to the end.
fn changed(mut list: Vec<Value>, change: &Map<String, Value>) -> Vec<Value> {
    let of = |key: &str| change.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for value in of("add") {
        list.retain(|known| known != value);
        list.push(value.clone());
    }
    list.retain(|known| !of("remove").contains(known));
    list.truncate(ARRAY_LEN_MAX);
    list
}

/// The id that Braze gives the profile at this place: 24 hex digits.
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
    fn arrays_are_sets_with_an_end() {
        let mut profiles = Profiles::default();
        let at = profiles.introduce(Person::default());
        profiles.describe(at, &object(&json!({ "a": { "add": ["x", "y"] }, "b": true })));
        profiles.describe(at, &object(&json!({ "a": { "add": ["x"], "remove": ["z"] }, "b": null })));
        assert_eq!(json!(profiles.get(at).attributes), json!({ "a": ["y", "x"] }));
        let many: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        profiles.describe(at, &object(&json!({ "a": { "add": many } })));
        assert_eq!(profiles.get(at).attributes["a"].as_array().unwrap().len(), ARRAY_LEN_MAX);
    }

    #[test]
    fn who_melts_is_found_as_the_other() {
        let mut profiles = Profiles::default();
        let alias = Alias { alias_label: "crm".to_owned(), alias_name: "7".to_owned() };
        let aliased = Person {
            aliases: vec![alias.clone()],
            attributes: object(&json!({ "a": 1, "b": 1 })),
            ..Person::default()
        };
        let gone = profiles.introduce(aliased);
        let kept = profiles.introduce(Person {
            external_id: Some("u".to_owned()),
            attributes: object(&json!({ "a": 2 })),
            ..Person::default()
        });
        profiles.merge(gone, kept);
        assert_eq!(profiles.find(&Who::UserAlias(alias)), [kept]);
        assert_eq!(json!(profiles.get(kept).attributes), json!({ "a": 2, "b": 1 }));
        assert_eq!(profiles.find(&Who::BrazeId(braze_id(kept))), [kept]);
        profiles.delete(kept);
        assert!(profiles.find(&Who::ExternalId("u".to_owned())).is_empty());
    }
}
