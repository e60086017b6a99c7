//! Unknown users of a cohort: members who had no Braze profile when they were sent. Braze silently drops them.
//!
//! ```text
//! unknown_users/<cohort>/000000000001.json   versioned JSON
//! ```

use serde::{Deserialize, Serialize};

use super::checks::CheckTime;
use super::outbox::OutboxUser;
use super::versioned_json::Retention;
use super::{StateError, StateReader, StateWriter, entry};
use crate::model::{CohortId, Identifier};

/// A user without a Braze profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownUser {
    /// The user.
    pub user: OutboxUser,
    /// When the user was first found to be unknown.
    pub since: CheckTime,
    /// When Braze was last asked for the profile.
    pub checked_at: CheckTime,
    /// The profile exists now, so the user must be sent again.
    #[serde(default)]
    pub has_profile: bool,
}

/// The unknown users of a cohort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownUsers {
    /// The version number. 0: there is no file.
    #[serde(skip)]
    pub number: u64,
    /// The users.
    pub users: Vec<UnknownUser>,
}

fn entry_of(cohort: &CohortId) -> String {
    format!("unknown_users/{cohort}")
}

impl StateReader {
    /// Returns the unknown users of a cohort.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn unknown_users(&self, cohort: &CohortId) -> Result<UnknownUsers, StateError> {
        let found = self.newest(&entry_of(cohort), |list, number| Some(UnknownUsers { number, ..list }))?;
        Ok(found.unwrap_or_default())
    }
}

impl StateWriter {
    /// Writes the unknown users of a cohort.
    ///
    /// # Errors
    /// When the write fails, or another process has written since.
    pub fn put_unknown_users(&self, cohort: &CohortId, list: &mut UnknownUsers) -> Result<(), StateError> {
        self.commit_entry(&entry_of(cohort), list.number + 1, list, Retention::Newest(2))?;
        list.number += 1;
        Ok(())
    }

    /// Erases one user from this list and removes earlier versions. Returns how many entries were erased.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn erase_unknown(
        &self,
        cohort: &CohortId,
        is_theirs: &dyn Fn(&Identifier<'_>) -> bool,
    ) -> Result<u64, StateError> {
        let mut list = self.reader().unknown_users(cohort)?;
        let before = list.users.len();
        list.users.retain(|user| !is_theirs(&user.user.identifier()));
        let erased = before - list.users.len();
        if erased > 0 {
            self.put_unknown_users(cohort, &mut list)?;
        }
        entry::versions(&self.reader().store, &entry_of(cohort)).remove_before(list.number)?;
        Ok(erased as u64)
    }
}
