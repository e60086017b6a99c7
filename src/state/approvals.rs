//! Approvals: an operator allows one plan of one cohort that the guard has blocked, by the plan's digest.
//!
//! ```text
//! approvals/<cohort>/<digest>.json
//! ```
//!
//! Approving needs no lease, because a server may hold it for months: approval files are only created and removed.
//! An approval is valid for one week, and only for the plan with this digest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::run_origin::Operator;
use super::store::{Store, StoreError};
use super::{Location, StateError, StateReader, StateWriter};
use super::{checked, format_number};
use crate::model::{CohortId, Timestamp, timestamp_text};

/// How long an approval is valid.
const VALIDITY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// One approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The cohort.
    pub cohort: CohortId,
    /// The digest of everything the plan would send.
    pub plan: String,
    /// When the plan was approved.
    pub approved_at: Timestamp,
    /// The operator who approved it.
    pub by: Operator,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

impl Approval {
    /// When the approval expires.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.approved_at.checked_add(VALIDITY).unwrap_or(Timestamp::MAX)
    }
}

/// The file format.
#[derive(Serialize, Deserialize)]
struct ApprovalJson {
    format: u64,
    cohort: String,
    plan: String,
    approved_at: String,
    #[serde(default, skip_serializing_if = "Operator::is_unknown")]
    by: Operator,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Writes approvals. It does not need the lease.
#[derive(Debug)]
pub struct Approvals(Store);

fn folder_of(cohort: &CohortId) -> String {
    format!("approvals/{cohort}")
}

fn path_of(cohort: &CohortId, plan: &str) -> String {
    format!("{}/{}.json", folder_of(cohort), plan.replace(':', "-"))
}

impl Approvals {
    /// Opens the approvals of a state.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn open(location: &Location) -> Result<Self, StateError> {
        Ok(Self(Store::open(location)?))
    }

    /// Writes an approval, replacing an existing one for the same plan.
    ///
    /// # Errors
    /// When the write fails.
    pub fn put(&self, approval: &Approval) -> Result<(), StateError> {
        let path = path_of(&approval.cohort, &approval.plan);
        let shape = ApprovalJson {
            format: format_number::SUPPORTED,
            cohort: approval.cohort.to_string(),
            plan: approval.plan.clone(),
            approved_at: timestamp_text(approval.approved_at),
            by: approval.by.clone(),
            reason: approval.reason.clone(),
        };
        self.0.remove(&path)?;
        if !checked::put_new(&self.0, &path, &shape)? {
            return Err(StoreError::exists(&self.0.at(&path)).into());
        }
        Ok(())
    }
}

impl StateReader {
    /// Returns the valid approvals of a cohort.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn approvals(&self, cohort: &CohortId, now: Timestamp) -> Result<Vec<Approval>, StateError> {
        let mut valid = Vec::new();
        for name in self.store.list(&folder_of(cohort))? {
            let Some(approval) = self.approval(cohort, &name)? else { continue };
            valid.extend(Some(approval).filter(|approval| now < approval.expires_at()));
        }
        Ok(valid)
    }

    fn approval(&self, cohort: &CohortId, name: &str) -> Result<Option<Approval>, StateError> {
        let file = format!("{}/{name}", folder_of(cohort));
        let shape: ApprovalJson = match checked::read(&self.store, &file) {
            Ok(Some(shape)) => shape,
            Ok(None) => return Ok(None),
            // A damaged file approves nothing.
            Err(error @ StateError::Damaged { .. }) => {
                tracing::warn!(%cohort, "ignored an approval: {error}");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let approved_at = shape.approved_at.parse().ok().filter(|_| shape.cohort == cohort.as_str());
        let ApprovalJson { plan, by, reason, .. } = shape;
        Ok(approved_at.map(|approved_at| Approval { cohort: cohort.clone(), plan, approved_at, by, reason }))
    }
}

impl StateWriter {
    /// Removes the approvals of a cohort, because its plan was applied.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_approvals(&self, cohort: &CohortId) -> Result<(), StateError> {
        for name in self.reader().store.list(&folder_of(cohort))? {
            self.reader().store.remove(&format!("{}/{name}", folder_of(cohort)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_good_for_a_week() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let (reader, approvals) =
            (StateReader { store: store.clone(), format: None, heads: Default::default() }, Approvals(store));
        let approved_at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let approval = Approval {
            cohort: CohortId::new("c").unwrap(),
            plan: "ab12".to_owned(),
            approved_at,
            by: Operator { user: Some("anna".to_owned()), ..Operator::default() },
            reason: Some("the campaign is over".to_owned()),
        };
        approvals.put(&approval).unwrap();
        approvals.put(&approval).unwrap();
        let at = |hours: u64| approved_at.checked_add(Duration::from_secs(hours * 3600)).unwrap();
        assert_eq!(reader.approvals(&approval.cohort, at(1)).unwrap(), std::slice::from_ref(&approval));
        assert_eq!(reader.approvals(&approval.cohort, at(24 * 8)).unwrap(), []);
        assert_eq!(reader.approvals(&CohortId::new("d").unwrap(), at(1)).unwrap(), []);
    }
}
