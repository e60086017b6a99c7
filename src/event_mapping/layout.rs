//! Layout of a schema's records: what each field becomes, computed once per schema.
//!
//! Properties are ordered here, so that a record without nested JSON is written without sorting.

use super::catalogue::{self, FieldRole};
use super::rules::{MappingRules, TypeRules};
use super::settings::IdentityFrom;

/// One field that becomes a property.
#[derive(Clone, Debug)]
pub(super) struct LayoutStep {
    /// Its index in the record.
    pub(super) at: usize,
    /// Its name over HTTP, which the rules use.
    pub(super) path: Box<str>,
    /// The key in Heap as JSON, with its colon.
    pub(super) key: Box<[u8]>,
    /// Whether the step before has the same key and takes precedence.
    pub(super) is_second: bool,
}

/// The indexes of fields with a role of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldPositions {
    pub(super) id: Option<usize>,
    pub(super) time: Option<usize>,
    pub(super) time_ms: Option<usize>,
    pub(super) external_user_id: Option<usize>,
    pub(super) user_id: Option<usize>,
    pub(super) device_id: Option<usize>,
    pub(super) orphaned_by_id: Option<usize>,
    pub(super) name: Option<usize>,
}

/// The fields of one writer's schema under one set of rules.
#[derive(Clone, Debug)]
pub struct EventLayout {
    pub(super) type_rules: TypeRules,
    pub(super) event_type: Box<str>,
    pub(super) positions: FieldPositions,
    pub(super) steps: Vec<LayoutStep>,
    /// Fields with nested properties, with their names over HTTP.
    pub(super) opened: Vec<(usize, Box<str>)>,
    /// Whether every property may serve as identity.
    pub(super) seeks_alias: bool,
    /// All fields, for records that the steps cannot write.
    pub(super) fields: Vec<(usize, Box<str>)>,
}

impl MappingRules {
    /// Computes the layout of a schema with these fields, in order.
    #[must_use]
    pub fn layout(&self, event_type: &str, fields: &[&str]) -> EventLayout {
        let type_rules = self.of_type(event_type);
        let index_of = |name: &str| fields.iter().position(|field| *field == name);
        let positions = FieldPositions {
            id: index_of("id"),
            time: index_of("time"),
            time_ms: index_of("time_ms"),
            external_user_id: index_of("external_user_id"),
            user_id: index_of("user_id"),
            device_id: index_of("device_id"),
            orphaned_by_id: index_of("orphaned_by_id"),
            name: index_of("name").filter(|_| type_rules.role == FieldRole::CustomEvent),
        };
        let is_property = |field: &str| !matches!(field, "id" | "time" | "time_ms" | "event_type");
        let fields: Vec<(usize, Box<str>)> = fields
            .iter()
            .enumerate()
            .filter(|(_, field)| is_property(field))
            .map(|(at, field)| (at, type_rules.role.path(field).into()))
            .collect();
        EventLayout {
            steps: self.steps(&fields, type_rules.is_profile),
            opened: fields.iter().filter(|(_, path)| self.opens(path)).cloned().collect(),
            seeks_alias: self.identity.iter().any(|from| matches!(from, IdentityFrom::Property(_))),
            positions,
            fields,
            event_type: event_type.into(),
            type_rules,
        }
    }

    fn opens(&self, path: &str) -> bool {
        catalogue::is_opened(path) && (self.may_keep(path) || self.seeks_below(path))
    }

    /// The properties that a record has without its nested JSON, in order.
    fn steps(&self, fields: &[(usize, Box<str>)], is_profile: bool) -> Vec<LayoutStep> {
        let mut steps = Vec::new();
        for (at, path) in fields.iter().filter(|(_, path)| !self.opens(path)) {
            let mut key = Vec::new();
            if self.key(path, is_profile, &mut key) {
                steps.push(LayoutStep { at: *at, path: path.clone(), key: key.into(), is_second: false });
            }
        }
        steps.sort_by(|a, b| (&a.key, &a.path).cmp(&(&b.key, &b.path)));
        for at in 1..steps.len() {
            steps[at].is_second = steps[at].key == steps[at - 1].key;
        }
        steps
    }
}

impl EventLayout {
    /// The event type of the layout.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Whether events of this type are sent to Heap.
    #[must_use]
    pub fn is_selected(&self) -> bool {
        self.type_rules.is_selected
    }

    /// Whether the type is in the catalogue.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.type_rules.is_known
    }
}
