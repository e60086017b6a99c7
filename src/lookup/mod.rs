//! Look-up of users: their place in every cohort, by the state and, on request, by the sources.
//!
//! An identifier is looked up as every kind that it can be. The identity map adds the owner of a device, an alias or a
//! Braze id, and the devices and aliases of an owner. `verdict` turns the findings into one answer for each cohort.
//!
//! # Guarantees
//! It only reads. A part that cannot be read is an error of its cohort, and never the answer "not a member".

mod cohort_facts;
mod identifiers;
mod reject_search;
mod source_rows;
mod verdict;

use std::collections::BTreeMap;

use crate::config::CohortConfig;
use crate::model::CohortId;
use crate::source::RejectReason;
use crate::state::{RejectFile, StateError};

pub use cohort_facts::{
    CohortFacts, FoundAs, MissingProfile, PendingApproval, PendingTrigger, RecordedIdentifier,
};
pub use identifiers::{IdKind, KnownOwner, LookupInputs};
pub use reject_search::RejectedRow;
pub use source_rows::{SourceFinding, SourceRow, SourceRowOutcome};
pub use verdict::{Absence, Verdict, verdict};

use cohort_facts::{CohortBlock, SearchedCohort};
use identifiers::{AskedId, Subjects};

/// The answer for one identifier.
#[derive(Clone, Debug)]
pub struct UserReport {
    /// The identifier as it was asked for.
    pub identifier: String,
    /// Why no row of a source can match it.
    pub invalid: Option<RejectReason>,
    /// What the identity map says about it.
    pub owners: Vec<KnownOwner>,
    /// How many devices, aliases and Braze ids the identity map assigns to the user.
    pub handles: u64,
    /// The user in each cohort.
    pub cohorts: Vec<UserInCohort>,
}

/// A user in one cohort.
#[derive(Clone, Debug)]
pub struct UserInCohort {
    /// The cohort.
    pub cohort: CohortId,
    /// Whether the config declares it.
    pub is_declared: bool,
    /// The findings, or why the cohort cannot be read.
    pub facts: Result<CohortFacts, String>,
}

impl UserInCohort {
    /// Whether the state and, if it was asked for, the source could be read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.facts.as_ref().is_ok_and(|facts| !matches!(facts.source, Some(Err(_))))
    }
}

/// Looks up identifiers. The result has their order.
///
/// # Errors
/// When the identity map or the list of cohorts cannot be read. A cohort that cannot be read is reported in its place.
pub fn look_up(identifiers: &[String], inputs: LookupInputs<'_>) -> Result<Vec<UserReport>, StateError> {
    let subjects = Subjects::new(identifiers, inputs)?;
    let report = |(subject, handles): (&AskedId, u64)| UserReport {
        identifier: subject.text.clone(),
        invalid: subject.invalid,
        owners: subject.owners.clone(),
        handles,
        cohorts: Vec::new(),
    };
    let mut reports: Vec<UserReport> =
        subjects.all.iter().zip(subjects.handle_counts()).map(report).collect();
    let mut rejects = inputs.state.cohort_rejects()?;
    // Blocks explain an answer and do not change it, so without them the answer is still given.
    let outcomes = inputs.state.last_outcomes().map_err(|error| error.to_string());
    for (cohort, declared) in cohorts(inputs)? {
        let is_declared = inputs.config.cohort_ids().any(|id| *id == cohort);
        let block = match &outcomes {
            _ if !is_declared => Ok(CohortBlock::default()),
            Ok(outcomes) => Ok(outcomes.cohort(&cohort).map(CohortBlock::of).unwrap_or_default()),
            Err(error) => Err(error.clone()),
        };
        let files: Vec<RejectFile> = rejects.remove(&cohort).unwrap_or_default();
        let searched = SearchedCohort { id: &cohort, declared, files: &files, block };
        let found: Vec<Result<CohortFacts, String>> =
            match cohort_facts::of_cohort(searched, &subjects, inputs) {
                Ok(facts) => facts.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error.to_string()); reports.len()],
            };
        for (report, facts) in reports.iter_mut().zip(found) {
            let cohort = cohort.clone();
            report.cohorts.push(UserInCohort { cohort, is_declared, facts });
        }
    }
    Ok(reports)
}

/// The cohorts of the config in its order, then those in the state alone.
fn cohorts(inputs: LookupInputs<'_>) -> Result<Vec<(CohortId, Option<&CohortConfig>)>, StateError> {
    let declared: BTreeMap<&CohortId, &CohortConfig> =
        inputs.config.cohorts.iter().map(|cohort| (&cohort.id, cohort)).collect();
    let mut ids: Vec<CohortId> = inputs.config.cohorts.iter().map(|cohort| cohort.id.clone()).collect();
    ids.extend(inputs.state.cohorts()?.into_iter().filter(|id| !declared.contains_key(id)));
    ids.retain(|id| inputs.only.is_empty() || inputs.only.contains(id));
    Ok(ids.into_iter().map(|id| (id.clone(), declared.get(&id).copied())).collect())
}
