//! The plan of a run as a value: what would be sent to each cohort, and which cohorts could not be planned.

use super::guard_changes::GuardedChanges;
use super::key_check::KeyUse;
use super::plan_error::{FailedKind, PlanError};
use super::policy::OrphanedCohort;
use super::preflight::PreflightPlan;
use super::read_source::{PushdownReport, SourceFindings};
use super::triggers::TriggersPlan;
use crate::config::{CohortConfig, Config};
use crate::model::{ChangeOp, CohortId, ConnectionName, DeliveryMethod, MatchTally};
use crate::plan::{Cost, GuardVerdict, PlanDigest, of_all};
use crate::source::{PackedList, RowRejects};
use crate::state::{Approval, Membership, RunFailure, SourceMark, Spool};

/// The plan of one cohort.
#[derive(Debug)]
pub struct CohortPlan {
    /// The id of the cohort.
    pub id: CohortId,
    /// The name that it will have in Braze.
    pub name: String,
    /// The connection that it is sent to.
    pub connection: ConnectionName,
    /// File and line of its declaration in the config.
    pub declared_at: String,
    /// The changes that may be sent, and the guard's violations.
    pub verdict: GuardVerdict<Spool>,
    /// How the rows of the source were matched; `None` without a source.
    pub matched: Option<MatchTally>,
    /// Whether the source was read. `false` if its files did not change.
    pub source_read: bool,
    /// The rejected rows.
    pub rejects: Option<RowRejects>,
    /// A few members that differ from another member only by case, packed.
    pub case_variants: PackedList,
    /// Lets the next run skip an unchanged source. Recorded once everything is sent.
    pub source_mark: Option<SourceMark>,
    /// The recorded membership that the plan starts from, with the changes that the config makes to it.
    pub membership: Membership,
    /// Whether the membership must be written even if nothing is sent.
    pub membership_changed: bool,
    /// Whether the cohort is under `removed:` and will be emptied.
    pub empties: bool,
    /// The approval that lifts a violation.
    pub approval: Option<Approval>,
    /// The triggers; `None` if the config has none for this cohort.
    pub triggers: Option<TriggersPlan>,
    /// How the source was compared; `None` without `diff: pushdown`.
    pub pushdown: Option<PushdownReport>,
    /// The users that Braze did not know; `None` without `preflight:`.
    pub preflight: Option<PreflightPlan>,
}

/// Which cohort a plan is for.
pub(super) struct CohortHeader {
    id: CohortId,
    name: String,
    connection: ConnectionName,
    declared_at: String,
}

impl CohortHeader {
    pub(super) fn declared(cohort: &CohortConfig) -> Self {
        Self {
            id: cohort.id.clone(),
            name: cohort.name.clone(),
            connection: cohort.to.clone(),
            declared_at: cohort.declared_at.clone(),
        }
    }

    /// A cohort with the name and the connection of its membership.
    pub(super) fn recorded(
        id: &CohortId,
        membership: &Membership,
        connection: ConnectionName,
        declared_at: String,
    ) -> Self {
        let name = membership.name.clone().unwrap_or_else(|| id.to_string());
        Self { id: id.clone(), name, connection, declared_at }
    }
}

impl CohortPlan {
    /// A plan without optional stages.
    pub(super) fn new(header: CohortHeader, changes: GuardedChanges, source: SourceFindings) -> Self {
        Self {
            id: header.id,
            name: header.name,
            connection: header.connection,
            declared_at: header.declared_at,
            verdict: changes.verdict,
            matched: source.matched,
            source_read: source.is_read,
            rejects: source.rejects,
            case_variants: source.case_variants,
            source_mark: source.mark,
            membership: changes.membership,
            membership_changed: changes.membership_changed,
            empties: false,
            approval: changes.approval,
            triggers: None,
            pushdown: source.pushdown,
            preflight: None,
        }
    }

    /// Whether there is nothing to send, to trigger or to record.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let has_triggers = self.triggers.as_ref().is_some_and(|triggers| !triggers.is_idle());
        let is_in_sync = self.verdict.approved.is_in_sync() && !self.membership_changed;
        is_in_sync && !has_triggers && !self.runs_preflight() && !self.rebuilds_mirror_table()
    }

    /// Whether the mirror table must be rebuilt.
    #[must_use]
    pub fn rebuilds_mirror_table(&self) -> bool {
        matches!(&self.pushdown, Some(PushdownReport::InFull { reason }) if !reason.is_permanent())
    }

    /// Whether members or triggers would be sent.
    #[must_use]
    pub fn sends(&self) -> bool {
        !self.verdict.approved.is_in_sync() || self.fires_triggers()
    }

    /// Whether unknown users are due for another check with Braze.
    #[must_use]
    pub fn runs_preflight(&self) -> bool {
        self.preflight.as_ref().is_some_and(|preflight| !preflight.is_idle())
    }

    /// Whether a trigger would fire.
    #[must_use]
    pub fn fires_triggers(&self) -> bool {
        self.triggers.as_ref().is_some_and(|triggers| triggers.users() > 0)
    }

    /// The keys that this plan uses. `None` if it sends no request.
    pub(super) fn key_use(&self) -> Option<KeyUse> {
        let uses_rest = self.fires_triggers() || self.preflight.is_some();
        (self.sends() || self.runs_preflight()).then(|| KeyUse {
            connection: self.connection.clone(),
            delivery: self.delivery().clone(),
            uses_rest,
        })
    }

    /// The delivery method of this plan.
    #[must_use]
    pub fn delivery(&self) -> &DeliveryMethod {
        &self.verdict.approved.plan().delivery
    }
}

/// A cohort that could not be planned.
#[derive(Debug)]
pub struct FailedCohort {
    /// Its id.
    pub id: CohortId,
    /// Why.
    pub error: PlanError,
    /// File and line of the key that the error is about, or else of its declaration; `None` if the config does not declare
    /// it.
    pub declared_at: Option<String>,
}

impl FailedCohort {
    /// The failure, for the record of the run.
    pub(super) fn failure(&self) -> RunFailure {
        RunFailure { reason: self.error.to_string(), needs_operator: self.error.needs_operator() }
    }
}

/// The plan of a run.
#[derive(Debug)]
pub struct RunPlan {
    /// The digest of the config.
    pub config: String,
    /// The planned cohorts, in the order of the config.
    pub cohorts: Vec<CohortPlan>,
    /// The cohorts that could not be planned.
    pub failed: Vec<FailedCohort>,
    /// The cohorts that wait for the first delivery of their source.
    pub waiting: Vec<FailedCohort>,
    /// The orphaned cohorts.
    pub orphaned: Vec<OrphanedCohort>,
}

impl RunPlan {
    pub(super) fn new(config: String) -> Self {
        Self { config, cohorts: Vec::new(), failed: Vec::new(), waiting: Vec::new(), orphaned: Vec::new() }
    }

    pub(super) fn add(&mut self, id: &CohortId, planned: Result<CohortPlan, PlanError>) {
        match planned {
            Ok(cohort) => {
                let (approved, violations) = (&cohort.verdict.approved, cohort.verdict.violations.len());
                let (adds, removes) = (approved.changes(ChangeOp::Add), approved.changes(ChangeOp::Remove));
                let (blocked_adds, blocked_removes) =
                    (approved.blocked(ChangeOp::Add), approved.blocked(ChangeOp::Remove));
                tracing::info!(cohort = %id, adds, removes, blocked_adds, blocked_removes, violations, "planned");
                self.cohorts.push(cohort);
            }
            Err(error) if error.is_waiting() => {
                tracing::info!(cohort = %id, "waiting: {error}");
                self.waiting.push(FailedCohort { id: id.clone(), error, declared_at: None });
            }
            Err(error) => {
                tracing::info!(cohort = %id, "not planned");
                self.failed.push(FailedCohort { id: id.clone(), error, declared_at: None });
            }
        }
    }

    /// Adds where the config declares the cohorts that could not be planned.
    pub(super) fn locate(&mut self, config: &Config) {
        for failed in self.failed.iter_mut().chain(&mut self.waiting) {
            let declared = config.cohorts.iter().find(|cohort| cohort.id == failed.id);
            failed.declared_at = declared.map(|cohort| failed.error.line_in(cohort).to_owned());
        }
    }

    /// The most urgent kind among the failed cohorts.
    #[must_use]
    pub fn failed_kind(&self) -> Option<FailedKind> {
        self.failed.iter().map(|failed| failed.error.kind()).min()
    }

    /// The digest of everything that would be sent.
    #[must_use]
    pub fn digest(&self) -> PlanDigest {
        let sent =
            self.cohorts.iter().map(|cohort| &cohort.verdict.approved).filter(|plan| !plan.is_in_sync());
        of_all(sent.map(crate::plan::ApprovedPlan::digest))
    }

    /// How many cohorts change in Braze.
    #[must_use]
    pub fn changed_cohorts(&self) -> u64 {
        self.cohorts.iter().filter(|cohort| !cohort.verdict.approved.is_in_sync()).count() as u64
    }

    /// Whether the guard blocks any change.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.cohorts.iter().any(|cohort| !cohort.verdict.violations.is_empty())
    }

    /// Whether nothing would be sent.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        !self.cohorts.iter().any(CohortPlan::sends)
    }

    /// Whether the run would send a request to this connection.
    #[must_use]
    pub fn sends_to(&self, connection: &ConnectionName) -> bool {
        let mut cohorts = self.cohorts.iter().filter(|cohort| cohort.connection == *connection);
        cohorts.any(|cohort| cohort.sends() || cohort.runs_preflight())
    }

    /// The cost of everything that would be sent.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let add = |sum: Cost, cohort: &CohortPlan| {
            let approved = &cohort.verdict.approved;
            sum.and(approved.cost(), approved.plan().requests_per_hour)
        };
        self.cohorts.iter().fold(Cost::default(), add)
    }
}
