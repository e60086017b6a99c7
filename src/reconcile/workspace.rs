//! Whether a connection's keys are those of the workspace that the state is about.
//!
//! The record says endpoint, partner and connection, which two workspaces of one company may share. What tells
//! them apart is the key that is sent with, of which the state remembers a fingerprint: see [`crate::state::Marks`].

use std::collections::BTreeMap;

use super::plan_error::PlanError;
use super::report::RunPlan;
use super::{ApplyResources, PlanInputs};
use crate::apply::ApplyStop;
use crate::config::Config;
use crate::connector::braze::{BrazeClient, BrazeKeyKind};
use crate::model::{ConnectionName, DeliveryMethod, Timestamp};
use crate::state::{KeyFingerprints, StateError, StateReader, StateWriter};

/// A connection by the name that it has, and by those that it had.
fn names<'a>(config: &'a Config, name: &'a ConnectionName) -> impl Iterator<Item = &'a ConnectionName> {
    let formerly = config.braze.get(name).map(|braze| braze.formerly.as_slice()).unwrap_or_default();
    std::iter::once(name).chain(formerly)
}

/// Why nothing may be sent to a connection in one way or the other.
pub(super) type WorkspaceMismatches = BTreeMap<(ConnectionName, DeliveryMethod), ApplyStop>;

/// Fails if the key fingerprints of a connection cannot be read: then nothing may be sent to it.
pub(super) fn readable(name: &ConnectionName, inputs: PlanInputs<'_>) -> Result<(), PlanError> {
    let found = inputs.state.marks(names(inputs.config, name));
    found.map(drop).map_err(|error| match error {
        StateError::Damaged { .. } => PlanError::Workspace(name.clone(), error),
        other => other.into(),
    })
}

/// Looks at the keys that a plan would be sent with.
pub(super) fn refusals(
    plan: &RunPlan,
    config: &Config,
    means: &ApplyResources,
) -> Result<WorkspaceMismatches, StateError> {
    let mut refusals = WorkspaceMismatches::new();
    for cohort in &plan.cohorts {
        let (name, delivery) = (&cohort.connection, cohort.delivery());
        let key = (name.clone(), delivery.clone());
        let Some(braze) = means.links.get(name).filter(|_| !refusals.contains_key(&key)) else { continue };
        let kinds = [Some(BrazeKeyKind::of(delivery)), cohort.triggers().then_some(BrazeKeyKind::Rest)];
        for kind in kinds.into_iter().flatten() {
            let halt = match refusal(config, name, (braze, kind), means.state.reader()) {
                // A damaged file stops this workspace and no other.
                Err(error) if error.is_of_one_file() => Some(error.into()),
                found => found?,
            };
            refusals.extend(halt.map(|halt| (key.clone(), halt)));
        }
    }
    Ok(refusals)
}

/// Nothing is known of a state that has never sent, or not since it remembers.
fn refusal(
    config: &Config,
    name: &ConnectionName,
    (braze, kind): (&BrazeClient, BrazeKeyKind),
    state: &StateReader,
) -> Result<Option<ApplyStop>, StateError> {
    let Some(marks) = state.marks(names(config, name))? else { return Ok(None) };
    let Some(mark) = braze.key_fingerprint(&marks.salt, kind) else { return Ok(None) };
    let is_other = marks.keys.get(kind.code()).is_some_and(|known| *known != mark);
    let (connection, key) = (name.to_string(), kind.name());
    Ok(is_other.then_some(ApplyStop::OtherWorkspace { connection, key }))
}

/// Remembers the key with which Braze has taken something, if none is remembered yet.
pub(super) fn adopt(
    config: &Config,
    name: &ConnectionName,
    (braze, kind): (&BrazeClient, BrazeKeyKind),
    state: &StateWriter,
    now: Timestamp,
) -> Result<(), StateError> {
    let known = state.reader().marks(names(config, name))?;
    if known.as_ref().is_some_and(|marks| marks.keys.contains_key(kind.code())) {
        return Ok(());
    }
    let mut marks = match known {
        Some(marks) => marks.next(now),
        None => KeyFingerprints::first(now)?,
    };
    let Some(mark) = braze.key_fingerprint(&marks.salt, kind) else { return Ok(()) };
    marks.keys.insert(kind.code().to_owned(), mark);
    state.adopt(name, &marks)
}
