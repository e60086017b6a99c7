//! What is still to be triggered for people who entered a cohort or left it, and for whom something was lately.
//!
//! ```text
//! actions/<cohort>/000000000001.json   put-if-absent; the newest one counts
//! ```
//!
//! An entry is written here before anything is sent, and as under way before its request. What is found under way
//! afterwards has no answer: it may have been done, so it is never done again, and is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checks::CheckTime;
use super::versioned_json;
use super::{StateError, StateReader, StateWriter};
use crate::model::{CohortId, Identifier, IdentifierKind};

/// Which way somebody went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// Into the cohort.
    Enter,
    /// Out of it.
    Exit,
}

/// A person, by one identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutboxUser {
    kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    value: String,
}

impl OutboxUser {
    /// The person as the engine knows them.
    #[must_use]
    pub fn identifier(&self) -> Identifier<'_> {
        let kind = IdentifierKind::ALL.into_iter().find(|kind| kind.as_str() == self.kind);
        Identifier { kind: kind.unwrap_or(IdentifierKind::DeviceId), label: &self.label, value: &self.value }
    }
}

impl From<Identifier<'_>> for OutboxUser {
    fn from(Identifier { kind, label, value }: Identifier<'_>) -> Self {
        Self { kind: kind.as_str().to_owned(), label: label.to_owned(), value: value.to_owned() }
    }
}

/// Somebody for whom something is to be triggered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueTrigger {
    /// Which way they went.
    pub crossing: Transition,
    /// Who.
    pub who: OutboxUser,
    /// When that was found.
    pub at: CheckTime,
    /// What is told of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Properties that have a value which cannot be sent, because of the limits or its type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// Somebody for whom something was triggered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentTriggers {
    /// Which way they went.
    pub crossing: Transition,
    /// Who.
    pub who: OutboxUser,
    /// When it was triggered.
    pub at: CheckTime,
}

/// What is known of a cohort's actions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// The number of the file; 0 where there is none.
    #[serde(skip)]
    pub number: u64,
    /// What is still to be triggered, the oldest first.
    pub due: Vec<DueTrigger>,
    /// What was in a request that has no answer yet.
    pub under_way: Vec<DueTrigger>,
    /// For whom something was triggered lately.
    pub recent: Vec<RecentTriggers>,
}

fn folder_of(cohort: &CohortId) -> String {
    format!("actions/{cohort}")
}

impl StateReader {
    /// What is known of a cohort's actions.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn outbox(&self, cohort: &CohortId) -> Result<Outbox, StateError> {
        let found = versioned_json::newest::<Outbox>(&self.store, &folder_of(cohort))?;
        let number = found.as_ref().map_or(0, |(number, _)| *number);
        self.heads.check(&self.store, &folder_of(cohort), number)?;
        Ok(found.map(|(number, outbox)| Outbox { number, ..outbox }).unwrap_or_default())
    }
}

impl StateWriter {
    /// Writes down what is known of a cohort's actions now.
    ///
    /// # Errors
    /// When the disk does not take it, or somebody else has written meanwhile.
    pub fn put_outbox(&self, cohort: &CohortId, outbox: &mut Outbox) -> Result<(), StateError> {
        self.check_lease()?;
        versioned_json::put(&self.reader().store, &folder_of(cohort), outbox.number, outbox)?;
        outbox.number += 1;
        self.committed(&folder_of(cohort), outbox.number);
        Ok(())
    }

    /// Erases one user from the triggers of a cohort: those that are due and those of late. How many entries there
    /// were. Files of earlier versions are removed.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn erase_triggers(
        &self,
        cohort: &CohortId,
        is_theirs: &dyn Fn(&Identifier<'_>) -> bool,
    ) -> Result<u64, StateError> {
        let mut outbox = self.reader().outbox(cohort)?;
        let is_it = |who: &OutboxUser| is_theirs(&who.identifier());
        let count = |outbox: &Outbox| outbox.due.len() + outbox.under_way.len() + outbox.recent.len();
        let before = count(&outbox);
        outbox.due.retain(|due| !is_it(&due.who));
        outbox.under_way.retain(|due| !is_it(&due.who));
        outbox.recent.retain(|recent| !is_it(&recent.who));
        let erased = before - count(&outbox);
        if erased > 0 {
            self.put_outbox(cohort, &mut outbox)?;
        }
        versioned_json::remove_others(&self.reader().store, &folder_of(cohort), outbox.number)?;
        Ok(erased as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_who_they_were() {
        for kind in IdentifierKind::ALL {
            let label = if kind == IdentifierKind::Alias { "crm" } else { "" };
            let who = Identifier { kind, label, value: "7" };
            let text = serde_json::to_string(&OutboxUser::from(who)).unwrap();
            assert_eq!(serde_json::from_str::<OutboxUser>(&text).unwrap().identifier(), who, "{text}");
        }
    }
}
