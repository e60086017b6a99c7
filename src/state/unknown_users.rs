//! Members whom Braze did not know when they were sent: it takes in nobody whom it does not know, and does not say so.
//!
//! ```text
//! unknown/<cohort>/000000000001.json   put-if-absent; the newest one counts
//! ```

use serde::{Deserialize, Serialize};

use super::checks::CheckTime;
use super::outbox::OutboxUser;
use super::versioned_json;
use super::{StateError, StateReader, StateWriter};
use crate::model::{CohortId, Identifier};

/// Somebody whom Braze did not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownUser {
    /// Who.
    pub who: OutboxUser,
    /// Since when.
    pub since: CheckTime,
    /// When Braze was asked last.
    pub asked: CheckTime,
    /// Braze knows them now: they are to be sent again.
    #[serde(default)]
    pub is_known: bool,
}

/// The members of a cohort whom Braze did not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownUsers {
    /// The number of the file; 0 where there is none.
    #[serde(skip)]
    pub number: u64,
    /// Them.
    pub people: Vec<UnknownUser>,
}

fn folder_of(cohort: &CohortId) -> String {
    format!("unknown/{cohort}")
}

impl StateReader {
    /// The members of a cohort whom Braze did not know.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn strangers(&self, cohort: &CohortId) -> Result<UnknownUsers, StateError> {
        let found = versioned_json::newest::<UnknownUsers>(&self.store, &folder_of(cohort))?;
        let number = found.as_ref().map_or(0, |(number, _)| *number);
        self.heads.check(&self.store, &folder_of(cohort), number)?;
        Ok(found.map(|(number, strangers)| UnknownUsers { number, ..strangers }).unwrap_or_default())
    }
}

impl StateWriter {
    /// Writes down whom Braze did not know.
    ///
    /// # Errors
    /// When the disk does not take it, or somebody else has written meanwhile.
    pub fn put_strangers(&self, cohort: &CohortId, strangers: &mut UnknownUsers) -> Result<(), StateError> {
        self.check_lease()?;
        versioned_json::put(&self.reader().store, &folder_of(cohort), strangers.number, strangers)?;
        strangers.number += 1;
        self.committed(&folder_of(cohort), strangers.number);
        Ok(())
    }

    /// Erases one user from this list of a cohort. How many entries there were. Files of earlier versions are removed.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn erase_unknown(
        &self,
        cohort: &CohortId,
        is_theirs: &dyn Fn(&Identifier<'_>) -> bool,
    ) -> Result<u64, StateError> {
        let mut strangers = self.reader().strangers(cohort)?;
        let before = strangers.people.len();
        strangers.people.retain(|stranger| !is_theirs(&stranger.who.identifier()));
        let erased = before - strangers.people.len();
        if erased > 0 {
            self.put_strangers(cohort, &mut strangers)?;
        }
        versioned_json::remove_others(&self.reader().store, &folder_of(cohort), strangers.number)?;
        Ok(erased as u64)
    }
}
