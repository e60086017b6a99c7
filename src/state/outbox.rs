//! The outbox of a cohort: triggers to send for users who entered or left, and recent triggers for rate limits.
//!
//! ```text
//! triggers/<cohort>/000000000001.json   versioned JSON
//! ```
//!
//! A trigger is stored here before anything is sent, and marked as in flight before its request. A trigger that a later
//! run finds in flight has no answer. It may have been sent, so it is reported and never sent again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checks::CheckTime;
use super::versioned_json::Retention;
use super::{StateError, StateReader, StateWriter, entry};
use crate::model::{CohortId, Identifier, IdentifierKind};

/// Whether a user entered or left the cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// The user entered.
    Enter,
    /// The user left.
    Exit,
}

/// A user, by one identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutboxUser {
    kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    value: String,
}

impl OutboxUser {
    /// The user's identifier.
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

/// A trigger to send for one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueTrigger {
    /// Enter or exit.
    pub transition: Transition,
    /// The user.
    pub user: OutboxUser,
    /// When the transition was found.
    pub at: CheckTime,
    /// The trigger's properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Names of properties that are not sent, because of their type or size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
}

/// A trigger that was sent recently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentTriggers {
    /// Enter or exit.
    pub transition: Transition,
    /// The user.
    pub user: OutboxUser,
    /// When it was sent.
    pub at: CheckTime,
}

/// The triggers of a cohort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// The version number. 0: there is no file.
    #[serde(skip)]
    pub number: u64,
    /// Triggers to send, the oldest first.
    pub due: Vec<DueTrigger>,
    /// Triggers in a request that has no answer yet.
    pub in_flight: Vec<DueTrigger>,
    /// Triggers that were sent recently.
    pub recent: Vec<RecentTriggers>,
}

fn entry_of(cohort: &CohortId) -> String {
    format!("triggers/{cohort}")
}

impl StateReader {
    /// Returns the outbox of a cohort.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn outbox(&self, cohort: &CohortId) -> Result<Outbox, StateError> {
        let found = self.newest(&entry_of(cohort), |outbox, number| Some(Outbox { number, ..outbox }))?;
        Ok(found.unwrap_or_default())
    }
}

impl StateWriter {
    /// Writes the outbox of a cohort.
    ///
    /// # Errors
    /// When the write fails, or another process has written since.
    pub fn put_outbox(&self, cohort: &CohortId, outbox: &mut Outbox) -> Result<(), StateError> {
        self.commit_entry(&entry_of(cohort), outbox.number + 1, outbox, Retention::Newest(2))?;
        outbox.number += 1;
        Ok(())
    }

    /// Erases one user from the due and recent triggers of a cohort, and removes earlier versions. Returns how many
    /// entries were erased.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn erase_triggers(
        &self,
        cohort: &CohortId,
        is_theirs: &dyn Fn(&Identifier<'_>) -> bool,
    ) -> Result<u64, StateError> {
        let mut outbox = self.reader().outbox(cohort)?;
        let is_it = |user: &OutboxUser| is_theirs(&user.identifier());
        let count = |outbox: &Outbox| outbox.due.len() + outbox.in_flight.len() + outbox.recent.len();
        let before = count(&outbox);
        outbox.due.retain(|due| !is_it(&due.user));
        outbox.in_flight.retain(|due| !is_it(&due.user));
        outbox.recent.retain(|recent| !is_it(&recent.user));
        let erased = before - count(&outbox);
        if erased > 0 {
            self.put_outbox(cohort, &mut outbox)?;
        }
        entry::versions(&self.reader().store, &entry_of(cohort)).remove_before(outbox.number)?;
        Ok(erased as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_survives_serialization() {
        for kind in IdentifierKind::ALL {
            let label = if kind == IdentifierKind::Alias { "crm" } else { "" };
            let who = Identifier { kind, label, value: "7" };
            let text = serde_json::to_string(&OutboxUser::from(who)).unwrap();
            assert_eq!(serde_json::from_str::<OutboxUser>(&text).unwrap().identifier(), who, "{text}");
        }
    }
}
