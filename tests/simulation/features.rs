//! What a world uses of the program: its config, by the dice.

use std::fmt::Write as _;

use super::dice::Dice;
use super::judge::{FROM_MEMBERS, REMOVED_MAX};

/// The campaign of a cohort's trigger.
pub(super) fn campaign_of(cohort: &str) -> String {
    let number: u64 = cohort.bytes().map(u64::from).sum();
    format!("3aca937b-9bbc-4e42-9370-{number:012}")
}

/// The features that the config of a world uses.
#[derive(Clone, Debug)]
pub(super) struct Features {
    pub(super) cohorts: Vec<CohortFeatures>,
    pub(super) has_export: bool,
    /// Whether the state is in a bucket, and not in a folder.
    pub(super) is_in_bucket: bool,
    /// Whether files of the state are damaged.
    pub(super) is_damaged: bool,
}

/// The features of one cohort.
#[derive(Clone, Debug)]
pub(super) struct CohortFeatures {
    pub(super) id: String,
    pub(super) is_attribute: bool,
    pub(super) has_trigger: bool,
    pub(super) has_preflight: bool,
}

impl Features {
    pub(super) fn random(dice: &mut Dice) -> Self {
        let cohort = |id: &str, dice: &mut Dice| CohortFeatures {
            id: id.to_owned(),
            is_attribute: dice.once_in(3),
            has_trigger: dice.once_in(3),
            has_preflight: dice.once_in(3),
        };
        let number = dice.between(1, 3);
        let ids = ["carts", "trials", "vips"].into_iter().zip(0..number);
        Self {
            cohorts: ids.map(|(id, _)| cohort(id, dice)).collect(),
            has_export: dice.once_in(2),
            is_in_bucket: dice.once_in(2),
            is_damaged: dice.once_in(3),
        }
    }

    /// The config file.
    pub(super) fn config(&self) -> String {
        let mut text = "version: 1\nconnections:\n".to_owned();
        text += "  braze: { kind: braze, instance: sandbox }\n";
        if self.has_export {
            text += "  heap: { kind: heap, region: sandbox }\n";
        }
        text += "cohorts:\n";
        for cohort in &self.cohorts {
            cohort.write(&mut text);
        }
        if self.has_export {
            text += "exports:\n  - id: engagement\n    source: { kind: currents_storage, path: currents, \
                     incomplete_after: 0s }\n    to: heap\n";
        }
        text
    }
}

impl CohortFeatures {
    fn write(&self, text: &mut String) {
        let Self { id, .. } = self;
        let matches = match self.is_attribute {
            true => "{ external_id: user_id }",
            false => "{ external_id: user_id }, { device_id: device_id }",
        };
        writeln!(
            text,
            "  - id: {id}
    name: {id}
    to: braze
    source: {{ kind: file, path: '{id}/*.csv', format: csv }}
    match: [ {matches} ]
    guard: {{ max_added: 100000%, max_removed: {REMOVED_MAX}%, from_members: {FROM_MEMBERS} }}"
        )
        .unwrap();
        if self.is_attribute {
            text.push_str("    deliver: attribute\n");
        }
        if self.has_trigger {
            writeln!(text, "    on_enter: {{ campaign: {} }}", campaign_of(id)).unwrap();
        }
        if self.has_preflight {
            text.push_str("    preflight: { retry_unknown: 1h }\n");
        }
    }
}
