//! Request bodies of the cohort import and of `/users/track`. They contain keys, so a body is never logged.

use serde::Serialize;
use serde_json::{Value, json};

use super::keys::ImportKeys;
use crate::model::{ChangeOp, CohortId, DeliveryMethod, Identifier, IdentifierKind};

#[derive(Serialize)]
struct NameBody<'a> {
    partner_api_key: &'a str,
    client_secret: &'a str,
    cohort_id: &'a str,
    name: &'a str,
    created_at: &'a str,
}

#[derive(Serialize)]
struct ChangeBody<'a> {
    partner_api_key: &'a str,
    client_secret: &'a str,
    cohort_id: &'a str,
    cohort_changes: &'a [CohortChange<'a>],
}

/// All three arrays are always present, also when empty. Braze's documents contradict each other on the required ones,
/// and a partner's production client sends this form.
#[derive(Serialize, Default)]
struct CohortChange<'a> {
    user_ids: Vec<&'a str>,
    device_ids: Vec<&'a str>,
    aliases: Vec<AliasBody<'a>>,
    #[serde(skip_serializing_if = "is_false")]
    should_remove: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize)]
struct AliasBody<'a> {
    alias_name: &'a str,
    alias_label: &'a str,
}

/// The member at each index of the arrays of a request.
#[derive(Debug, Default)]
pub(super) struct ArrayLayout {
    user_ids: Vec<usize>,
    device_ids: Vec<usize>,
    aliases: Vec<usize>,
    /// The length of `attributes`, where each object has the index of its member.
    attributes: usize,
}

impl ArrayLayout {
    /// Members with an attribute in the request.
    pub(super) fn attributes(&self) -> usize {
        self.attributes
    }

    /// The member at an index of one of the arrays.
    pub(super) fn member(&self, array: &str, index: usize) -> Option<usize> {
        match array {
            "user_ids" => self.user_ids.get(index).copied(),
            "device_ids" => self.device_ids.get(index).copied(),
            "aliases" => self.aliases.get(index).copied(),
            "attributes" => (index < self.attributes).then_some(index),
            _ => None,
        }
    }
}

pub(super) fn name(keys: &ImportKeys, cohort: &CohortId, name: &str, created_at: &str) -> Vec<u8> {
    let body = NameBody {
        partner_api_key: keys.partner_api.expose(),
        client_secret: keys.data_import.expose(),
        cohort_id: cohort.as_str(),
        name,
        created_at,
    };
    encode(&body, 256)
}

pub(super) fn change(
    keys: &ImportKeys,
    cohort: &CohortId,
    op: ChangeOp,
    members: &[Identifier<'_>],
) -> (Vec<u8>, ArrayLayout) {
    let mut layout = ArrayLayout::default();
    let mut change = CohortChange { should_remove: op == ChangeOp::Remove, ..CohortChange::default() };
    for (index, member) in members.iter().enumerate() {
        match member.kind {
            IdentifierKind::ExternalId => {
                layout.user_ids.push(index);
                change.user_ids.push(member.value);
            }
            IdentifierKind::DeviceId => {
                layout.device_ids.push(index);
                change.device_ids.push(member.value);
            }
            IdentifierKind::Alias => {
                layout.aliases.push(index);
                change.aliases.push(AliasBody { alias_name: member.value, alias_label: member.label });
            }
        }
    }
    let body = ChangeBody {
        partner_api_key: keys.partner_api.expose(),
        client_secret: keys.data_import.expose(),
        cohort_id: cohort.as_str(),
        cohort_changes: &[change],
    };
    (encode(&body, 512 + 48 * members.len()), layout)
}

/// One attributes object for each member, for existing profiles only (Braze, "User attributes object").
pub(super) fn attributes(
    delivery: &DeliveryMethod,
    cohort: &CohortId,
    op: ChangeOp,
    members: &[Identifier<'_>],
) -> (Vec<u8>, ArrayLayout) {
    let (name, value) = match (delivery, op) {
        (DeliveryMethod::Array(name), ChangeOp::Add) => (name, json!({ "add": [cohort.as_str()] })),
        (DeliveryMethod::Array(name), ChangeOp::Remove) => (name, json!({ "remove": [cohort.as_str()] })),
        (DeliveryMethod::Boolean(name), op) => (name, Value::Bool(op == ChangeOp::Add)),
        (DeliveryMethod::CohortImport, _) => return (Vec::new(), ArrayLayout::default()),
    };
    let object = |member: &Identifier<'_>| {
        let (key, user) = match member.kind {
            IdentifierKind::ExternalId => ("external_id", json!(member.value)),
            IdentifierKind::Alias => {
                ("user_alias", json!({ "alias_label": member.label, "alias_name": member.value }))
            }
            // Attributes are never planned for device ids. Braze reports that this is no identifier.
            IdentifierKind::DeviceId => ("device_id", json!(member.value)),
        };
        json!({ key: user, "_update_existing_only": true, name.as_ref(): value })
    };
    let objects: Vec<Value> = members.iter().map(object).collect();
    let layout = ArrayLayout { attributes: objects.len(), ..ArrayLayout::default() };
    (encode(&json!({ "attributes": objects }), 160 * members.len()), layout)
}

/// An empty change of a cohort that does not exist.
pub(super) fn empty_change(keys: &ImportKeys) -> Vec<u8> {
    let body = ChangeBody {
        partner_api_key: keys.partner_api.expose(),
        client_secret: keys.data_import.expose(),
        cohort_id: "syncline_doctor",
        cohort_changes: &[],
    };
    encode(&body, 256)
}

fn encode(body: &impl Serialize, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    // Strings are serialized into memory, so this cannot fail.
    let _ = serde_json::to_writer(&mut bytes, body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_change_is_one_object_with_all_three_arrays() {
        let keys = ImportKeys {
            data_import: Secret::new("cs".to_owned()),
            partner_api: Secret::new("pk".to_owned()),
        };
        let id = |kind, label, value| Identifier { kind, label, value };
        let members = [
            id(IdentifierKind::DeviceId, "", "d\"1"),
            id(IdentifierKind::ExternalId, "", "u1"),
            id(IdentifierKind::Alias, "crm", "7"),
        ];
        let cohort = CohortId::new("c").unwrap();
        let (body, layout) = change(&keys, &cohort, ChangeOp::Remove, &members);
        let expected = r#"{"partner_api_key":"pk","client_secret":"cs","cohort_id":"c","cohort_changes":[{"user_ids":["u1"],"device_ids":["d\"1"],"aliases":[{"alias_name":"7","alias_label":"crm"}],"should_remove":true}]}"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        assert_eq!(layout.member("device_ids", 0), Some(0));
        assert_eq!(layout.member("aliases", 0), Some(2));
        assert_eq!(layout.member("user_ids", 1), None);
        let (body, _) = change(&keys, &cohort, ChangeOp::Add, &[]);
        assert!(
            String::from_utf8(body).unwrap().ends_with(r#"[{"user_ids":[],"device_ids":[],"aliases":[]}]}"#)
        );
    }

    #[test]
    fn an_attribute_is_written_to_existing_profiles_only() {
        let cohort = CohortId::new("c").unwrap();
        let members = [
            Identifier { kind: IdentifierKind::ExternalId, label: "", value: "u1" },
            Identifier { kind: IdentifierKind::Alias, label: "crm", value: "7" },
        ];
        let body = |delivery, op| {
            let (body, layout) = attributes(&delivery, &cohort, op, &members);
            assert_eq!((layout.member("attributes", 1), layout.member("attributes", 2)), (Some(1), None));
            serde_json::from_slice::<Value>(&body).unwrap()["attributes"].clone()
        };
        let expected = json!([
            { "external_id": "u1", "_update_existing_only": true, "a": { "add": ["c"] } },
            { "user_alias": { "alias_label": "crm", "alias_name": "7" }, "_update_existing_only": true, "a": { "add": ["c"] } },
        ]);
        assert_eq!(body(DeliveryMethod::Array("a".into()), ChangeOp::Add), expected);
        assert_eq!(
            body(DeliveryMethod::Array("a".into()), ChangeOp::Remove)[0]["a"],
            json!({ "remove": ["c"] })
        );
        assert_eq!(body(DeliveryMethod::Boolean("b".into()), ChangeOp::Add)[1]["b"], json!(true));
        assert_eq!(body(DeliveryMethod::Boolean("b".into()), ChangeOp::Remove)[1]["b"], json!(false));
    }
}
